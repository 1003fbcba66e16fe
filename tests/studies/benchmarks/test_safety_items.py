"""Random projections: our kernel, HiGHS and DAQP give the same actions."""

import numpy as np
import pytest

from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.safety_qp.projection import SLACK
from feederguard.studies.benchmarks.safety_items import (
    REFERENCE_RHO,
    active,
    benchmark_feeder,
    draw_items,
    solve_by_daqp,
    solve_by_highs,
    solve_by_kernel,
)


def test_three_solvers_agree() -> None:
    network, batteries = benchmark_feeder()
    matrices = safety_matrices(network, batteries, rho=REFERENCE_RHO)
    items = draw_items(network, batteries, matrices, 12, seed=1, heavy=2.5)
    ours = solve_by_kernel(items, matrices)
    assert active(ours).any() and not ours.failed.any()
    found = [solve_by_highs(network, batteries, items, k) for k in range(6)]
    assert sum(one is not None for one in found) >= 3
    for k, one in enumerate(found):
        if one is not None:
            np.testing.assert_allclose(one, ours.a[k], atol=1e-5)
    pytest.importorskip("daqp")
    for k in np.flatnonzero(ours.status != SLACK).tolist():
        peer = solve_by_daqp(items, k, matrices)
        assert peer is not None
        np.testing.assert_allclose(peer, ours.a[k], atol=1e-7)


def test_some_of_the_items_are_the_items() -> None:
    network, batteries = benchmark_feeder()
    items = draw_items(network, batteries, safety_matrices(network, batteries), 5)
    some = items[1:3]
    np.testing.assert_array_equal(some.proposal, items.proposal[1:3])
    assert len(some.state) == 2
