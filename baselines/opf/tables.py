"""The answer of an optimal power flow as tables in engineering units: a row per step and thing.

Columns that end in `_ac` are of the AC power flow of the same setpoints, the others of the model.
Steps count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from feederguard.baselines.opf.check import values_of
from feederguard.models.arrays import FloatArray
from feederguard.models.network import Network
from feederguard.models.network.costs import cost_per_h
from feederguard.models.power_flow import PowerFlow


def bus_table(model: Any, flow: PowerFlow) -> pd.DataFrame:
    """Return step, bus, v_pu, v_pu_ac, angle_deg_ac, p_load_mw, q_load_mvar, p_gen_mw.

    p_gen_mw is the generation that is not dispatched.
    """
    periods = model.periods
    network: Network = periods.network
    w = values_of(model.w, periods.n_step, network.n_bus)
    return _table(
        periods.n_step,
        {"bus": network.bus_name},
        {
            "v_pu": np.sqrt(np.maximum(w, 0.0)),
            "v_pu_ac": np.abs(flow.voltage),
            "angle_deg_ac": np.degrees(np.angle(flow.voltage)),
            "p_load_mw": network.base_mva * periods.p_load,
            "q_load_mvar": network.base_mva * periods.q_load,
            "p_gen_mw": network.base_mva * periods.p_gen,
        },
    )


def branch_table(model: Any, flow: PowerFlow) -> pd.DataFrame:
    """Return step, branch, from_bus, to_bus, closed, powers, loss, current and loading.

    The columns of values are p_mw, q_mvar, p_mw_ac, q_mvar_ac, loss_kw_ac, current_a_ac and
    loading_percent_ac. Powers enter the from end. The current is that of the larger end, at the
    voltage level of the from side. Loading is of the current rating.
    """
    periods = model.periods
    network: Network = periods.network
    names = network.bus_name
    base = network.base_mva
    at_from, at_to = np.abs(flow.current_from), np.abs(flow.current_to)
    return _table(
        periods.n_step,
        {
            "branch": network.branch_name,
            "from_bus": [names[i] for i in network.from_bus],
            "to_bus": [names[i] for i in network.to_bus],
            "closed": network.closed.tolist(),
        },
        {
            "p_mw": base * values_of(model.P, periods.n_step, network.n_branch),
            "q_mvar": base * values_of(model.Q, periods.n_step, network.n_branch),
            "p_mw_ac": base * flow.s_from.real,
            "q_mvar_ac": base * flow.s_from.imag,
            "loss_kw_ac": 1e3 * base * (flow.s_from + flow.s_to).real,
            "current_a_ac": network.base_current_a * np.maximum(at_from, at_to),
            "loading_percent_ac": 100 * flow.loading,
        },
    )


def generator_table(model: Any) -> pd.DataFrame:
    """Return step, generator, kind, bus, p_mw, q_mvar, cost_per_h.

    kind "substation" is what the grid above supplies at a substation that no generator stands for.
    It is named by its bus, and its cost is NaN.
    """
    periods = model.periods
    network: Network = periods.network
    free = list(model.substation)
    at = [int(network.substation[s]) for s in free]
    n_step, base = periods.n_step, network.base_mva
    powers = []
    for own, drawn in ((model.p_gen, model.p_substation), (model.q_gen, model.q_substation)):
        from_grid = (
            values_of(drawn, n_step, len(network.substation))[:, free]
            if free
            else np.zeros((n_step, 0))
        )
        powers.append(base * np.hstack([values_of(own, n_step, network.n_gen), from_grid]))
    own_cost = cost_per_h(network, powers[0][:, : network.n_gen])
    cost = np.hstack([own_cost, np.full((n_step, len(free)), np.nan)])
    buses = [network.bus_name[i] for i in (*network.gen_bus.tolist(), *at)]
    return _table(
        n_step,
        {
            "generator": [*network.gen_name, *(network.bus_name[i] for i in at)],
            "kind": ["generator"] * network.n_gen + ["substation"] * len(free),
            "bus": buses,
        },
        {"p_mw": powers[0], "q_mvar": powers[1], "cost_per_h": cost},
    )


def battery_table(model: Any) -> pd.DataFrame:
    """Return step, battery, bus, p_charge_mw, p_discharge_mw, energy_mwh, soc.

    energy_mwh and soc, a fraction of the energy, are those at the end of the step.
    """
    periods = model.periods
    network, batteries = periods.network, periods.batteries
    shape = (periods.n_step, len(batteries))
    soc = values_of(model.soc, *shape)
    return _table(
        periods.n_step,
        {"battery": batteries.name, "bus": [network.bus_name[i] for i in batteries.bus]},
        {
            "p_charge_mw": network.base_mva * values_of(model.p_charge, *shape),
            "p_discharge_mw": network.base_mva * values_of(model.p_discharge, *shape),
            "energy_mwh": network.base_mva * batteries.energy * soc,
            "soc": soc,
        },
    )


def _table(
    n_step: int, labels: dict[str, Sequence[Any]], values: dict[str, FloatArray]
) -> pd.DataFrame:
    """Return the (T, n) arrays as columns, step by step, with the labels repeated."""
    n = len(next(iter(labels.values())))
    columns: dict[str, Any] = {"step": np.repeat(np.arange(n_step), n)}
    columns |= {name: list(label) * n_step for name, label in labels.items()}
    columns |= {name: np.asarray(array).reshape(-1) for name, array in values.items()}
    return pd.DataFrame(columns)
