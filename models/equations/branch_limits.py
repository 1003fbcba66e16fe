"""Branch limits of DistFlow OPF: current, apparent power and angle difference; circles as they are,
or as polygons.

Numbers and letters are those of `distflow_opf.py`:

    (6)  P_b^2 + Q_b^2 <= I_b^2 w_i,  Pj_b^2 + Qj_b^2 <= I_b^2 w_j      where b has no s_max
    (7)  P_b^2 + Q_b^2 <= s_max^2,    Pj_b^2 + Qj_b^2 <= s_max^2        where it has one
    (8)  tan(a_min) (u_b - a) <= x Ps_b - r Qs_b <= tan(a_max) (u_b - a),   a = r Ps_b + x Qs_b

(8) is exact: V_i / tap times the conjugate of V_j is u_b - a + j (x Ps_b - r Qs_b), whose angle is that between the buses
less the shift. It is imposed within a right angle to either side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray
from feederguard.models.equations.lossless import LosslessRange
from feederguard.models.network import Network
from feederguard.models.network.pi_model import held_substations

SIDES = 32  # of the polygon that stands for a circle: at worst 1 - cos(pi / 32) = 0.5 % inside it
ENDS = ("from", "to")
_DIRECTIONS = [(float(np.cos(a)), float(np.sin(a))) for a in 2 * np.pi * np.arange(SIDES) / SIDES]

Series = Callable[[Any, int, int], tuple[Any, Any]]


def add_circles(model: pyo.ConcreteModel, network: Network) -> None:
    """Add (6) and (7) to an exact or soc model, wherever there is a limit.

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
    limited = [b for b in model.branch if np.isfinite(network.s_max[b])]

    @model.Constraint(model.time, rated, doc="(6)")
    def current_limit(m: Any, t: int, b: int) -> Any:
        return m.ell[t, b] <= squared[b]

    @model.Constraint(model.time, ends, doc="(6)")
    def end_current_limit(m: Any, t: int, b: int, end: str) -> Any:
        p, q, i = _end(m, network, t, b, end)
        return p**2 + q**2 <= float(limit[b]) ** 2 * m.w[t, i]

    @model.Constraint(model.time, limited, ENDS, doc="(7)")
    def power_limit(m: Any, t: int, b: int, end: str) -> Any:
        p, q, _ = _end(m, network, t, b, end)
        return p**2 + q**2 <= float(network.s_max[b]) ** 2


def add_polygons(model: pyo.ConcreteModel, network: Network, reach: LosslessRange) -> None:
    """Add (6) and (7) to a linear model as polygons: current_limit and power_limit[t, b, end,
    side].

    reach: what can flow at all; sides beyond it are left out.
    """
    v_low, v_high = network.v_min.copy(), network.v_max.copy()
    held = held_substations(network)
    v_low[network.substation[held]] = v_high[network.substation[held]] = np.abs(
        network.v_substation[held]
    )
    inside = float(np.cos(np.pi / SIDES))
    rated, most = inside * network.current_limit, inside * network.s_max
    low_at = {"from": v_low[network.from_bus], "to": v_low[network.to_bus]}

    @model.Constraint(
        _sides_within(model, reach, {end: rated * low_at[end] for end in ENDS}), doc="(6)"
    )
    def current_limit(m: Any, t: int, b: int, end: str, side: int) -> Any:
        power, i = _along(m, network, t, b, end, side)
        # The chord of |V| = sqrt(w) over the band of the bus lies below it.
        low, high = float(v_low[i]), float(v_high[i])
        return power <= float(rated[b]) * (m.w[t, i] + low * high) / (low + high)

    @model.Constraint(_sides_within(model, reach, dict.fromkeys(ENDS, most)), doc="(7)")
    def power_limit(m: Any, t: int, b: int, end: str, side: int) -> Any:
        return _along(m, network, t, b, end, side)[0] <= float(most[b])


def add_angles(model: pyo.ConcreteModel, network: Network, series: Series) -> None:
    """Add (8) as angle_limit[t, b, side], side -1 for the least and 1 for the greatest angle; the
    same in every form.
    """
    sides = []
    for b in model.branch:
        for side, limit in ((-1, network.angle_min[b]), (1, network.angle_max[b])):
            if abs(limit - network.shift[b]) < np.pi / 2:
                sides.append((b, side))

    @model.Constraint(model.time, sides, doc="(8)")
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


def _end(m: Any, network: Network, t: int, b: int, end: str) -> tuple[Any, Any, int]:
    """Return active and reactive power into the branch at that end, and the bus there."""
    if end == "from":
        return m.P[t, b], m.Q[t, b], int(network.from_bus[b])
    return m.P_to[t, b].expr, m.Q_to[t, b].expr, int(network.to_bus[b])


def _sides_within(
    model: Any, reach: LosslessRange, limit: dict[str, FloatArray]
) -> list[tuple[int, int, str, int]]:
    """Return (t, b, end, side) wherever the power along a side may exceed the limit of that end,
    (n_branch,).
    """
    found = []
    for side, (cos, sin) in enumerate(_DIRECTIONS):
        for end, sign in zip(ENDS, (1.0, -1.0), strict=True):
            over = reach.most(sign * cos, sign * sin) > limit[end]
            found += [(t, b, end, side) for t in model.time for b in model.branch if over[t, b]]
    return found


def _along(m: Any, network: Network, t: int, b: int, end: str, side: int) -> tuple[Any, int]:
    """Return the power into a branch along the direction of a side, and the bus it enters at."""
    p, q, i = _end(m, network, t, b, end)
    cos, sin = _DIRECTIONS[side]
    return cos * p + sin * q, i
