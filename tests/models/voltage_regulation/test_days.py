"""Days and states: what they refuse, and how some of them are picked."""

import numpy as np
import pytest

from feederguard.models.voltage_regulation import VoltageDays, VoltageState
from feederguard.models.voltage_regulation.days import check_steps


def days() -> VoltageDays:
    """Three days of two steps; demand rises at bus 1."""
    load = np.zeros((3, 2, 2))
    load[:, :, 1] = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]
    return VoltageDays(load, 0 * load, 0 * load, 1.0, np.datetime64("2016-02-01") + np.arange(3))


@pytest.mark.parametrize("name", ["p_load", "q_load", "p_gen"])
def test_demand_that_is_no_number_is_named(name):
    values = {key: np.zeros((2, 3, 2)) for key in ("p_load", "q_load", "p_gen")}
    values[name][1, 2, 1] = np.nan
    with pytest.raises(
        ValueError,
        match=f"days: {name} of bus 1 on 2016-02-02 at step 2 is nan; give a finite number",
    ):
        VoltageDays(**values, step_h=1.0, date=np.array(["2016-02-01", "2016-02-02"]))


def test_days_that_do_not_fit_are_refused():
    zero = np.zeros((2, 3, 2))
    date = np.array(["2016-02-01", "2016-02-02"])
    with pytest.raises(
        ValueError,
        match=r"days: q_load has shape \(2, 3, 1\); expected \(2, 3, 2\), that of p_load",
    ):
        VoltageDays(zero, zero[..., :1], zero, 1.0, date)
    with pytest.raises(
        ValueError,
        match=r"days: p_load has shape \(3, 2\); give \(B, T, n_bus\), T steps of B days",
    ):
        VoltageDays(zero[0], zero[0], zero[0], 1.0, date)
    with pytest.raises(ValueError, match="days: 2 dates for 1 days; give each day its date"):
        VoltageDays(zero[:1], zero[:1], zero[:1], 1.0, date)
    with pytest.raises(
        ValueError,
        match="days: step_h is 0.0; it must be a positive number of hours",
    ):
        VoltageDays(zero, zero, zero, 0.0, date)
    with pytest.raises(ValueError, match="days: date of day 1 is NaT; give a calendar day"):
        VoltageDays(zero, zero, zero, 1.0, np.array(["2016-02-01", "NaT"], dtype="datetime64[D]"))
    with pytest.raises(
        ValueError, match="days: date is 'someday'; give calendar days, such as '2016-01-31'"
    ):
        VoltageDays(zero[:1], zero[:1], zero[:1], 1.0, "someday")


def test_days_are_picked_by_number_slice_and_mask():
    three = days()
    assert len(three) == 3 and three.n_step == 2
    assert (
        three[1].p_load[0, :, 1].tolist() == [0.3, 0.4]
        and three[1].date.tolist() == three.date[1:2].tolist()
    )
    assert len(three[1:]) == 2 and three[np.array([True, False, True])].p_load[1, 1, 1] == 0.6
    with pytest.raises(ValueError, match="read-only"):
        three.p_load[0, 0, 0] = 1.0


def test_states_are_picked_alike():
    state = VoltageState(np.eye(3), np.eye(3), np.eye(3), np.full((3, 1), 0.5), np.arange(3))
    assert len(state[1:]) == 2 and state[1:].step.tolist() == [1, 2] and state[1:].step_h is None
    known = VoltageState(
        np.eye(3), np.eye(3), np.eye(3), np.full((3, 1), 0.5), np.arange(3), 0.5, 48
    )
    assert (known[[0]].step_h, known[[0]].n_step) == (0.5, 48)


def test_a_method_made_for_other_days_is_refused():
    with pytest.raises(ValueError, match="droop was made for steps of 0.5 h, and the days have"):
        check_steps("droop", 0.5, None, days())
    with pytest.raises(ValueError, match="it was made for days of 3 steps, and these have 2"):
        check_steps("it", 1.0, 3, days())
    check_steps("it", 1.0, None, days())
    check_steps("it", 1.0, 2, days())
