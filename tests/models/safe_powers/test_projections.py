"""The way back of a gradient through a projection, against finite differences, without torch."""

import numpy as np
import pytest

from feederguard.models.safe_powers import SafePowers
from feederguard.studies.benchmarks.safety_layer import benchmark_feeder, draw_items


@pytest.fixture(scope="module")
def powers():
    return SafePowers(*benchmark_feeder())


@pytest.mark.parametrize(("name", "least"), [("project_linear", 0.9999), ("project_at_ac", 0.998)])
def test_pull_back_is_the_slope_of_the_projection(powers, name, least):
    """At the AC state but for what the linearisation itself moves."""
    items = draw_items(powers.network, powers.batteries, powers.matrices, 40, 5)
    p = items.proposal * powers.batteries.p_max
    rng = np.random.default_rng(0)
    along, weight = rng.normal(size=p.shape), rng.normal(size=p.shape)
    project = getattr(powers, name)
    by_gradient = (project(items.state, p).pull_back(weight) * along).sum(axis=1)
    step = 1e-6 * powers.batteries.p_max[0]
    up, down = (project(items.state, p + sign * along).p for sign in (step, -step))
    by_difference = ((up - down) * weight).sum(axis=1) / (2 * step)
    assert np.corrcoef(by_gradient, by_difference)[0, 1] > least


def test_where_nothing_is_unsafe_it_is_the_cut(powers):
    items = draw_items(powers.network, powers.batteries, powers.matrices, 20, 0)
    found = powers.project_at_ac(items.state, np.zeros((20, len(powers.batteries))))
    safe = np.setdiff1d(np.arange(20), found.left)
    assert len(safe) > 3
    assert (found.p[safe] == 0).all()
    assert (found.pull_back(np.ones(found.p.shape))[safe] == 1).all()
