"""The voltages of the AC equations: in polar form, exact, or relaxed to a second-order cone.

Source of the cone: Jabr, IEEE Trans. Power Systems 21(3), 2006. Per unit. `ac.py` takes w, c and s
from here; a pair (i, j) is two buses that branches join.

    (1)  v_min_i <= |V_i| <= v_max_i;   |V_i| = |v_s| at a substation that the grid above holds

    polar  (2)  w_i = v_i^2, c_ij = v_i v_j cos(theta_i - theta_j),
                s_ij = v_i v_j sin(theta_i - theta_j);
                theta is that of v_substation at every substation
           (3)  angle_min_b <= theta_i - theta_j <= angle_max_b
    soc    (4)  (c_ij^2 + s_ij^2) / w_i <= w_j, and w, c, s are unknowns
           (5)  cos(angle_min_b) s_ij >= sin(angle_min_b) c_ij and
                cos(angle_max_b) s_ij <= sin(angle_max_b) c_ij,
                where angle_max_b - angle_min_b <= pi

Every point of the polar form has w, c and s that satisfy (4) and (5). What a band wider than pi
allows c and s is not convex, so (5) leaves it out. (4) divides by w_i because c^2 + s^2 - w_i w_j
is not a convex function, though the set it bounds is convex.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import ComplexArray
from feederguard.models.equations.ac import BranchCoefficients
from feederguard.models.equations.periods import voltage_bands
from feederguard.models.network import Network


def flat_start(network: Network) -> ComplexArray:
    """Return |V| of 1, or the nearest allowed, at the angles at which nothing flows, (n_bus,)."""
    low, high = voltage_bands(network)
    return np.asarray(np.clip(1.0, low, high) * np.exp(1j * network.no_load_angle))


def add_polar_voltages(
    model: pyo.ConcreteModel, network: Network, coefficients: BranchCoefficients
) -> None:
    """Add v, theta[t, i] with (1), and w[t, i], c, s[t, pair] as the expressions (2)."""
    low, high = (band.tolist() for band in voltage_bands(network))
    magnitude, angle = np.abs(flat_start(network)).tolist(), network.no_load_angle.tolist()
    model.v = pyo.Var(
        model.time,
        model.bus,
        bounds=lambda m, t, i: (low[i], high[i]),
        initialize=lambda m, t, i: magnitude[i],
        doc="(1)",
    )
    model.theta = pyo.Var(model.time, model.bus, initialize=lambda m, t, i: angle[i], doc="rad")
    held = [i for i in model.bus if low[i] == high[i]]
    for t in model.time:
        for i in held:
            model.v[t, i].fix()
        for i in network.substation.tolist():
            model.theta[t, i].fix()

    def product(m: Any, t: int, k: int, part: Callable[[Any], Any]) -> Any:
        i, j = coefficients.pair[k]
        return m.v[t, i] * m.v[t, j] * part(m.theta[t, i] - m.theta[t, j])

    model.w = pyo.Expression(model.time, model.bus, rule=lambda m, t, i: m.v[t, i] ** 2, doc="(2)")
    model.c = pyo.Expression(
        model.time, model.pair, rule=lambda m, t, k: product(m, t, k, pyo.cos), doc="(2)"
    )
    model.s = pyo.Expression(
        model.time, model.pair, rule=lambda m, t, k: product(m, t, k, pyo.sin), doc="(2)"
    )


def add_polar_angle_limits(model: pyo.ConcreteModel, network: Network) -> None:
    """Add (3) as angle_limit[t, b], for branches with a limit."""
    low, high = network.angle_min.tolist(), network.angle_max.tolist()
    limited = [b for b in model.branch if np.isfinite([low[b], high[b]]).any()]

    @model.Constraint(model.time, limited, doc="(3)")
    def angle_limit(m: Any, t: int, b: int) -> Any:
        apart = m.theta[t, int(network.from_bus[b])] - m.theta[t, int(network.to_bus[b])]
        return _bound(low[b]), apart, _bound(high[b])


def add_cone_voltages(
    model: pyo.ConcreteModel, network: Network, coefficients: BranchCoefficients
) -> None:
    """Add w[t, i] with (1), c, s[t, pair], and (4) as cone[t, pair]."""
    low, high = (band.tolist() for band in voltage_bands(network))
    start = flat_start(network)
    near, far = np.array(coefficients.pair, dtype=np.int64).reshape(-1, 2).T
    magnitude, product = np.abs(start).tolist(), (start[near] * np.conj(start[far])).tolist()
    model.w = pyo.Var(
        model.time,
        model.bus,
        bounds=lambda m, t, i: (low[i] ** 2, high[i] ** 2),
        initialize=lambda m, t, i: magnitude[i] ** 2,
        doc="(1)",
    )
    for t in model.time:
        for i in model.bus:
            if low[i] == high[i]:
                model.w[t, i].fix()

    def bounds(m: Any, t: int, k: int) -> tuple[float, float]:
        i, j = coefficients.pair[k]
        return -high[i] * high[j], high[i] * high[j]

    index = (model.time, model.pair)
    model.c = pyo.Var(
        *index, bounds=bounds, initialize=lambda m, t, k: product[k].real, doc="Re V_i conj(V_j)"
    )
    model.s = pyo.Var(
        *index, bounds=bounds, initialize=lambda m, t, k: product[k].imag, doc="Im V_i conj(V_j)"
    )

    @model.Constraint(*index, doc="(4)")
    def cone(m: Any, t: int, k: int) -> Any:
        i, j = coefficients.pair[k]
        return (m.c[t, k] ** 2 + m.s[t, k] ** 2) / m.w[t, i] <= m.w[t, j]


def add_cone_angle_limits(
    model: pyo.ConcreteModel, network: Network, coefficients: BranchCoefficients
) -> None:
    """Add (5) as angle_limit[t, b, side], side -1 for the least and 1 for the greatest angle."""
    convex = (network.angle_max - network.angle_min <= np.pi).tolist()  # hence both are finite
    limits = {-1: network.angle_min, 1: network.angle_max}
    place = {
        b: (int(k), float(sign))
        for b, k, sign in zip(
            coefficients.branch.tolist(), coefficients.pair_of, coefficients.sign, strict=True
        )
    }

    @model.Constraint(model.time, [b for b in model.branch if convex[b]], (-1, 1), doc="(5)")
    def angle_limit(m: Any, t: int, b: int, side: int) -> Any:
        (k, sign), limit = place[b], limits[side][b]
        # |V_i| |V_j| sin(theta_i - theta_j - limit): a half-plane of c and s for every limit.
        beyond = sign * float(np.cos(limit)) * m.s[t, k] - float(np.sin(limit)) * m.c[t, k]
        return beyond >= 0 if side == -1 else beyond <= 0


def _bound(limit: float) -> float | None:
    return limit if np.isfinite(limit) else None
