"""Random projections for the benchmark of the safety layer, and independent solvers of them.

The feeder is `cigre_lv18` with a battery at each of R1..R18. Net demand leaves the band on either
side, intervals and proposals are random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.data.networks import load_network
from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safety_qp import build_safety_qp
from feederguard.models.safety_qp.matrices import SafetyMatrices
from feederguard.models.safety_qp.projection import SLACK, TIGHT, Projection, project
from feederguard.models.safety_qp.statement import set_state
from feederguard.models.solver import NotSolvedError, solve
from feederguard.models.voltage_regulation import VoltageState

REFERENCE_RHO = 1e4  # above every multiplier of the items; HiGHS fails with larger prices


@dataclass(frozen=True, eq=False)
class Items:
    """Random projections of one feeder, and their states."""

    state: VoltageState
    proposal: FloatArray  # (B, n) actions
    lo: FloatArray
    hi: FloatArray
    low: FloatArray  # (B, m) of G a
    high: FloatArray
    margin: FloatArray  # (B, n_bus)

    def __getitem__(self, rows: slice) -> Items:
        """Return some of them."""
        return Items(*(value[rows] for value in vars(self).values()))


def benchmark_feeder() -> tuple[Network, Batteries]:
    """Return cigre_lv18 with a battery of 40 kW and 200 kWh at each of R1..R18."""
    network = load_network("cigre_lv18")
    return network, Batteries.at(network, [f"R{k}" for k in range(1, 19)], 0.04, 0.2)


def draw_items(
    network: Network,
    batteries: Batteries,
    matrices: SafetyMatrices,
    n_item: int,
    seed: int = 0,
    heavy: float = 1.0,
) -> Items:
    """Return random items: a demand or surplus common to all buses times a share of each bus.

    heavy: factor of the common demand.
    """
    rng = np.random.default_rng(seed)
    common = heavy * rng.uniform(-0.026, 0.018, (n_item, 1)) / network.base_mva
    p = np.zeros((n_item, network.n_bus))
    p[:, batteries.bus] = common * rng.uniform(0.5, 1.5, (n_item, len(batteries)))
    q = 0.3 * np.maximum(p, 0.0)
    v = np.abs(solve_power_flow(network, p, q).voltage)
    lossless = matrices.lossless(p, q)
    margin = np.zeros(v.shape)
    margin[:, matrices.bus] = np.maximum(lossless - v[:, matrices.bus] ** 2, 0.0)
    box = rng.uniform(0.0, 1.0, (2, n_item, len(batteries))) ** 0.3
    soc = rng.uniform(0.1, 0.9, (n_item, len(batteries)))
    state = VoltageState(p, q, v, soc, rng.integers(0, 96, n_item))
    proposal = np.clip(rng.normal(0.0, 0.4, (n_item, len(batteries))), -1.0, 1.0)
    return Items(
        state,
        proposal,
        -box[0],
        box[1],
        matrices.w_low + margin[:, matrices.bus] - lossless,
        matrices.w_high - lossless,
        margin,
    )


def active(answer: Projection) -> BoolArray:
    """Return which items have an active voltage row, (B,): clipping alone does not solve them."""
    return np.asarray((answer.status == TIGHT) | (answer.status == SLACK))


def solve_by_kernel(items: Items, matrices: SafetyMatrices) -> Projection:
    """Return the answers of our kernel to all items."""
    return project(
        items.proposal,
        items.lo,
        items.hi,
        matrices.columns,
        items.low,
        items.high,
        0.5 * matrices.rho,
    )


def solve_by_daqp(items: Items, k: int, matrices: SafetyMatrices) -> FloatArray | None:
    """Return DAQP's answer to item k without slack, None if it finds none."""
    import daqp  # type: ignore[import-not-found]

    n, m = matrices.columns.shape
    x, _, flag, _ = daqp.solve(
        np.eye(n),
        -items.proposal[k],
        np.ascontiguousarray(matrices.columns.T),
        np.concatenate([items.hi[k], items.high[k]]),
        np.concatenate([items.lo[k], items.low[k]]),
        np.zeros(n + m, dtype=np.int32),
        primal_tol=1e-10,
        dual_tol=1e-12,
    )
    return np.asarray(x) if flag == 1 else None


def solve_by_highs(
    network: Network, batteries: Batteries, items: Items, k: int, rho: float = REFERENCE_RHO
) -> FloatArray | None:
    """Build the Pyomo model of item k, solve it by HiGHS, and return its actions.

    None if HiGHS fails or breaks a bound.
    """
    model = build_safety_qp(network, batteries, rho=rho)
    p_max = batteries.p_max
    set_state(
        model,
        p_net=items.state.p_net[k],
        q_net=items.state.q_net[k],
        a_policy=items.proposal[k],
        p_low=items.lo[k] * p_max,
        p_high=items.hi[k] * p_max,
        margin=items.margin[k],
    )
    try:
        solve(model, "highs")
    except NotSolvedError:
        return None
    if min(s.value for s in (*model.slack_low.values(), *model.slack_high.values())) < -1e-9:
        return None
    return np.array([model.p_battery[j].value for j in model.battery]) / p_max
