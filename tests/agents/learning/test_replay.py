"""The replay memory: order, wrapping, sampling, and what it refuses."""

import numpy as np
import pytest

from feederguard.agents.learning.replay import Replay


def add(memory, values, terminated=0.0):
    """Store one transition per value, recognisable by it."""
    column = np.asarray(values, dtype=float)[:, None]
    memory.add(
        np.hstack([column, column]),
        column,
        column[:, 0],
        np.hstack([column, column]) + 0.5,
        column[:, 0] * terminated,
    )


def test_the_oldest_are_overwritten():
    memory = Replay(4, 2, 1)
    add(memory, [1, 2, 3])
    assert len(memory) == 3
    add(memory, [4, 5])
    assert len(memory) == 4
    assert set(memory.sample(400).rewards) == {2.0, 3.0, 4.0, 5.0}


def test_a_batch_beyond_capacity_leaves_its_last_ones_and_the_ring_goes_on():
    memory = Replay(3, 2, 1)
    add(memory, [1])
    add(memory, [2, 3, 4, 5, 6])
    assert set(memory.sample(400).rewards) == {4.0, 5.0, 6.0}
    add(memory, [7])
    assert set(memory.sample(400).rewards) == {5.0, 6.0, 7.0}


def test_a_sample_keeps_each_transition_together_in_float32():
    memory = Replay(10, 2, 1)
    add(memory, range(10), terminated=1.0)
    drawn = memory.sample(50)
    assert len(drawn) == 50
    assert all(array.dtype == np.float32 for array in vars(drawn).values())
    np.testing.assert_array_equal(drawn.actions[:, 0], drawn.rewards)
    np.testing.assert_array_equal(
        drawn.observations, np.stack([drawn.rewards, drawn.rewards], axis=1)
    )
    np.testing.assert_array_equal(drawn.next_observations, drawn.observations + 0.5)
    np.testing.assert_array_equal(drawn.terminated, drawn.rewards)


def test_one_seed_draws_the_same_twice_and_another_does_not():
    drawn = []
    for seed in (3, 3, 4):
        memory = Replay(100, 2, 1, seed)
        add(memory, range(100))
        drawn.append(memory.sample(30).rewards)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_what_it_refuses():
    with pytest.raises(ValueError, match="capacity is 0; it must hold at least one"):
        Replay(0, 2, 1)
    memory = Replay(4, 2, 1)
    with pytest.raises(
        ValueError, match="the memory is empty; remember transitions before sampling"
    ):
        memory.sample(1)
    right = np.zeros((3, 2)), np.zeros((3, 1)), np.zeros(3), np.zeros((3, 2)), np.zeros(3)
    with pytest.raises(
        ValueError, match=r"replay: actions has shape \(3, 2\); expected \('B', 1\)"
    ):
        memory.add(right[0], np.zeros((3, 2)), *right[2:])
    with pytest.raises(ValueError, match=r"replay: terminated has shape \(2,\)"):
        memory.add(*right[:4], np.zeros(2))
    with pytest.raises(ValueError, match=r"replay: observations has shape \(3, 2\)"):
        memory.add(*right[:2], 1.0, *right[3:])
    with pytest.raises(ValueError, match="replay: rewards holds a value that is not finite"):
        memory.add(*right[:2], np.array([0.0, np.nan, 0.0]), *right[3:])
    assert len(memory) == 0


def test_a_share_of_a_sample_comes_from_the_marked():
    memory = Replay(100, 2, 1)
    for value in range(100):
        memory.add([[value, value]], [[value]], [value], [[value, value]], [0.0], [value in (7, 8)])
    drawn = memory.sample(1000, marked_share=0.5).rewards
    assert np.isin(drawn[:500], (7, 8)).all() and np.isin(drawn, (7, 8)).mean() < 0.55
    add(memory, range(100))  # overwritten by transitions without a mark
    assert len(np.unique(memory.sample(1000, marked_share=0.5).rewards)) > 90


def test_marks_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"replay: marked has shape \(2,\); expected \(1,\), one per transition"
    ):
        Replay(4, 2, 1).add([[1, 1]], [[1]], [1], [[1, 1]], [0.0], [True, False])
