"""What the AC power flow says of an optimal power flow's setpoints.

Every step is a power flow of its own: demand less what local generation, generators and batteries
feed, at every bus. Substations are held at the voltage that the model gave them. Where the model
has voltage angles, the flow starts from its state. A meshed network with generators may have
several solutions, and the model's is the one to confirm. The model's voltages are compared with the
AC ones, and the limits of the network are read off the AC state.

Where generators stand for the grid above, the AC flow says what they supply together at their
substation. The sum of their limits judges that. Any other generator gives what the model says,
within the bounds of its variable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import ComplexArray, FloatArray, IntArray
from feederguard.models.battery.netting import simultaneous_use
from feederguard.models.network import Network
from feederguard.models.network.pi_model import held_substations
from feederguard.models.power_flow import PowerFlow, solve_power_flow
from feederguard.models.voltage_regulation.rules import judged_buses, outside_band

LIMIT_TOLERANCE_PU = 1e-5  # limits are held to this; Ipopt loosens bounds by 1e-8


@dataclass(frozen=True, eq=False)
class OpfCheck:
    """The AC judgement over all steps; each figure is the largest over steps and places.

    Where a step has no AC solution, figures are NaN and limits are not held.
    """

    converged: bool  # in every step
    v_difference_pu: float  # difference of a voltage magnitude between model and AC
    p_substation_difference_mw: float  # of what all substations feed into the branches
    mismatch_mva: float  # power mismatch of the AC solution itself
    v_excess_pu: float  # voltage outside its band, 0 inside; substations held from above left out
    loading_max: float  # current over rating, of branches without a limit s_max
    power_loading_max: float  # apparent power over s_max
    angle_excess_rad: float  # angle difference outside its band, 0 inside
    # active supply outside the limits of a substation's grid generators, 0 inside
    generator_excess_mw: float
    generator_excess_mvar: float  # such reactive supply
    limits_held: bool  # all of these within LIMIT_TOLERANCE_PU
    n_simultaneous: int  # battery-steps that charge and discharge at once
    loss_mwh: float  # AC losses over all steps
    flow: PowerFlow  # (T, ...) the AC states


def check_opf(model: Any) -> OpfCheck:
    """Return the AC judgement of a solved model of `build_ac_opf` or `build_distflow_opf`."""
    periods = model.periods
    network: Network = periods.network
    w = values_of(model.w, periods.n_step, network.n_bus)
    flow = _run(model, w)
    magnitude = np.abs(flow.voltage)
    judged = judged_buses(network)
    v_excess = outside_band(magnitude[:, judged], network.v_min[judged], network.v_max[judged])
    s = np.maximum(np.abs(flow.s_from), np.abs(flow.s_to))
    s_loading = s / np.where(network.s_max > 0, network.s_max, np.finfo(float).tiny)
    angle_excess = _angle_excess(network, flow)
    difference = network.base_mva * (_fed_by_ac(flow) - _fed_by_model(model))
    p_excess, q_excess = _generator_excess(model, difference)
    figures = {
        "v_difference_pu": _largest(np.abs(np.sqrt(np.maximum(w, 0.0)) - magnitude)),
        "p_substation_difference_mw": _largest(np.abs(difference.real.sum(axis=1))),
        "mismatch_mva": _largest(flow.mismatch_mva),
        "v_excess_pu": _largest(np.maximum(v_excess, 0.0)),
        "loading_max": _largest(np.where(np.isfinite(network.current_limit), flow.loading, 0.0)),
        "power_loading_max": _largest(s_loading),
        "angle_excess_rad": _largest(np.maximum(angle_excess, 0.0)),
        "generator_excess_mw": _largest(np.maximum(p_excess, 0.0)),
        "generator_excess_mvar": _largest(np.maximum(q_excess, 0.0)),
    }
    held = bool(
        flow.converged.all()
        and figures["v_excess_pu"] <= LIMIT_TOLERANCE_PU
        and figures["angle_excess_rad"] <= LIMIT_TOLERANCE_PU
        and max(figures["loading_max"], figures["power_loading_max"]) <= 1 + LIMIT_TOLERANCE_PU
        and figures["generator_excess_mw"] <= LIMIT_TOLERANCE_PU * network.base_mva
        and figures["generator_excess_mvar"] <= LIMIT_TOLERANCE_PU * network.base_mva
    )
    return OpfCheck(
        converged=bool(flow.converged.all()),
        **figures,
        limits_held=held,
        n_simultaneous=len(simultaneous_use(model)),
        loss_mwh=float(periods.step_h * flow.loss_mw.sum()),
        flow=flow,
    )


def values_of(component: Any, n_step: int, n: int) -> FloatArray:
    """Return a solved component indexed by (time, number), (n_step, n).

    It is 0 where the component has no member.
    """
    array = np.zeros((n_step, n))
    for (t, k), member in component.items():
        array[t, k] = pyo.value(member)
    return array


def _run(model: Any, w: FloatArray) -> PowerFlow:
    """Return the AC states of all steps."""
    periods = model.periods
    network: Network = periods.network
    n_step = periods.n_step
    p, q = periods.p_load - periods.p_gen, periods.q_load - network.q_gen
    for part, generated in ((p, model.p_gen), (q, model.q_gen)):
        np.add.at(part.T, network.gen_bus, -values_of(generated, n_step, network.n_gen).T)
    batteries = periods.batteries
    stored = values_of(model.p_charge, n_step, len(batteries)) - values_of(
        model.p_discharge, n_step, len(batteries)
    )
    np.add.at(p.T, batteries.bus, stored.T)

    angle = np.angle(network.v_substation)
    held = np.sqrt(w[:, network.substation]) * np.exp(1j * angle)
    groups = _steps_of_equal_voltage(held)
    start = _state(model, w)
    parts = [
        solve_power_flow(
            network.with_changes(v_substation=held[rows[0]]),
            p[rows],
            q[rows],
            start=None if start is None else start[rows],
        )
        for rows in groups
    ]
    return _join(network, parts, groups, p, q)


def _state(model: Any, w: FloatArray) -> ComplexArray | None:
    """Return the model's complex voltages, (T, n_bus), or None where its form has no angles."""
    theta = model.find_component("theta")
    if theta is None:
        return None
    return np.asarray(np.sqrt(np.maximum(w, 0.0)) * np.exp(1j * values_of(theta, *w.shape)))


def _steps_of_equal_voltage(held: Any) -> list[np.ndarray[Any, Any]]:
    """Return the steps in groups of equal substation voltages, which a batch of flows shares."""
    _, group = np.unique(np.round(held, 12), axis=0, return_inverse=True)
    return [np.flatnonzero(group.ravel() == g) for g in range(int(group.max()) + 1)]


def _join(
    network: Network, parts: list[PowerFlow], rows: list[Any], p: FloatArray, q: FloatArray
) -> PowerFlow:
    """Return the flows of all groups as one, in the order of the steps."""
    order = np.argsort(np.concatenate(rows))

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return PowerFlow(
        network,
        joined("voltage"),
        joined("series_current"),
        joined("converged"),
        joined("energised"),
        joined("iterations"),
        network.closed,
        p,
        q,
    )


def _fed_by_model(model: Any) -> ComplexArray:
    """Return what the model feeds into the network at each substation, (T, n_substation) pu."""
    steps, buses = range(model.periods.n_step), model.periods.network.substation.tolist()
    p, q = (
        np.array([[pyo.value(injected[t, i]) for i in buses] for t in steps], dtype=float)
        for injected in (model.p_injected, model.q_injected)
    )
    return np.asarray(p + 1j * q)


def _fed_by_ac(flow: PowerFlow) -> ComplexArray:
    """Return what the AC flow feeds into the network at each substation, (T, n_substation) pu."""
    network = flow.network
    power = np.zeros(flow.voltage.shape, dtype=np.complex128)
    for end, entering in ((network.from_bus, flow.s_from), (network.to_bus, flow.s_to)):
        np.add.at(power.T, end, entering.T)
    power += np.conj(network.g_shunt + 1j * network.b_shunt) * np.abs(flow.voltage) ** 2
    return np.asarray(power[:, network.substation])


def _generator_excess(model: Any, difference: ComplexArray) -> tuple[FloatArray, FloatArray]:
    """Return how far the AC supply of grid generators is outside their limits, in MW and Mvar.

    Both are (T, number of substations with grid generators). difference: what the AC flow feeds at
    each substation less what the model does, (T, n_substation) MVA. Whatever else is at the bus
    gives what the model says, so the difference is theirs.
    """
    periods = model.periods
    network: Network = periods.network
    grid = np.flatnonzero(network.gen_is_grid)
    at = _summing(network.substation, network.gen_bus[grid])
    some = np.flatnonzero(~held_substations(network))
    shape = (periods.n_step, network.n_gen)
    p_limits = (np.broadcast_to(network.gen_p_min, shape), periods.gen_p_max)
    q_limits = (
        np.broadcast_to(network.gen_q_min, shape),
        np.broadcast_to(network.gen_q_max, shape),
    )
    excess = []
    for given, (low, high), beyond in (
        (model.p_gen, p_limits, difference.real),
        (model.q_gen, q_limits, difference.imag),
    ):
        own = network.base_mva * values_of(given, *shape)[:, grid] @ at
        least, most = (network.base_mva * _summed(limit[:, grid], at) for limit in (low, high))
        supply = own + beyond
        excess.append(np.maximum(least - supply, supply - most)[:, some])
    return excess[0], excess[1]


def _summing(substation: IntArray, gen_bus: IntArray) -> FloatArray:
    """Return the matrix that sums generators by substation, (n_gen, n_substation)."""
    return np.asarray((gen_bus[:, None] == substation).astype(float))


def _summed(limit: FloatArray, at: FloatArray) -> FloatArray:
    """Return limits summed by substation; infinite where one of them is."""
    endless = np.where(np.isinf(limit), np.sign(limit), 0.0) @ at
    total = np.where(np.isinf(limit), 0.0, limit) @ at
    return np.asarray(np.where(endless == 0, total, np.copysign(np.inf, endless)))


def _angle_excess(network: Network, flow: PowerFlow) -> FloatArray:
    """Return the angle differences outside their limits, (T, n_branch) rad."""
    apart = np.angle(flow.voltage[:, network.from_bus] * np.conj(flow.voltage[:, network.to_bus]))
    excess = np.maximum(network.angle_min - apart, apart - network.angle_max)
    return np.where(network.closed, excess, -np.inf)


def _largest(values: Any) -> float:
    array = np.asarray(values)
    return float(array.max()) if array.size else 0.0
