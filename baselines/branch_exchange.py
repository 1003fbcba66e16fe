"""Branch exchange: close an open branch, open one on its loop, as long as losses fall.

Source of the idea: Civanlar, Grainger, Yin & Lee, IEEE Trans. Power Delivery 3(3), 1988. Every
exchange that a state allows is tried at once by the batched AC power flow, and the best is taken.
Several random starts escape a local optimum.
"""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.load_transfer.setting import loop_switches
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.switching.forests import spanning_forests
from feederguard.models.switching.plans import forest_exchanges


def branch_exchange(
    network: Network,
    p: FloatArray | None = None,
    q: FloatArray | None = None,
    starts: int = 20,
    seed: int = 0,
) -> BoolArray:
    """Return the radial topology (n_branch,) of least AC loss found.

    p, q: net demand in pu, default nominal. Ties and lines on loops are switched. starts: random
    starting trees besides the normal state.
    """
    free = loop_switches(network)
    rng = np.random.default_rng(seed)
    keys = rng.random((starts + 1, network.n_branch))
    # The first start is the normal state, the others are random trees drawn towards it.
    keys += np.where(network.closed, np.linspace(1.0, 0.1, starts + 1)[:, None], 0.0)
    fixed = network.closed & ~free
    usable = np.tile(free | fixed, (starts + 1, 1))
    best_loss, best = np.inf, network.closed
    for closed in spanning_forests(network, keys, usable, fixed):
        closed, loss = _descend(network, closed, free, p, q)
        if loss < best_loss:
            best_loss, best = loss, closed
    return best


def _descend(
    network: Network, closed: BoolArray, free: BoolArray, p: FloatArray | None, q: FloatArray | None
) -> tuple[BoolArray, float]:
    loss = _losses(network, closed[None], p, q)[0]
    while True:
        trials = np.concatenate([closed[None], forest_exchanges(network, closed, free)])
        losses = _losses(network, trials, p, q)
        k = int(np.argmin(losses))
        if not losses[k] < loss - 1e-9:
            return closed, float(loss)
        closed, loss = trials[k], losses[k]


def _losses(
    network: Network, closed: BoolArray, p: FloatArray | None, q: FloatArray | None
) -> FloatArray:
    flow = solve_power_flow(network, p, q, closed)
    return np.where(flow.converged & flow.energised.all(axis=1), flow.loss_mw, np.inf)
