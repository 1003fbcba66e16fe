"""The record of a training, from steps written by hand."""

from typing import Any

import numpy as np

from feederguard.agents.training_record import TrainingLog, WatchedLayer


class Answer:
    p = np.array([[0.1], [0.2]])
    status = np.array([1, 0])


class Two:
    """A layer that answers two items alike each time."""

    statuses = ("as_proposed", "corrected")
    fallbacks = 3

    def correct(self, state: Any, p_proposed: Any) -> Answer:
        return Answer()


def info(excess: float) -> dict[str, Any]:
    outside = max(excess, 0.0)
    return {
        "n_violations": np.array([int(outside > 0), 0]),
        "worst_excess_pu": np.array([outside, 0.0]),
        "regulation_kwh": np.array([2.0, 3.0]),
    }


def test_days_come_in_the_order_of_their_ends_and_unfinished_ones_last() -> None:
    layer: Any = Two()
    watched = WatchedLayer(layer)
    log = TrainingLog(2, watched)
    for ended, excess in (([False, False], 0.02), ([False, True], 0.01), ([False, False], -1.0)):
        assert (watched.correct(None, np.zeros((2, 1))) == Answer.p).all()  # type: ignore[arg-type]
        log.add(np.array([-1.0, -2.0]), info(excess), np.array(ended))
    layer.fallbacks = 5
    record = log.record(6, 1.5)

    assert record.reward.tolist() == [-4.0, -3.0, -2.0]
    assert record.n_steps.tolist() == [2, 3, 1]
    assert record.n_violation_steps.tolist() == [0, 2, 0]
    assert record.worst_excess_pu.tolist() == [0.0, 0.02, 0.0]
    assert record.regulation_kwh.tolist() == [6.0, 6.0, 3.0]
    assert record.status_steps.tolist() == [[2, 0], [0, 3], [1, 0]]
    assert record.status_counts == {"as_proposed": 3, "corrected": 3}
    assert (record.steps, record.seconds, record.fallbacks) == (6, 1.5, 2)


def test_without_a_layer_there_are_no_statuses() -> None:
    log = TrainingLog(2, None)
    log.add(np.zeros(2), info(0.0), np.array([True, False]))
    record = log.record(2, 0.1)
    assert record.statuses == () and record.status_steps.shape == (2, 0)
    assert record.status_counts == {} and record.fallbacks == 0
