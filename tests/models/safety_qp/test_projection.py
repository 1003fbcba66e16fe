"""The batched projection by hand, against another solver, and by its optimality conditions.

active_set.py is tested here.
optimality.py is tested here.
tight_rows.py is tested here.
"""

import numpy as np
import pytest

from feederguard.models.safety_qp.projection import (
    CLIPPED,
    FAILED,
    SLACK,
    STATUSES,
    TIGHT,
    project,
    pull_back,
)

RHO = 1e6


def one(proposal, columns, low, high, lo=-1.0, hi=1.0, cap=RHO):
    """Project one proposal; lo, hi may be numbers."""
    a = np.array([proposal], dtype=float)
    return project(
        a,
        np.broadcast_to(np.asarray(lo, float), a.shape),
        np.broadcast_to(np.asarray(hi, float), a.shape),
        np.array(columns, dtype=float),
        np.array([low], float),
        np.array([high], float),
        cap,
    )


def draw(seed, n_item=400, n=18, m=19, parallel=0.02):
    """Random items with nearly parallel rows and boxes that cut.

    No action meets the limits of some.
    """
    rng = np.random.default_rng(seed)
    columns = -np.abs(rng.normal(0.012, 0.006, (n, 1)) + parallel * 0.012 * rng.normal(size=(n, m)))
    base = rng.normal(0, 0.12, (n_item, 1)) + rng.normal(0, 0.004, (n_item, m))
    box = rng.uniform(0.0, 1.0, (2, n_item, n))
    return rng.uniform(-1, 1, (n_item, n)), -box[0], box[1], columns, -0.09 - base, 0.09 - base


class TestByHand:
    def test_a_proposal_within_all_limits_stays(self):
        answer = one([0.2, -0.3], [[1.0], [1.0]], [-1.0], [1.0])

        assert answer.a[0].tolist() == [0.2, -0.3]
        assert STATUSES[answer.status[0]] == "clipped"

    def test_a_row_is_met_by_the_shortest_way(self):
        """a1 + a2 >= 1 from (0, 0): (1/2, 1/2), multiplier 1/2 in a = a^ + G' mu."""
        answer = one([0.0, 0.0], [[1.0], [1.0]], [1.0], [np.inf])

        assert answer.a[0] == pytest.approx([0.5, 0.5])
        assert answer.mu[0] == pytest.approx([0.5])
        assert answer.status[0] == TIGHT

    def test_a_bound_takes_what_the_row_pushes_beyond_it(self):
        """a1 + a2 >= 1 with a1 <= 0.2: (0.2, 0.8)."""
        assert one([0.0, 0.0], [[1.0], [1.0]], [1.0], [np.inf], hi=[0.2, 1.0]).a[
            0
        ] == pytest.approx([0.2, 0.8])

    def test_what_cannot_be_met_gives_way_and_says_so(self):
        """a1 + a2 >= 3 within the unit box: both at 1, one unit short."""
        answer = one([0.0, 0.0], [[1.0], [1.0]], [3.0], [np.inf], cap=100.0)

        assert answer.a[0] == pytest.approx([1.0, 1.0])
        assert answer.status[0] == SLACK and answer.kind[0, 0] == 2 and answer.mu[0, 0] == 100.0

    def test_a_low_price_of_slack_is_all_that_is_paid(self):
        """min a^2 + 2 R max(1 - a, 0) with R = 0.3: a = 0.3."""
        assert one([0.0], [[1.0]], [1.0], [np.inf], cap=0.3).a[0] == pytest.approx([0.3])

    def test_limits_that_cross_share_the_shortage(self):
        """a >= 0.5 and a <= -0.5 cost the same wherever between: the proposal stays."""
        assert one([0.1], [[1.0]], [0.5], [-0.5], cap=10.0).a[0] == pytest.approx([0.1])

    def test_two_equal_rows_are_one(self):
        answer = one([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0], [np.inf, np.inf])

        assert answer.a[0] == pytest.approx([0.5, 0.5])

    def test_a_proposal_on_its_bound_can_leave_it(self):
        """(1, 1) with a1 + a2 <= 1: (1/2, 1/2), though both start at a bound."""
        assert one([1.0, 1.0], [[1.0], [1.0]], [-np.inf], [1.0]).a[0] == pytest.approx([0.5, 0.5])


class TestAgainstAnIndependentSolver:
    @pytest.mark.parametrize("parallel", [1.0, 0.02, 1e-4])
    def test_daqp_agrees(self, parallel):
        daqp = pytest.importorskip("daqp")
        a0, lo, hi, columns, low, high = draw(1, parallel=parallel)
        answer = project(a0, lo, hi, columns, low, high, RHO)

        n, m = columns.shape
        compared = 0
        for k in np.flatnonzero((answer.status == TIGHT) | (answer.status == CLIPPED)):
            x, _, flag, _ = daqp.solve(
                np.eye(n),
                -a0[k],
                columns.T.copy(),
                np.concatenate([hi[k], high[k]]),
                np.concatenate([lo[k], low[k]]),
                np.zeros(n + m, dtype=np.int32),
            )
            if flag == 1:
                compared += 1
                assert np.abs(x - answer.a[k]).max() < 1e-7
        assert compared > 200
        assert (answer.status == TIGHT).sum() > 60

    @pytest.mark.parametrize("seed", range(3))
    def test_optimality_conditions_hold_everywhere(self, seed):
        """The problem is strictly convex, so a point that meets its conditions is the answer.

        Items with slack are included.
        """
        a0, lo, hi, columns, low, high = draw(seed, n_item=4000)
        cap = 50.0
        answer = project(a0, lo, hi, columns, low, high, cap)
        a, mu = answer.a, answer.mu
        y, pull = a @ columns, a0 + mu @ columns.T

        assert not answer.failed.any()
        assert (answer.status == SLACK).sum() > 50
        # a is the pull clipped to its box, and every multiplier is on the side that its row asks
        # for.
        assert np.abs(np.clip(pull, lo, hi) - a).max() < 1e-8
        assert (np.abs(mu) <= cap * (1 + 1e-12)).all()
        tolerance = 1e-9
        assert (y >= low - tolerance)[mu < cap].all() and (y <= high + tolerance)[mu > -cap].all()
        assert (y <= low + tolerance)[mu > 1e-9].all() and (y >= high - tolerance)[mu < -1e-9].all()


class TestDerivative:
    def test_central_differences_agree(self):
        a0, lo, hi, columns, low, high = draw(5, n_item=60)
        answer = project(a0, lo, hi, columns, low, high, RHO)
        weight = np.random.default_rng(0).normal(size=a0.shape)
        gradient = pull_back(answer, columns, weight)
        h = 1e-6
        for j in range(a0.shape[1]):
            step = h * np.eye(a0.shape[1])[j]
            up = project(a0 + step, lo, hi, columns, low, high, RHO)
            down = project(a0 - step, lo, hi, columns, low, high, RHO)
            smooth = (up.kind == down.kind).all(axis=1) & (up.side == down.side).all(axis=1)
            change = ((up.a - down.a) * weight).sum(axis=1) / (2 * h)
            assert smooth.sum() > 40
            assert np.abs(change - gradient[:, j])[smooth].max() < 1e-6

    def test_a_tight_row_lets_nothing_through_along_it(self):
        answer = one([0.0, 0.0], [[1.0], [1.0]], [1.0], [np.inf])

        assert pull_back(answer, np.array([[1.0], [1.0]]), np.array([[1.0, 0.0]]))[
            0
        ] == pytest.approx([0.5, -0.5])


class TestBadInput:
    def test_an_item_that_is_no_number_fails_alone(self):
        a0, lo, hi, columns, low, high = draw(2, n_item=4)
        a0[1, 3] = np.nan
        low[2, 0] = np.nan
        lo[3, 0], hi[3, 0] = 0.5, 0.4
        answer = project(a0, lo, hi, columns, low, high, RHO)

        assert (answer.status == FAILED).tolist() == [False, True, True, True]
        assert np.isnan(answer.a[1:]).all() and np.isfinite(answer.a[0]).all()

    def test_shapes_and_price_are_checked(self):
        a0, lo, hi, columns, low, high = draw(2, n_item=4)
        with pytest.raises(ValueError, match="low has shape"):
            project(a0, lo, hi, columns, low[:, :3], high, RHO)
        with pytest.raises(ValueError, match="columns has shape"):
            project(a0, lo, hi, columns[:4], low, high, RHO)
        with pytest.raises(ValueError, match="cap is 0"):
            project(a0, lo, hi, columns, low, high, 0.0)

    def test_an_empty_batch_is_an_empty_answer(self):
        a0, lo, hi, columns, low, high = draw(2, n_item=4)
        assert project(a0[:0], lo[:0], hi[:0], columns, low[:0], high[:0], RHO).a.shape == (0, 18)
