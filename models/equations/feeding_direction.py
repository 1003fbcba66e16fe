"""Which way a radial feeder is fed: inequalities that shorten proofs where nothing generates.

d_b tells whether branch b (from zone i to zone j) feeds j. Where it is live in the forest (l_b = 1)
and does not feed j, it feeds i. e_z tells whether zone z is energised (`radiality.py`).

    (1)  d_b <= l_b, and every energised zone without a substation is fed by exactly one branch
    (2)  power flows the way it feeds:      -S (l_b - d_b) <= P_b, Q_b <= S d_b
    (3)  voltage falls along the way:       w_j <= w_i + M (1 - d_b) + v_min^2 (1 - e_i)
                                            w_i <= w_j + M (1 - l_b + d_b) + v_min^2 (1 - e_j)

(2) is of branches that are never parallel. (2) and (3) hold where demand, impedances and shunts
only consume and no tap is off nominal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from feederguard.models.arrays import FloatArray
from feederguard.models.equations.radiality import dark
from feederguard.models.network import Network
from feederguard.models.network.parallel import parallels


def only_consumes(network: Network, p_net: FloatArray, q_net: FloatArray) -> bool:
    """Return whether nothing can raise a voltage or send power back, whatever is switched or shed.

    p_net, q_net: (n_bus,) net demand in pu.
    """
    produces = (
        (p_net < 0).any()
        or (q_net < 0).any()
        or (network.b_shunt > 0).any()
        or (network.g_shunt < 0).any()
    )
    charging = (np.concatenate([network.b_from, network.b_to]) > 0).any()
    negative = (np.concatenate([network.g_from, network.g_to, network.r, network.x]) < 0).any()
    return not (produces or charging or negative or (network.tap != 1).any())


def add_feeding_direction(model: pyo.ConcreteModel, network: Network, v_min: float) -> None:
    """Add feeds[b], d of the module, and (1)-(3) to a radial model with topology and branch flow.

    v_min: lowest voltage of a live bus, pu. The caller has asked `only_consumes`.
    """
    ends: dict[int, tuple[int, int]] = model.live_ends
    free = [b for b in ends if not model.y[b].fixed]
    # Between parallel branches power may circulate; only their sum flows the way it feeds.
    parallel = set(parallels(network).branches.tolist())
    alone = [b for b in free if b not in parallel]
    low = min(v_min, float(np.abs(network.v_substation).min())) ** 2
    band = max(v.value if v.fixed else v.ub for v in model.w.values()) - low
    model.feeds = pyo.Var(free, domain=pyo.Binary, doc="d of the module")

    @model.Constraint(free, doc="(1)")
    def feeds_if_closed(m: Any, b: int) -> Any:
        return m.feeds[b] <= m.live[b]

    @model.Constraint(model.zone, doc="(1)")
    def fed_once(m: Any, z: int) -> Any:
        feeders = [m.feeds[b] for b in free if ends[b][1] == z] + [
            m.live[b] - m.feeds[b] for b in free if ends[b][0] == z
        ]
        if not feeders or z in m.fed_zones:
            return pyo.Constraint.Skip
        return sum(feeders) == m.energised[z]

    @model.Constraint(alone, ("P", "Q"), doc="(2)")
    def flows_forward(m: Any, b: int, kind: str) -> Any:
        power = getattr(m, kind)[b]
        return power <= power.ub * m.feeds[b]

    @model.Constraint(alone, ("P", "Q"), doc="(2)")
    def flows_backward(m: Any, b: int, kind: str) -> Any:
        power = getattr(m, kind)[b]
        return power >= power.lb * (m.live[b] - m.feeds[b])

    @model.Constraint(free, doc="(3)")
    def falls_forward(m: Any, b: int) -> Any:
        i, j = int(network.from_bus[b]), int(network.to_bus[b])
        return m.w[j] <= m.w[i] + band * (1 - m.feeds[b]) + low * dark(m, i)

    @model.Constraint(free, doc="(3)")
    def falls_backward(m: Any, b: int) -> Any:
        i, j = int(network.from_bus[b]), int(network.to_bus[b])
        return m.w[i] <= m.w[j] + band * (1 - m.live[b] + m.feeds[b]) + low * dark(m, j)
