"""Branch limits of every OPF: current, apparent power and angle difference of a branch.

Letters are those of `distflow.py` and `ac.py`, where Pj, Qj are P_to, Q_to:

    (1)  P_b^2 + Q_b^2 <= I_b^2 w_i,  Pj_b^2 + Qj_b^2 <= I_b^2 w_j    current, where b has no s_max
    (2)  P_b^2 + Q_b^2 <= s_max^2,    Pj_b^2 + Qj_b^2 <= s_max^2      apparent power, where it has
    (3)  a_min <= angle of V_i less that of V_j <= a_max

In exact and soc DistFlow (1) is ell <= I^2 min(1, tap^2), and (1) itself at an end where charging
adds to the series current. In linear DistFlow polygons inside the circles of (1) and (2) stand for
them. |V| in (1) is a chord below it, and sides that cannot be reached are left out. DistFlow states
(3) as

    (4)  tan(a_min) (u_b - a) <= x Ps_b - r Qs_b <= tan(a_max) (u_b - a),   a = r Ps_b + x Qs_b

with a_min, a_max less the branch's shift. (4) is exact: V_i / tap times the conjugate of V_j is
u_b - a + j (x Ps_b - r Qs_b). It is imposed within a right angle to either side. (3) of the AC
equations is in `ac_voltages.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray
from feederguard.models.equations.lossless import LosslessRange
from feederguard.models.equations.periods import voltage_bands
from feederguard.models.network import Network

SIDES = 32  # of the polygon inside a circle: at worst 1 - cos(pi / 32) = 0.5 % inside it
ENDS = ("from", "to")
_DIRECTIONS = [(float(np.cos(a)), float(np.sin(a))) for a in 2 * np.pi * np.arange(SIDES) / SIDES]

Series = Callable[[Any, int, int], tuple[Any, Any]]


def add_ac_limits(model: pyo.ConcreteModel, network: Network) -> None:
    """Add (2) as power_limit and (1) as current_limit[t, b, end] to a model of the AC equations."""
    _add_power_limit(model, network)
    limited = [b for b in model.branch if np.isfinite(network.current_limit[b])]

    @model.Constraint(model.time, limited, ENDS, doc="(1)")
    def current_limit(m: Any, t: int, b: int, end: str) -> Any:
        return _current_within(m, network, t, b, end)


def add_circles(model: pyo.ConcreteModel, network: Network) -> None:
    """Add (1) and (2) to an exact or soc model of DistFlow, wherever there is a limit.

    current_limit[t, b] bounds ell; end_current_limit[t, b, end] the current at an end that has
    charging or conductance; power_limit[t, b, end] the apparent power.
    """
    # Without charging the current is that of the series impedance, at the from end divided by tap.
    limit = network.current_limit
    squared = (limit**2 * np.minimum(1.0, network.tap**2)).tolist()
    rated = [b for b in model.branch if np.isfinite(limit[b])]
    charged = {
        "from": (network.g_from != 0) | (network.b_from != 0),
        "to": (network.g_to != 0) | (network.b_to != 0),
    }
    ends = [(b, end) for b in rated for end in ENDS if charged[end][b]]

    @model.Constraint(model.time, rated, doc="(1)")
    def current_limit(m: Any, t: int, b: int) -> Any:
        return m.ell[t, b] <= squared[b]

    @model.Constraint(model.time, ends, doc="(1)")
    def end_current_limit(m: Any, t: int, b: int, end: str) -> Any:
        return _current_within(m, network, t, b, end)

    _add_power_limit(model, network)


def add_polygons(model: pyo.ConcreteModel, network: Network, reach: LosslessRange) -> None:
    """Add (1), (2) to a linear model, as polygons current_limit, power_limit[t, b, end, side].

    reach: what can flow at all; sides beyond it are left out.
    """
    v_low, v_high = voltage_bands(network)
    inside = float(np.cos(np.pi / SIDES))
    rated, most = inside * network.current_limit, inside * network.s_max
    low_at = {"from": v_low[network.from_bus], "to": v_low[network.to_bus]}

    @model.Constraint(
        _sides_within(model, reach, {end: rated * low_at[end] for end in ENDS}), doc="(1)"
    )
    def current_limit(m: Any, t: int, b: int, end: str, side: int) -> Any:
        power, i = _along(m, network, t, b, end, side)
        # The chord of |V| = sqrt(w) over the band of the bus lies below it.
        low, high = float(v_low[i]), float(v_high[i])
        return power <= float(rated[b]) * (m.w[t, i] + low * high) / (low + high)

    @model.Constraint(_sides_within(model, reach, dict.fromkeys(ENDS, most)), doc="(2)")
    def power_limit(m: Any, t: int, b: int, end: str, side: int) -> Any:
        return _along(m, network, t, b, end, side)[0] <= float(most[b])


def add_angles(model: pyo.ConcreteModel, network: Network, series: Series) -> None:
    """Add (4) to any model of DistFlow as angle_limit[t, b, side], side -1 for a_min, 1 for a_max.

    series(model, t, b): Ps_b and Qs_b.
    """
    sides = []
    for b in model.branch:
        for side, limit in ((-1, network.angle_min[b]), (1, network.angle_max[b])):
            if abs(limit - network.shift[b]) < np.pi / 2:
                sides.append((b, side))

    @model.Constraint(model.time, sides, doc="(4)")
    def angle_limit(m: Any, t: int, b: int, side: int) -> Any:
        limit = network.angle_max[b] if side == 1 else network.angle_min[b]
        tangent, r, x = (
            float(np.tan(limit - network.shift[b])),
            float(network.r[b]),
            float(network.x[b]),
        )
        p, q = series(m, t, b)
        u = m.w[t, int(network.from_bus[b])] / float(network.tap[b]) ** 2
        beyond = (x * p - r * q) - tangent * (u - r * p - x * q)
        return beyond >= 0 if side == -1 else beyond <= 0


def _add_power_limit(model: pyo.ConcreteModel, network: Network) -> None:
    limited = [b for b in model.branch if np.isfinite(network.s_max[b])]

    @model.Constraint(model.time, limited, ENDS, doc="(2)")
    def power_limit(m: Any, t: int, b: int, end: str) -> Any:
        p, q, _ = _end(m, network, t, b, end)
        return p**2 + q**2 <= float(network.s_max[b]) ** 2


def _current_within(m: Any, network: Network, t: int, b: int, end: str) -> Any:
    """Return (1) at one end."""
    p, q, i = _end(m, network, t, b, end)
    return p**2 + q**2 <= float(network.current_limit[b]) ** 2 * m.w[t, i]


def _end(m: Any, network: Network, t: int, b: int, end: str) -> tuple[Any, Any, int]:
    """Return active and reactive power into the branch at that end, and the bus there."""
    if end == "from":
        return m.P[t, b], m.Q[t, b], int(network.from_bus[b])
    p, q = m.P_to[t, b], m.Q_to[t, b]
    if m.P_to.ctype is pyo.Expression:
        p, q = p.expr, q.expr
    return p, q, int(network.to_bus[b])


def _sides_within(
    model: Any, reach: LosslessRange, limit: dict[str, FloatArray]
) -> list[tuple[int, int, str, int]]:
    """Return (t, b, end, side) where the power along a side may exceed the limit of that end.

    limit: by end, (n_branch,) in pu.
    """
    found = []
    for side, (cos, sin) in enumerate(_DIRECTIONS):
        for end, sign in zip(ENDS, (1.0, -1.0), strict=True):
            over = reach.most(sign * cos, sign * sin) > limit[end]
            found += [(t, b, end, side) for t in model.time for b in model.branch if over[t, b]]
    return found


def _along(m: Any, network: Network, t: int, b: int, end: str, side: int) -> tuple[Any, int]:
    """Return the power into a branch along the direction of a side, and the bus where it enters."""
    p, q, i = _end(m, network, t, b, end)
    cos, sin = _DIRECTIONS[side]
    return cos * p + sin * q, i
