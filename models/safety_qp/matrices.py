"""The safety QP as arrays: read once out of the Pyomo model, then filled for batches of states.

With the equalities of `statement.py` solved for the squared voltages, its (4)-(6) are, over a = p /
p_max,

    (1)  w = G a + w_0,   w_0 = W_p p^ + W_q q^ + w_00
    (2)  v_min^2 + e - w_0 - s <= G a <= v_max^2 - w_0 + z,   e the margin of each bus

and its objective is |a - a^|^2 + rho sum(s + z). All of it comes from the model's own expressions
(`compiled/parametric.py`). That objective and limits have the shape that `projection.py` solves is
checked here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.compiled import CompileError
from feederguard.models.compiled.parametric import (
    Eliminated,
    ParametricModel,
    compile_parametric,
    eliminate,
)
from feederguard.models.network import Network
from feederguard.models.safety_qp.statement import TOLERANCE_PU, build_safety_qp

_EQUALITIES = ("active_balance", "reactive_balance", "voltage_drop")
_DETERMINED = ("P", "Q", "w", "p_substation", "q_substation")


@dataclass(frozen=True, eq=False)
class SafetyMatrices:
    """(1) and (2) of one feeder and its batteries; m limited buses, n batteries."""

    bus: IntArray  # (m,) buses whose voltage is limited
    columns: FloatArray  # (n, m) transpose of G: squared voltage per unit of action
    w_by_p: FloatArray  # (n_bus, m) transpose of W_p
    w_by_q: FloatArray  # (n_bus, m) transpose of W_q
    w_rest: FloatArray  # (m,) w_00
    w_low: FloatArray  # (m,) v_min^2
    w_high: FloatArray  # (m,) v_max^2
    p_max: FloatArray  # (n,) pu power of an action of 1
    rho: float

    def lossless(self, p_net: FloatArray, q_net: FloatArray) -> FloatArray:
        """Return w_0 of net demands p_net, q_net (B, n_bus), (B, m)."""
        return np.asarray(p_net @ self.w_by_p + q_net @ self.w_by_q + self.w_rest)


def safety_matrices(
    network: Network,
    batteries: Batteries,
    step_h: float = 0.25,
    tolerance_pu: float = TOLERANCE_PU,
    rho: float | None = None,
) -> SafetyMatrices:
    """Return the safety QP of a feeder as arrays; arguments and errors as `build_safety_qp`."""
    model = build_safety_qp(network, batteries, step_h, tolerance_pu=tolerance_pu, rho=rho)
    compiled = compile_parametric(model)
    solved = eliminate(compiled, _EQUALITIES, _DETERMINED)
    bus = np.array(list(model.limited), dtype=np.int64)
    w_low, w_high = _limits(compiled, bus)
    p_max, rho = _objective(compiled)
    w_rows = _rows_of_w(compiled, bus)
    by_theta = {
        name: solved.by_theta[w_rows][:, place] for name, place in compiled.parameters.items()
    }
    _check_data(compiled, solved, w_rows)
    columns = solved.by_x[w_rows][:, compiled.columns["p_battery"]].T * p_max[:, None]
    return SafetyMatrices(
        bus,
        np.ascontiguousarray(columns),
        np.ascontiguousarray(by_theta["p_net"].T),
        np.ascontiguousarray(by_theta["q_net"].T),
        solved.constant[w_rows],
        w_low,
        w_high,
        p_max,
        rho,
    )


def _rows_of_w(compiled: ParametricModel, bus: IntArray) -> IntArray:
    """Return which of the eliminated variables are the squared voltages of the limited buses."""
    order = np.concatenate([compiled.columns[name] for name in _DETERMINED])
    order = order[order >= 0]
    place = {int(column): k for k, column in enumerate(order)}
    return np.array([place[int(compiled.columns["w"][i])] for i in bus], dtype=np.int64)


def _limits(compiled: ParametricModel, bus: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return v_min^2 and v_max^2, read from the rows of (4) and (5).

    Each row must be its own w, margin and slack. The margin must count whole, at its own bus, and
    below only: the layer puts it there itself.
    """
    found = []
    for name, slack, sign in (("low_limit", "slack_low", 1.0), ("high_limit", "slack_high", -1.0)):
        rows = compiled.rows[name]
        expected = np.zeros((len(rows), compiled.a.shape[1]))
        limited = _limited_w(compiled)
        expected[np.arange(len(rows)), limited] = 1.0
        expected[np.arange(len(rows)), compiled.columns[slack]] = sign
        if not np.array_equal(compiled.a[rows], expected):
            raise CompileError(
                f"{compiled.name}: {name} is not w and its slack alone; the safety layer solves "
                "only that"
            )
        by_theta = np.zeros((len(rows), compiled.d.shape[1]))
        if name == "low_limit":
            by_theta[np.arange(len(rows)), compiled.parameters["margin"][bus]] = -1.0
        if not np.array_equal(compiled.d[rows], by_theta):
            raise CompileError(
                f"{compiled.name}: {name} must hold "
                f"{'minus the margin of its own bus' if by_theta.any() else 'no margin'} and no "
                "other parameter; the safety layer puts the margin there itself"
            )
        found.append(-compiled.c[rows])
    return found[0], found[1]


def _limited_w(compiled: ParametricModel) -> IntArray:
    w = compiled.columns["w"]
    return w[w >= 0]


def _objective(compiled: ParametricModel) -> tuple[FloatArray, float]:
    """Return p_max and rho; the objective must be that of `statement.py`."""
    p = compiled.columns["p_battery"]
    diagonal = np.diag(compiled.hessian)[p]
    p_max = 1.0 / np.sqrt(diagonal)
    expected = np.zeros_like(compiled.hessian)
    expected[p, p] = diagonal
    cross = np.zeros_like(compiled.cross)
    cross[p, compiled.parameters["a_policy"]] = -2.0 / p_max
    slack = np.concatenate([compiled.columns["slack_low"], compiled.columns["slack_high"]])
    prices = compiled.linear[slack]
    same = np.allclose(compiled.hessian, expected, rtol=1e-12, atol=0) and np.allclose(
        compiled.cross, cross, rtol=1e-12, atol=0
    )
    others = np.delete(compiled.linear, slack)
    if not same or np.ptp(prices) > 0 or others.any():
        raise CompileError(
            f"{compiled.name}: the objective is not |a - a_policy|^2 + rho slack; the layer solves "
            "only that"
        )
    return p_max, float(prices[0])


def _check_data(compiled: ParametricModel, solved: Eliminated, rows: IntArray) -> None:
    data = np.concatenate([compiled.parameters["p_net"], compiled.parameters["q_net"]])
    if np.delete(solved.by_theta[rows], data, axis=1).any():
        raise CompileError(
            f"{compiled.name}: voltages depend on more than p_battery, p_net and q_net"
        )
