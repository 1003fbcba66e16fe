"""The judge of voltage regulation: what days came to by the AC power flow.

Equation numbers are those of `simulate.py`; reward and band come from `rules.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.voltage_regulation.days import VoltageDays
from feederguard.models.voltage_regulation.demand import battery_demand, flow_of_days, net_demand
from feederguard.models.voltage_regulation.rules import step_rules

SAFE_TOLERANCE_PU = 1e-5  # of voltage magnitude


@dataclass(frozen=True, eq=False)
class VoltageOutcomes:
    """What the judge found of B days of T steps."""

    p_battery: FloatArray  # (B, T, n_bat) applied power, pu
    soc: FloatArray  # (B, T + 1, n_bat) before each step and at the end
    v: FloatArray  # (B, T, n_bus) voltage magnitude, pu; NaN where the flow failed
    v_idle: FloatArray  # (B, T, n_bus) the same with batteries idle
    converged: BoolArray  # (B, T)
    # (B,) steps with a bus outside its band by over SAFE_TOLERANCE_PU, or without solution
    n_violation_steps: IntArray
    # (B,) largest distance outside the band, 0 where none; inf with a step without solution
    worst_excess_pu: FloatArray
    regulation_mwh: FloatArray  # (B,) (1)
    loss_mwh: FloatArray  # (B,) lost in branches; NaN with a step without solution
    battery_loss_mwh: FloatArray  # (B,) lost in converting
    grid_mwh: FloatArray  # (B,) drawn from the grid above; NaN with a step without solution
    reward: FloatArray  # (B,) (3), summed over the day
    soc_short_mwh: FloatArray  # (B,) energy missing at the end of the day against what (2) asks for
    # Time spent in the method over B T: the decisions of a batch share it.
    seconds_per_decision: float

    def __len__(self) -> int:
        return len(self.reward)


def judge_days(
    network: Network,
    batteries: Batteries,
    days: VoltageDays,
    p: FloatArray,
    soc: FloatArray,
    v_idle: FloatArray,
    seconds: float,
) -> VoltageOutcomes:
    """Return the outcomes of days on which batteries applied p, (B, T, n_bat) pu.

    soc: (B, T + 1, n_bat) that p leads to. v_idle: (B, T, n_bus). seconds: spent per decision.
    """
    p_net, q_net = net_demand(network, days)
    v, loss, grid = flow_of_days(network, p_net + battery_demand(network, batteries, p), q_net)
    rules = step_rules(network)
    excess = rules.band_excess(v)
    mwh = network.base_mva * days.step_h
    to_heat = (1 - batteries.efficiency_charge) * np.maximum(p, 0.0)
    to_heat = to_heat + (1 / batteries.efficiency_discharge - 1) * np.maximum(-p, 0.0)
    wanted = batteries.soc_start if batteries.soc_end is None else batteries.soc_end
    missing = np.maximum(wanted - soc[:, -1], 0.0) * batteries.energy
    return VoltageOutcomes(
        p_battery=p,
        soc=soc,
        v=v,
        v_idle=v_idle,
        converged=np.asarray(np.isfinite(v).all(axis=-1)),
        n_violation_steps=(excess > SAFE_TOLERANCE_PU).sum(axis=1),
        worst_excess_pu=np.maximum(excess.max(axis=1), 0.0),
        regulation_mwh=mwh * np.abs(p).sum(axis=(1, 2)),
        loss_mwh=days.step_h * loss.sum(axis=1),
        battery_loss_mwh=mwh * to_heat.sum(axis=(1, 2)),
        grid_mwh=days.step_h * grid.sum(axis=1),
        reward=rules.reward(1e3 * network.base_mva * p, v).sum(axis=1),
        soc_short_mwh=network.base_mva * missing.sum(axis=1),
        seconds_per_decision=seconds,
    )
