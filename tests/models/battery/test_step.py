"""What a step of a battery can do, by hand; the law itself is held in tests/laws/test_soc.py."""

import numpy as np
import pytest

from feederguard.models.battery import Batteries
from feederguard.models.battery.step import allowed_power, next_soc, power_interval


@pytest.fixture
def battery() -> Batteries:
    """2 pu h, at most 1 pu, 80 % in and 50 % out, half full."""
    return Batteries(
        np.array([1]), 1.0, 2.0, efficiency_charge=0.8, efficiency_discharge=0.5, soc_min=0.1
    )


def test_charging_stores_the_efficiency_s_share(battery: Batteries) -> None:
    assert next_soc(battery, [0.5], [0.5], 0.5) == pytest.approx([0.5 + 0.5 * 0.8 * 0.5 / 2])


def test_discharging_takes_more_than_it_feeds(battery: Batteries) -> None:
    assert next_soc(battery, [0.5], [-0.2], 0.5) == pytest.approx([0.5 - 0.5 * 0.2 / 0.5 / 2])


def test_the_limits_of_power_and_soc_bound_a_step(battery: Batteries) -> None:
    low, high = power_interval(battery, [[0.5], [0.2], [0.95]], 1.0)
    np.testing.assert_allclose(low[:, 0], [-0.4, -0.1, -0.85])
    np.testing.assert_allclose(high[:, 0], [1.0, 1.0, 0.125])


def test_a_soc_outside_its_limits_leaves_only_the_way_back(battery: Batteries) -> None:
    low, high = power_interval(battery, [0.05], 1.0)
    assert low == 0.0 and high > 0.0


def test_a_power_is_cut_to_what_a_step_can_do(battery: Batteries) -> None:
    assert allowed_power(battery, [0.95], [0.9], 1.0) == pytest.approx([0.125])
    assert next_soc(battery, [0.95], [0.125], 1.0) == pytest.approx([1.0], abs=0)
