"""Least load shedding of a given topology with the full AC equations.

For fixed switches the cost of a load transfer grows with the total shed power alone, so this
problem is what remains of it. Per unit; polar voltages v, theta; branch b from i to j behind the
ratio t_b at angle shift_b, series admittance y_b = 1 / z_b, d_b = theta_i - theta_j - shift_b; s_i
the shed fraction of bus i, k_i the share that stays, by the law of `shedding.py`, c_i the
curtailed fraction of its generation g_i, w_i its priority.

    (1)  min  sum of w_i p_i s_i + CURTAIL_WEIGHT sum of g_i c_i
    (2)  power into all branches and shunts at i = g_i (1 - c_i) - p_i k_i, and reactive: -q_i k_i,
         at energised buses
    (3)  v_min <= v_i <= v_max
    (4)  |P_b| <= P_limit at both ends (paper setting), |J_b|^2 <= I_rating^2 (radial setting),
         as in `reconfiguration.py`

J_b is the current at either end, the branch's own charging included. Branch states, demand and what
is energised are data held in fixed variables, so one
model serves every scenario and topology (see `PreparedNlp`). Ipopt's optimum is local.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.load_transfer.rules import CURTAIL_WEIGHT, add_limits, current_limit_pu
from feederguard.models.load_transfer.scenario import Scenarios
from feederguard.models.load_transfer.setting import Setting, resolve_setting, voltage_band
from feederguard.models.load_transfer.shedding import can_shed, kept
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.pi_model import branch_admittances, has_shunts
from feederguard.models.solver.ipopt import PreparedNlp

DATA = ("y", "live", "sheds", "p_load", "q_load", "p_gen")
# A branch of no impedance has no admittance; at this one it drops no voltage worth counting.
LEAST_IMPEDANCE_PU = 1e-6


@dataclass(frozen=True, eq=False)
class SheddingOptimum:
    """The least shedding of one topology, or why there is none."""

    found: bool
    reason: str
    shed: FloatArray  # (n_bus,) fractions, dark buses 0
    curtail: FloatArray  # (n_bus,) fractions of generation, dark buses 0


def build_transfer_opf(
    network: Network, setting: str | Setting, curtails: bool = False
) -> pyo.ConcreteModel:
    """Return the NLP (1)-(4), unsolved, with the variables of DATA fixed.

    Other variables: v, theta, s, and c, which is 0 unless `curtails`. Raises as `resolve_setting`.
    """
    rules = resolve_setting(network, setting)
    model = pyo.ConcreteModel(f"least shedding on {network.name}")
    model.bus, model.branch = (
        pyo.RangeSet(0, network.n_bus - 1),
        pyo.RangeSet(0, network.n_branch - 1),
    )
    _add_data(model, network)
    band = voltage_band(network, rules)
    low, high = band.low.tolist(), band.high.tolist()
    model.v = pyo.Var(
        model.bus,
        bounds=lambda m, i: (low[i], high[i]),
        initialize=lambda m, i: min(max(1.0, low[i]), high[i]),
    )
    rest = network.no_load_angle.tolist()
    model.theta = pyo.Var(
        model.bus,
        bounds=lambda m, i: (rest[i] - np.pi / 2, rest[i] + np.pi / 2),
        initialize=dict(enumerate(rest)),
    )
    model.s = pyo.Var(model.bus, bounds=(0, 1), initialize=0.1, doc="shed fraction")
    model.c = pyo.Var(model.bus, bounds=(0, 1), initialize=0.0, doc="curtailed fraction")
    if not curtails:
        model.c.fix()
    model.kept = pyo.Expression(
        model.bus, rule=lambda m, i: kept(1.0, m.sheds[i], m.s[i]), doc="(2) of `shedding.py`"
    )
    for bus, v in zip(network.substation.tolist(), network.v_substation.tolist(), strict=True):
        model.v[bus].setlb(None)
        model.v[bus].setub(None)
        model.v[bus].fix(abs(v))
        model.theta[bus].fix(float(np.angle(v)))
    _add_flows(model, network)
    _add_balance(model, network)
    iron = branch_admittances(network).closed[:, 0].real.tolist()
    start = network.from_bus.tolist()
    add_limits(model, network, rules, lambda m, b: m.P[b] + iron[b] * m.y[b] * m.v[start[b]] ** 2)
    if rules.active_limit_mw is None:
        _limit_end_currents(model, network, current_limit_pu(network, rules))
    # (3) stands as bounds of v, which an interior-point method keeps better
    model.voltage_limit.deactivate()
    model.objective = pyo.Objective(
        expr=sum(
            model.live[i]
            * (
                float(network.priority[i]) * model.p_load[i] * model.s[i]
                + (CURTAIL_WEIGHT * model.p_gen[i] * model.c[i] if curtails else 0.0)
            )
            for i in model.bus
        ),
        doc="(1)",
    )
    return model


class LeastSheddingSolver:
    """Solves (1)-(4) for many scenarios and topologies of one network and setting.

    The Pyomo model is read once.
    """

    def __init__(self, network: Network, setting: str | Setting) -> None:
        self.network = network
        self.setting = setting
        model = build_transfer_opf(network, setting)
        self._prepared = {False: PreparedNlp(model, inputs=DATA)}

    def _nlp(self, curtails: bool) -> PreparedNlp:
        if curtails not in self._prepared:
            model = build_transfer_opf(self.network, self.setting, curtails)
            self._prepared[curtails] = PreparedNlp(model, inputs=DATA)
        return self._prepared[curtails]

    def solve(
        self, scenario: Scenarios, closed: BoolArray, time_limit_s: float = 10.0
    ) -> SheddingOptimum:
        """Return the least shedding of one scenario with these branches closed, (n_branch,).

        scenario: a batch of one. Raises ValueError for any other batch.
        """
        if len(scenario) != 1:
            raise ValueError(
                f"least shedding takes one scenario, got {len(scenario)}; pass scenarios[k : k + 1]"
            )
        live = energised_buses(self.network, closed)
        sheds = can_shed(scenario.p_load[0])
        data = {
            "y": closed.astype(float),
            "live": live.astype(float),
            "sheds": sheds.astype(float),
            "p_load": scenario.p_load[0],
            "q_load": scenario.q_load[0],
            "p_gen": scenario.p_gen[0],
        }
        makes = scenario.p_gen[0] > 0
        nlp = self._nlp(bool(makes.any()))
        result = nlp.solve(time_limit_s=time_limit_s, **data)
        if not result.converged:
            # The state with all shed and curtailed is feasible most often, and a better start then.
            nearly = np.full(self.network.n_bus, 0.99)
            start = nlp.start(s=nearly, c=nearly) if makes.any() else nlp.start(s=nearly)
            result = nlp.solve(time_limit_s=time_limit_s, start=start, **data)
        shed = np.clip(np.where(live & sheds, nlp.value("s"), 0.0), 0.0, 1.0)
        curtail = np.zeros(self.network.n_bus)
        if makes.any():
            curtail = np.clip(np.where(live & makes, nlp.value("c"), 0.0), 0.0, 1.0)
        # An interior-point answer stays a little above zero.
        shed[shed < 1e-7] = 0.0
        curtail[curtail < 1e-7] = 0.0
        known = bool(np.isfinite(shed).all() and np.isfinite(curtail).all())
        return SheddingOptimum(result.converged and known, result.reason, shed, curtail)


def _add_data(model: pyo.ConcreteModel, network: Network) -> None:
    values = {
        "y": network.closed.astype(float),
        "p_load": network.p_load,
        "q_load": network.q_load,
        "p_gen": network.p_gen,
        "live": np.ones(network.n_bus),
        "sheds": can_shed(network.p_load).astype(float),
    }
    for name in DATA:
        index = model.branch if name == "y" else model.bus
        model.add_component(name, pyo.Var(index, initialize=dict(enumerate(values[name].tolist()))))
        model.find_component(name).fix()


def _add_flows(model: pyo.ConcreteModel, network: Network) -> None:
    """Add power and squared current of every branch as expressions that vanish where y = 0."""
    z = np.where(np.abs(network.z) < LEAST_IMPEDANCE_PU, 1j * LEAST_IMPEDANCE_PU, network.z)
    g, b = (1 / z).real, (1 / z).imag
    i, j = network.from_bus.tolist(), network.to_bus.tolist()

    def terms(m: Any, k: int) -> tuple[Any, Any, Any, Any]:
        near = m.v[i[k]] / float(network.tap[k])
        angle = m.theta[i[k]] - m.theta[j[k]] - float(network.shift[k])
        return near, m.v[j[k]], pyo.cos(angle), pyo.sin(angle)

    def sent_p(m: Any, k: int) -> Any:
        a, c, cos, sin = terms(m, k)
        return m.y[k] * (float(g[k]) * a**2 - a * c * (float(g[k]) * cos + float(b[k]) * sin))

    def sent_q(m: Any, k: int) -> Any:
        a, c, cos, sin = terms(m, k)
        return m.y[k] * (-float(b[k]) * a**2 - a * c * (float(g[k]) * sin - float(b[k]) * cos))

    def squared_current(m: Any, k: int) -> Any:
        a, c, cos, _ = terms(m, k)
        return m.y[k] * float(g[k] ** 2 + b[k] ** 2) * (a**2 + c**2 - 2 * a * c * cos)

    # The names that `add_limits` writes the branch limits in.
    model.P = pyo.Expression(model.branch, rule=sent_p)
    model.Q = pyo.Expression(model.branch, rule=sent_q)
    model.ell = pyo.Expression(model.branch, rule=squared_current)
    model.w = pyo.Expression(model.bus, rule=lambda m, n: m.v[n] ** 2)


def _limit_end_currents(model: pyo.ConcreteModel, network: Network, rating: FloatArray) -> None:
    """Limit the current at both ends of the branches with shunts, in place of that in between.

    rating: (n_branch,) pu.
    """
    y = branch_admittances(network)
    branches = np.flatnonzero(has_shunts(network) & np.isfinite(rating)).tolist()
    for b in branches:
        model.current_limit[b].deactivate()

    @model.Constraint([(b, end) for b in branches for end in (0, 1)], doc="(4)")
    def end_current(m: Any, b: int, end: int) -> Any:
        if end == 0:
            bus, p, q = int(network.from_bus[b]), m.P[b], m.Q[b]
        else:
            bus = int(network.to_bus[b])
            p = float(network.r[b]) * m.ell[b] - m.P[b]
            q = float(network.x[b]) * m.ell[b] - m.Q[b]
        shunt = complex(y.closed[b, end])
        w = m.y[b] * m.v[bus] ** 2
        return (p + shunt.real * w) ** 2 + (q - shunt.imag * w) ** 2 <= (
            float(rating[b]) ** 2 * m.v[bus] ** 2
        )


def _add_balance(model: pyo.ConcreteModel, network: Network) -> None:
    y = branch_admittances(network)
    into: list[list[int]] = [
        np.flatnonzero(network.to_bus == n).tolist() for n in range(network.n_bus)
    ]
    out_of: list[list[int]] = [
        np.flatnonzero(network.from_bus == n).tolist() for n in range(network.n_bus)
    ]
    substations = set(network.substation.tolist())

    def shunt(m: Any, n: int, part: str) -> Any:
        total: Any = float(network.g_shunt[n] if part == "real" else network.b_shunt[n])
        for column, ends in enumerate((out_of[n], into[n])):
            for k in ends:
                closed = float(getattr(y.closed[k, column], part))
                hanging = float(getattr(y.hanging[k, column], part))
                if closed or hanging:
                    total += m.y[k] * closed + (1 - m.y[k]) * hanging
        return m.live[n] * m.v[n] ** 2 * total

    @model.Constraint(model.bus, doc="(2)")
    def active_balance(m: Any, n: int) -> Any:
        if n in substations:
            return pyo.Constraint.Skip
        away = sum(m.P[k] for k in out_of[n]) - sum(
            m.P[k] - float(network.r[k]) * m.ell[k] for k in into[n]
        )
        return away + shunt(m, n, "real") == m.live[n] * (
            m.p_gen[n] * (1 - m.c[n]) - m.p_load[n] * m.kept[n]
        )

    @model.Constraint(model.bus, doc="(2)")
    def reactive_balance(m: Any, n: int) -> Any:
        if n in substations:
            return pyo.Constraint.Skip
        away = sum(m.Q[k] for k in out_of[n]) - sum(
            m.Q[k] - float(network.x[k]) * m.ell[k] for k in into[n]
        )
        return away - shunt(m, n, "imag") == -m.live[n] * m.q_load[n] * m.kept[n]
