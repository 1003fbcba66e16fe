"""A `Network` written as a pandapower net of the same flow.

Bus i of the network is bus i of the net, and every element bears the label of the bus or branch it
stands for.

| Network | pandapower |
|---|---|
| substation | ext_grid |
| generator that stands for the grid above | that ext_grid, or a further one, controllable |
| any other generator | controllable sgen of no power |
| limits and cost of a generator | those of its ext_grid or sgen |
| p_load, q_load; p_gen, q_gen; g_shunt, b_shunt | load; sgen; shunt |
| branch of kind 'trafo', or with a tap or shift | trafo |
| tap and shunts of such a branch | vn_hv_kv; pfe_kw and i0_percent |
| coupler, or branch without impedance | bus-bus switch |
| any other branch | line of 1 km, since a Network has no lengths |
| device | switch, with columns remote, minutes and available; in a coupler, its bus-bus switch |
| open branch without devices | open switches at the ends that `open_end` says |
| branch out of service | out of service; a coupler is open and not available |
| rating | max_i_ka of a line, sn_mva of a trafo at its own voltage; without one df is infinite |

A line has the same shunts at both ends. A trafo in pandapower's T model has inductive shunts at
both ends or none. A branch with other shunts is written without them, and what they draw in its
normal state becomes a shunt at its buses. The flow stays the same, but when pandapower switches
that branch, its charging stays behind.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import numpy as np
import pandapower
from pandapower.auxiliary import pandapowerNet

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from feederguard.models.network.costs import lines_by_generator
from feederguard.models.network.fields import NetworkError, NetworkFields
from feederguard.models.network.pandapower.write_switches import bus_switches, write_switches
from feederguard.models.network.pi_model import branch_admittances

F_HZ = 50.0
# The impedance of a trafo is stated on its rating, so a rating of zero is written as this one.
LEAST_RATING_PU = 1e-9


def network_to_pandapower(network: NetworkFields) -> pandapowerNet:
    """Return the feeder as a pandapower net.

    `runpp(net, calculate_voltage_angles=True)` has the network's voltages.

    A closed branch of kind 'tie' becomes a line like any other; `paper_limit_mw`, `groups`, `s_max`
    and angle limits are not carried. Raises `NetworkError` for a branch without impedance that has
    a tap or a shift or joins two nominal voltages: pandapower has no ideal transformer.
    """
    ratio = (network.tap != 1) | (network.shift != 0)
    ideal = bus_switches(network)
    refused = np.flatnonzero(
        ideal & (ratio | (network.vn_kv[network.from_bus] != network.vn_kv[network.to_bus]))
    )
    if refused.size:
        raise NetworkError(
            f"{network.name}: branch {network.branch_name[refused[0]]!r} is a transformer without "
            "impedance, which pandapower does not have; give it a small x"
        )
    wound = ~ideal & (ratio | (np.array(network.kind) == "trafo"))
    even = (network.g_from == network.g_to) & (network.b_from == network.b_to)
    tee = _tee_model(network)
    kept = np.where(wound, tee.exact, even & ~ideal)

    net = copy.deepcopy(_empty_net())
    net.name, net.sn_mva = network.name, network.base_mva
    _write_buses(net, network, _moved_shunts(network, ~kept))
    _write_generators(net, network)
    _write_lines(net, network, np.flatnonzero(~wound & ~ideal), kept)
    _write_trafos(net, network, np.flatnonzero(wound), tee)
    write_switches(net, network, ideal, wound)
    net.line["in_service"] = network.in_service[~wound & ~ideal]
    net.trafo["in_service"] = network.in_service[wound]
    return net


@functools.cache
def _empty_net() -> pandapowerNet:
    # Copying its hundred tables takes a tenth of the time of making them.
    return pandapower.create_empty_network(f_hz=F_HZ)


def _moved_shunts(network: NetworkFields, moved: BoolArray) -> ComplexArray:
    """Return the shunts of some branches at each bus in the normal state, pu, (n_bus,)."""
    total = np.zeros(network.n_bus, dtype=np.complex128)
    at_ends = branch_admittances(network).at_ends(network.closed)
    for bus, y in zip((network.from_bus, network.to_bus), at_ends, strict=True):
        np.add.at(total, bus[moved], y[moved])
    return total


def _write_buses(net: pandapowerNet, network: NetworkFields, moved: ComplexArray) -> None:
    names = np.array(network.bus_name, dtype=object)
    base_mva = network.base_mva
    pandapower.create_buses(
        net,
        network.n_bus,
        network.vn_kv,
        name=names,
        min_vm_pu=network.v_min,
        max_vm_pu=network.v_max,
    )
    for bus, voltage in zip(network.substation, network.v_substation, strict=True):
        va_degree = float(np.angle(voltage, deg=True))
        pandapower.create_ext_grid(
            net, int(bus), vm_pu=abs(voltage), va_degree=va_degree, name=names[bus]
        )
    loads = np.flatnonzero((network.p_load != 0) | (network.q_load != 0))
    if loads.size:
        p_mw, q_mvar = network.p_load[loads] * base_mva, network.q_load[loads] * base_mva
        pandapower.create_loads(net, loads, p_mw=p_mw, q_mvar=q_mvar, name=names[loads])
        if (network.priority != 1).any():
            net.load["priority"] = network.priority[loads]
    units = np.flatnonzero((network.p_gen != 0) | (network.q_gen != 0))
    if units.size:
        p_mw, q_mvar = network.p_gen[units] * base_mva, network.q_gen[units] * base_mva
        pandapower.create_sgens(net, units, p_mw=p_mw, q_mvar=q_mvar, name=names[units])
    y = (network.g_shunt + 1j * network.b_shunt + moved) * base_mva
    shunts = np.flatnonzero(y)
    if shunts.size:
        vn_kv = network.vn_kv[shunts]
        pandapower.create_shunts(
            net,
            shunts,
            p_mw=y[shunts].real,
            q_mvar=-y[shunts].imag,
            vn_kv=vn_kv,
            name=names[shunts],
        )


def _write_generators(net: pandapowerNet, network: NetworkFields) -> None:
    base_mva, at_grid = network.base_mva, {int(bus): k for k, bus in enumerate(network.substation)}
    for g, bus in enumerate(network.gen_bus.tolist()):
        p_limits = {
            "min_p_mw": network.gen_p_min[g] * base_mva,
            "max_p_mw": network.gen_p_max[g] * base_mva,
        }
        q_limits = {
            "min_q_mvar": network.gen_q_min[g] * base_mva,
            "max_q_mvar": network.gen_q_max[g] * base_mva,
        }
        limits = {
            name: float(limit)
            for name, limit in (p_limits | q_limits).items()
            if np.isfinite(limit)
        }
        if network.gen_is_grid[g]:
            table, element = "ext_grid", _grid_element(net, network, at_grid, bus)
            for column, value in {
                "controllable": True,
                "name": network.gen_name[g],
                **limits,
            }.items():
                if column not in net.ext_grid:
                    net.ext_grid[column] = False if column == "controllable" else np.nan
                net.ext_grid.at[element, column] = value
        else:
            table = "sgen"
            element = pandapower.create_sgen(
                net,
                bus,
                p_mw=0.0,
                q_mvar=0.0,
                name=network.gen_name[g],
                controllable=True,
                **limits,
            )
        _write_cost(net, network, g, element, table)


def _write_cost(
    net: pandapowerNet, network: NetworkFields, g: int, element: int, table: str
) -> None:
    """Write the cost of a generator; a piecewise one is a pwl_cost, its constant a poly_cost."""
    c2, c1, c0 = network.gen_cost[g].tolist()
    lines = lines_by_generator(network).get(g)
    if lines is not None:
        slope, constant = lines.T
        bends = ((constant[:-1] - constant[1:]) / np.diff(slope)).tolist() or [0.0]
        low, high = (
            network.base_mva * limit[g] for limit in (network.gen_p_min, network.gen_p_max)
        )
        low = min(low, bends[0] - 1.0) if np.isfinite(low) else bends[0] - 1.0
        high = max(high, bends[-1] + 1.0) if np.isfinite(high) else bends[-1] + 1.0
        corners = [float(low), *(bends if len(lines) > 1 else []), float(high)]
        points = [
            [*piece, a] for *piece, a in zip(corners, corners[1:], slope.tolist(), strict=False)
        ]
        pandapower.create_pwl_cost(net, element, table, points)
        # pandapower's first line goes through the origin.
        c0 += float(constant[0])
    if lines is None or c2 or c1 or c0:
        pandapower.create_poly_cost(
            net, element, table, cp1_eur_per_mw=c1, cp0_eur=c0, cp2_eur_per_mw2=c2, check=False
        )


def _grid_element(
    net: pandapowerNet, network: NetworkFields, at_grid: dict[int, int], bus: int
) -> int:
    """Return the ext_grid at a substation, and for a further generator there a new one.

    An ext_grid that is used is taken out of `at_grid`.
    """
    if bus in at_grid:
        return at_grid.pop(bus)
    voltage = network.v_substation[network.substation.tolist().index(bus)]
    va_degree = float(np.angle(voltage, deg=True))
    return int(pandapower.create_ext_grid(net, bus, vm_pu=abs(voltage), va_degree=va_degree))


def _write_lines(
    net: pandapowerNet, network: NetworkFields, lines: IntArray, kept: BoolArray
) -> None:
    if not lines.size:
        return
    from_bus, to_bus = network.from_bus[lines], network.to_bus[lines]
    z_base_ohm = network.vn_kv[from_bus] ** 2 / network.base_mva
    g, b = (np.where(kept, 2 * y, 0)[lines] / z_base_ohm for y in (network.g_from, network.b_from))
    pandapower.create_lines_from_parameters(
        net,
        from_bus,
        to_bus,
        length_km=1.0,
        r_ohm_per_km=network.r[lines] * z_base_ohm,
        x_ohm_per_km=network.x[lines] * z_base_ohm,
        c_nf_per_km=1e9 * b / (2 * np.pi * F_HZ),
        g_us_per_km=1e6 * g,
        max_i_ka=network.rating[lines] * network.base_current_a[lines] / 1e3,
        name=[network.branch_name[k] for k in lines],
    )


def _write_trafos(
    net: pandapowerNet, network: NetworkFields, trafos: IntArray, tee: _TeeModel
) -> None:
    if not trafos.size:
        return
    hv_bus, lv_bus = network.from_bus[trafos], network.to_bus[trafos]
    rated = np.isfinite(network.rating[trafos])
    # pandapower rates a winding at its own voltage: see (2) of `branches.py`.
    s = np.where(rated, network.rating[trafos] * np.minimum(1.0, network.tap[trafos]), 1.0)
    s = np.maximum(s, LEAST_RATING_PU)
    z, y = tee.z[trafos], tee.y[trafos]
    pandapower.create_transformers_from_parameters(
        net,
        hv_bus,
        lv_bus,
        sn_mva=s * network.base_mva,
        vn_hv_kv=network.vn_kv[hv_bus] * network.tap[trafos],
        vn_lv_kv=network.vn_kv[lv_bus],
        vkr_percent=100 * s * z.real,
        vk_percent=100 * s * np.abs(z) * np.where(z.imag < 0, -1, 1),
        pfe_kw=1e3 * network.base_mva * y.real,
        i0_percent=100 * np.abs(y) / s,
        shift_degree=np.rad2deg(network.shift[trafos]),
        df=np.where(rated, 1.0, np.inf),
        name=[network.branch_name[k] for k in trafos],
        leakage_resistance_ratio_hv=tee.r_share[trafos],
        leakage_reactance_ratio_hv=tee.x_share[trafos],
    )


@dataclass(frozen=True)
class _TeeModel:
    """pandapower's T model of every branch: `z` in series, `y` to ground from a point inside it."""

    z: ComplexArray  # (n_branch,) pu
    y: ComplexArray  # (n_branch,) pu, 0 where it is not exact
    r_share: FloatArray  # (n_branch,) of the resistance before that point, seen from the from end
    x_share: FloatArray  # (n_branch,) of the reactance before that point
    exact: BoolArray  # (n_branch,) the T has the branch's admittances, shunts included


def _tee_model(network: NetworkFields) -> _TeeModel:
    """Return the T of every branch, or its series impedance alone where no T is exact.

    By the delta-star transformation, with z between the ends and y_from, y_to to ground, the T has
    y = z y_from y_to + y_from + y_to and, before and behind it, z_from = z y_to / y and z_to = z
    y_from / y.
    """
    y_from, y_to, z = (
        network.g_from + 1j * network.b_from,
        network.g_to + 1j * network.b_to,
        network.z,
    )
    y = z * y_from * y_to + y_from + y_to
    divisor = np.where(y == 0, 1, y)
    z_from, z_to = (
        np.where(y == 0, z / 2, z * y_to / divisor),
        np.where(y == 0, z / 2, z * y_from / divisor),
    )
    z_tee = z_from + z_to
    r_share, x_share = _share(z_from.real, z_tee.real), _share(z_from.imag, z_tee.imag)

    # What pandapower makes of these numbers: no capacitive y, and shares of the total r and x.
    y = y.real + 1j * np.minimum(y.imag, 0)
    z_from = r_share * z_tee.real + 1j * x_share * z_tee.imag
    z_to = z_tee - z_from
    z_delta = z_from * z_to * y + z_tee
    safe = np.where(z_delta == 0, 1, z_delta)
    exact = np.isclose(z_delta, z, rtol=1e-10, atol=0) & ((y == 0) | (z_from != 0) & (z_to != 0))
    scale = np.abs(y_from) + np.abs(y_to)
    exact &= (np.abs(z_to * y / safe - y_from) <= 1e-10 * scale) & (
        np.abs(z_from * y / safe - y_to) <= 1e-10 * scale
    )
    half = np.full(network.n_branch, 0.5)
    return _TeeModel(
        z=np.where(exact, z_tee, z),
        y=np.where(exact, y, 0),
        r_share=np.where(exact, r_share, half),
        x_share=np.where(exact, x_share, half),
        exact=exact,
    )


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.asarray(np.divide(part, whole, out=np.full(len(part), 0.5), where=whole != 0))
