"""The rules of voltage regulation: reward and band of one step, a Pyomo model and what reads it.

Source: Hou et al., DF-SRL, JMPCE 13(1), 2025. Powers in kW, voltages in per unit. Battery k charges
with c_k or discharges with d_k; o_i is how far bus i lies outside its band.

    (1)  reward = -min  0.001 sum over k of (c_k + d_k) + 1000 sum over i of o_i
    (2)  v_i + o_i >= v_min_i
    (3)  v_i - o_i <= v_max_i,   o, c, d >= 0

The sum over k is the regulation power. The sum over i runs over the judged buses: all but
substations that the grid above holds. The least o_i is max(0, -(distance inside the band)), so the
reward is -0.001 sum |p_k| + sum over buses of min(0, 1000 (distance inside the band)).

`step_rules` compiles the model, and judge, environment, agents and safety layer take prices, buses
and band from there. The sums over batteries and buses are numpy's, not those of the compiled model:
another order of adding would change the last digits of what agents are trained on.
`tests/laws/test_voltage_reward.py` holds them against the Pyomo model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.compiled import CompiledModel, compile_model
from feederguard.models.equations.battery import terminal_power
from feederguard.models.network import Network
from feederguard.models.network.pi_model import held_substations
from feederguard.models.once_per_object import once_per_object

PRICE_PER_KW = 0.001
PRICE_PER_PU = 1000.0


def build_step_rules(network: Network, n_battery: int = 1) -> pyo.ConcreteModel:
    """Return (1)-(3) of one step as a linear program, unsolved.

    Sets: time (one step), battery, judged (buses). Variables: p_charge, p_discharge[t, k] in kW;
    v, outside[i] in pu. Constraints: low_limit (2), high_limit (3).
    """
    model = pyo.ConcreteModel(f"voltage rules of {network.name}")
    held = set(network.substation[held_substations(network)].tolist())
    model.time, model.battery = pyo.RangeSet(0, 0), pyo.RangeSet(0, n_battery - 1)
    model.judged = pyo.Set(initialize=[i for i in range(network.n_bus) if i not in held])
    model.p_charge = pyo.Var(model.time, model.battery, bounds=(0, None), doc="c in kW")
    model.p_discharge = pyo.Var(model.time, model.battery, bounds=(0, None), doc="d in kW")
    model.v = pyo.Var(model.judged, doc="voltage magnitude")
    model.outside = pyo.Var(model.judged, bounds=(0, None), doc="o, distance outside the band")
    low, high = network.v_min.tolist(), network.v_max.tolist()

    @model.Constraint(model.judged, doc="(2)")
    def low_limit(m: Any, i: int) -> Any:
        return m.v[i] + m.outside[i] >= low[i]

    @model.Constraint(model.judged, doc="(3)")
    def high_limit(m: Any, i: int) -> Any:
        return m.v[i] - m.outside[i] <= high[i]

    beyond = sum(model.outside[i] for i in model.judged)
    model.objective = pyo.Objective(
        expr=PRICE_PER_KW * terminal_power(model) + PRICE_PER_PU * beyond, doc="(1)"
    )
    return model


@dataclass(frozen=True, eq=False)
class StepRules:
    """The numbers of (1)-(3) for one feeder, read from the compiled model; m judged buses."""

    bus: IntArray  # (m,) judged buses, ascending
    v_min: FloatArray  # (m,) pu
    v_max: FloatArray  # (m,) pu
    price_per_kw: float  # of battery power
    price_per_pu: float  # of voltage outside the band

    def reward(self, p_kw: ArrayLike, v: ArrayLike) -> FloatArray:
        """Return (1), shape (...): p_kw (..., n_bat) in kW, v (..., n_bus) in pu.

        A voltage of NaN, where there is no AC solution, counts as zero.
        """
        magnitude = np.nan_to_num(np.asarray(v, dtype=float)[..., self.bus], nan=0.0)
        distance = -outside_band(magnitude, self.v_min, self.v_max)
        penalty = np.minimum(0.0, self.price_per_pu * distance).sum(axis=-1)
        power = np.abs(np.asarray(p_kw, dtype=float)).sum(axis=-1)
        return np.asarray(-self.price_per_kw * power + penalty)

    def bus_excess(self, v: FloatArray) -> FloatArray:
        """Return how far each judged bus lies outside its band, (..., m) pu; v (..., n_bus).

        It is below zero inside the band, and inf without an AC solution.
        """
        return _inf_for_nan(outside_band(v[..., self.bus], self.v_min, self.v_max))

    def band_excess(self, v: FloatArray) -> FloatArray:
        """Return the largest `bus_excess` of each item, (...) pu."""
        return _inf_for_nan(outside_band(v[..., self.bus], self.v_min, self.v_max).max(axis=-1))


@once_per_object
def step_rules(network: Network) -> StepRules:
    """Return the compiled rules of a feeder; each feeder's are compiled once."""
    model = build_step_rules(network)
    return _read(model, compile_model(model))


def regulation_reward(network: Network, p_kw: ArrayLike, v: ArrayLike) -> FloatArray:
    """Return the reward (1) of each item; arguments and shape as `StepRules.reward`."""
    return step_rules(network).reward(p_kw, v)


def band_excess(network: Network, v: FloatArray) -> FloatArray:
    """Return how far the worst judged bus lies outside its band, as `StepRules.band_excess`."""
    return step_rules(network).band_excess(v)


def judged_buses(network: Network) -> IntArray:
    """Return the buses whose voltage is judged, ascending."""
    return step_rules(network).bus


def outside_band(v: FloatArray, v_min: FloatArray, v_max: FloatArray) -> FloatArray:
    """Return how far each voltage lies outside its band, below zero inside; NaN stays NaN."""
    return np.asarray(np.maximum(v_min - v, v - v_max))


def _inf_for_nan(excess: FloatArray) -> FloatArray:
    return np.where(np.isnan(excess), np.inf, excess)


def _read(model: Any, compiled: CompiledModel) -> StepRules:
    """Return the prices and the band from the compiled model's coefficients."""
    m = len(model.judged)
    price = np.zeros(compiled.n_column)
    price[compiled.cost.column] = compiled.cost.value
    rows = dict(zip(compiled.limit_name, range(2 * m), strict=True))
    low = np.array([rows[limit.name] for limit in model.low_limit.values()], dtype=np.int64)
    high = np.array([rows[limit.name] for limit in model.high_limit.values()], dtype=np.int64)
    return StepRules(
        bus=np.array(list(model.judged), dtype=np.int64),
        v_min=compiled.lower[low],
        v_max=compiled.upper[high],
        price_per_kw=float(price[compiled.columns["p_charge"]][0]),
        price_per_pu=float(price[compiled.columns["outside"]][0]) if m else PRICE_PER_PU,
    )
