"""Observations of voltage regulation by hand, and the way back to states."""

from typing import Any

import numpy as np
import pytest
import torch

from feederguard.agents.environments.voltage_observation import (
    batteries_text,
    check_observable,
    cut_to_limits,
    observe,
    read_observations,
    soc_columns,
)
from feederguard.data.voltage_cases import VoltageCase, load_voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import VoltageDays, VoltageState
from feederguard.models.voltage_regulation.demand import idle_voltages, net_demand
from feeders import battery, pair


def generous(**changes: Any) -> Network:
    """`pair` with a nominal load of 0.5 + 0.2j and 2 of generation at bus 1."""
    return pair(**{"p_load": [0, 0.5], "q_load": [0, 0.2], "p_gen": [0, 2.0]} | changes)


BATTERY = battery()


@pytest.fixture(scope="module")
def case() -> VoltageCase:
    return load_voltage_case(weeks="test")


def test_the_observation_by_hand() -> None:
    state = VoltageState(
        np.array([[0.0, 1.0]]),
        np.array([[0.0, -0.1]]),
        np.array([[1.0, 0.98]]),
        np.array([[0.25]]),
        np.array([2]),
    )
    found = observe(generous(), BATTERY, state, n_step=8)
    assert found.dtype == np.float32
    # 1 of 2 installed; -0.1 of 0.2; 0.02 below the middle of a band of 0.05 either way; a quarter
    # of a day.
    assert found == pytest.approx(np.array([[0.5, -0.5, -0.4, 0.25, 1.0, 0.0]]), abs=1e-6)


def test_reading_is_the_inverse_of_observing(case: VoltageCase) -> None:
    rng = np.random.default_rng(0)
    step = np.arange(96)
    p_net, q_net = net_demand(case.network, case.days)
    v_idle = idle_voltages(case.network, case.days[5])[0]
    state = VoltageState(p_net[5], q_net[5], v_idle, rng.random((96, 18)), step)
    again = read_observations(
        case.network, case.batteries, observe(case.network, case.batteries, state)
    )
    assert np.array_equal(again.step, step)
    for name in ("p_net", "q_net", "v_idle", "soc"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(state, name), atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("n_step", [1, 2, 3, 24, 96, 288, 1440])
def test_the_step_is_read_exactly(n_step: int) -> None:
    step = np.arange(n_step)
    zero = np.zeros((n_step, 2))
    state = VoltageState(zero, zero, zero + 1.0, np.full((n_step, 1), 0.5), step)
    again = read_observations(
        generous(), BATTERY, observe(generous(), BATTERY, state, n_step), n_step
    )
    assert np.array_equal(again.step, step)


def test_an_idle_flow_without_solution_is_read_back_as_none() -> None:
    state = VoltageState(
        np.array([[0.0, 3.0]]),
        np.zeros((1, 2)),
        np.full((1, 2), np.nan),
        np.array([[0.5]]),
        np.array([0]),
    )
    found = observe(generous(), BATTERY, state)
    assert np.isfinite(found).all()
    assert np.isnan(read_observations(generous(), BATTERY, found).v_idle).all()


def test_states_and_observations_that_are_none_are_refused() -> None:
    state = VoltageState(
        np.array([[0.0, np.nan]]),
        np.zeros((1, 2)),
        np.ones((1, 2)),
        np.array([[0.5]]),
        np.array([0]),
    )
    with pytest.raises(
        ValueError, match="pair: p_net of bus '1' in state 0 is not finite; give a number"
    ):
        observe(generous(), BATTERY, state)
    with pytest.raises(
        ValueError,
        match=r"pair: observations have shape \(1, 5\); expected \(B, 6\), rows of observe",
    ):
        read_observations(generous(), BATTERY, np.zeros((1, 5)))


def test_where_soc_stands() -> None:
    state = VoltageState(
        np.zeros((1, 2)), np.zeros((1, 2)), np.ones((1, 2)), np.array([[0.25]]), np.zeros(1, int)
    )
    assert observe(generous(), BATTERY, state)[0, soc_columns(generous(), BATTERY)].tolist() == [
        0.25
    ]


def test_demand_without_a_place_in_the_observation_is_refused() -> None:
    load = np.full((1, 1, 2), 0.1)
    days = VoltageDays(load, 0 * load, 0 * load, 1.0, "2016-02-01")
    with pytest.raises(
        ValueError, match="pair: the days have active demand at bus '0', which has no nominal one"
    ):
        check_observable(generous(), days)


def test_what_is_cut_off_has_no_gradient() -> None:
    """From SOC 0.1 an hour of discharging leaves 0.1 * 0.5 = 0.05, a tenth of p_max."""
    actions = torch.tensor([[-0.8], [-0.05], [2.0]], dtype=torch.float64, requires_grad=True)
    cut = cut_to_limits(BATTERY, np.array([[0.1]] * 3), actions, 1.0)
    cut.sum().backward()
    assert cut.detach().numpy()[:, 0] == pytest.approx([-0.1, -0.05, 1.0])
    assert actions.grad is not None and actions.grad[:, 0].tolist() == [0.0, 1.0, 0.0]


def test_batteries_with_other_numbers_have_another_text() -> None:
    texts = {
        batteries_text(generous(), Batteries([1], p_max, 1.0, soc_end=end, name=("b",)))
        for p_max in (0.5, 0.6)
        for end in (None, 0.5)
    }
    assert len(texts) == 4
