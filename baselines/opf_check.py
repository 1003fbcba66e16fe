"""What the AC power flow says of an optimal power flow's setpoints.

Every step is run as a power flow of its own: demand less what local generation, generators and batteries feed, at every bus;
substations held at the voltage the model gave them. Where the model has voltage angles the flow starts from its state: in a
meshed network with generators there may be several solutions, and it is the model's that is to be confirmed. Then the
model's voltages are compared with the AC ones, and the limits of the network are read off the AC state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.battery import simultaneous_use
from feederguard.models.network import ComplexArray, FloatArray, Network
from feederguard.models.power_flow import PowerFlow, solve_power_flow

LIMIT_TOLERANCE_PU = 1e-5  # limits are held to this; Ipopt loosens bounds by 1e-8 and meets equations as closely


@dataclass(frozen=True, eq=False)
class OpfCheck:
    """The AC judgement over all steps. Figures are NaN, and limits not held, where a step has no AC solution."""

    converged: bool  # in every step
    v_difference_pu: float  # largest difference of a voltage magnitude between model and AC
    p_substation_difference_mw: float  # largest difference of what all substations feed into the branches
    mismatch_mva: float  # largest power mismatch of the AC solution itself
    v_excess_pu: float  # largest voltage outside its band, 0 inside; substations fed by the grid above are left out
    loading_max: float  # largest current over rating, of branches without a limit s_max
    power_loading_max: float  # largest apparent power over s_max
    angle_excess_rad: float  # largest angle difference outside its band, 0 inside
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
    v_excess = np.maximum(network.v_min - magnitude, magnitude - network.v_max)
    v_excess[:, _held_buses(network)] = -np.inf
    s = np.maximum(np.abs(flow.s_from), np.abs(flow.s_to))
    s_loading = s / np.where(network.s_max > 0, network.s_max, np.finfo(float).tiny)
    angle_excess = _angle_excess(network, flow)
    supplied = _supplied_mw(model) - _substation_mw(flow)
    figures = {
        "v_difference_pu": _largest(np.abs(np.sqrt(np.maximum(w, 0.0)) - magnitude)),
        "p_substation_difference_mw": _largest(np.abs(supplied)),
        "mismatch_mva": _largest(flow.mismatch_mva),
        "v_excess_pu": _largest(np.maximum(v_excess, 0.0)),
        "loading_max": _largest(np.where(np.isfinite(network.current_limit), flow.loading, 0.0)),
        "power_loading_max": _largest(s_loading),
        "angle_excess_rad": _largest(np.maximum(angle_excess, 0.0)),
    }
    held = bool(
        flow.converged.all()
        and figures["v_excess_pu"] <= LIMIT_TOLERANCE_PU
        and figures["angle_excess_rad"] <= LIMIT_TOLERANCE_PU
        and max(figures["loading_max"], figures["power_loading_max"]) <= 1 + LIMIT_TOLERANCE_PU
    )
    return OpfCheck(
        converged=bool(flow.converged.all()), **figures, limits_held=held,
        n_simultaneous=len(simultaneous_use(model)), loss_mwh=float(periods.step_h * flow.loss_mw.sum()), flow=flow,
    )  # fmt: skip


def values_of(component: Any, n_step: int, n: int) -> FloatArray:
    """Return a solved component indexed by (time, number) as an array, (n_step, n); 0 where it has no member."""
    array = np.zeros((n_step, n))
    for (t, k), member in component.items():
        array[t, k] = pyo.value(member)
    return array


def _held_buses(network: Network) -> list[int]:
    """Return the substations without a generator, whose voltage is not for the OPF to choose."""
    return [int(bus) for bus in network.substation if bus not in network.gen_bus]


def _run(model: Any, w: FloatArray) -> PowerFlow:
    """Return the AC states of all steps."""
    periods = model.periods
    network: Network = periods.network
    n_step = periods.n_step
    p, q = periods.p_load - periods.p_gen, periods.q_load - network.q_gen
    for part, generated in ((p, model.p_gen), (q, model.q_gen)):
        np.add.at(part.T, network.gen_bus, -values_of(generated, n_step, network.n_gen).T)
    batteries = periods.batteries
    stored = values_of(model.p_charge, n_step, len(batteries)) - values_of(model.p_discharge, n_step, len(batteries))
    np.add.at(p.T, batteries.bus, stored.T)

    angle = np.angle(network.v_substation)
    held = np.sqrt(w[:, network.substation]) * np.exp(1j * angle)
    groups = _alike(held)
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


def _alike(held: Any) -> list[np.ndarray[Any, Any]]:
    """Return the steps in groups of equal substation voltage, since a power flow's batch shares it."""
    _, group = np.unique(np.round(held, 12), axis=0, return_inverse=True)
    return [np.flatnonzero(group.ravel() == g) for g in range(int(group.max()) + 1)]


def _join(network: Network, parts: list[PowerFlow], rows: list[Any], p: FloatArray, q: FloatArray) -> PowerFlow:
    order = np.argsort(np.concatenate(rows))

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])[order]

    return PowerFlow(
        network, joined("voltage"), joined("series_current"), joined("converged"), joined("energised"),
        joined("iterations"), network.closed, p, q,
    )  # fmt: skip


def _supplied_mw(model: Any) -> FloatArray:
    """Return what the model feeds into the branches at all substations together, (T,)."""
    periods = model.periods
    buses = periods.network.substation.tolist()
    fed = [sum(pyo.value(model.p_injected[t, i]) for i in buses) for t in range(periods.n_step)]
    return np.asarray(periods.network.base_mva * np.array(fed, dtype=float))


def _substation_mw(flow: PowerFlow) -> FloatArray:
    """Return what the AC flow feeds into the branches at all substations together, (T,)."""
    network = flow.network
    at = network.substation
    bus_power = np.zeros(flow.voltage.shape)
    for end, power in ((network.from_bus, flow.s_from.real), (network.to_bus, flow.s_to.real)):
        np.add.at(bus_power.T, end, power.T)
    return np.asarray(network.base_mva * (bus_power + network.g_shunt * np.abs(flow.voltage) ** 2)[:, at].sum(axis=1))


def _angle_excess(network: Network, flow: PowerFlow) -> FloatArray:
    apart = np.angle(flow.voltage[:, network.from_bus] * np.conj(flow.voltage[:, network.to_bus]))
    excess = np.maximum(network.angle_min - apart, apart - network.angle_max)
    return np.where(network.closed, excess, -np.inf)


def _largest(values: Any) -> float:
    array = np.asarray(values)
    return float(array.max()) if array.size else 0.0
