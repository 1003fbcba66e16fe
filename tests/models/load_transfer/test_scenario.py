"""Scenarios are checked where the user's values enter; batches slice like arrays."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Decisions, make_scenarios
from feederguard.models.network import Network, NetworkError
from feeders import feeder
from switched_feeder import switched_feeder


@pytest.fixture(scope="module")
def ieee33() -> Network:
    return load_network("ieee33")


def test_one_fault_at_nominal_load(ieee33: Network) -> None:
    scenarios = make_scenarios(ieee33, 5)
    assert len(scenarios) == 1
    assert scenarios.fault.tolist() == [5]
    assert np.array_equal(scenarios.p_load[0], ieee33.p_load)
    assert np.array_equal(scenarios.q_load[0], ieee33.q_load)
    assert np.array_equal(scenarios.p_gen[0], ieee33.p_gen)


def test_faults_by_index_and_by_name_mix(ieee33: Network) -> None:
    scenarios = make_scenarios(ieee33, np.array([0, ieee33.branch_name[7], 31], dtype=object))
    assert scenarios.fault.tolist() == [0, 7, 31]
    assert scenarios.p_load.shape == (3, ieee33.n_bus)


def test_each_scenario_keeps_its_own_demand(ieee33: Network) -> None:
    level = np.array([[0.5], [1.2]])
    scenarios = make_scenarios(ieee33, [3, 4], p_load=level * ieee33.p_load)
    assert np.array_equal(scenarios.p_load, level * ieee33.p_load)
    assert np.array_equal(scenarios.q_load, np.stack([ieee33.q_load] * 2))


@pytest.mark.parametrize(
    "items", [slice(1, 3), [1, 2], np.array([1, 2]), np.array([False, True, True])]
)
def test_some_scenarios_are_a_batch(ieee33: Network, items: slice) -> None:
    scenarios = make_scenarios(
        ieee33, [3, 4, 5], p_load=np.array([[1.0], [2.0], [3.0]]) * ieee33.p_load
    )
    some = scenarios[items]
    assert len(some) == 2
    assert some.fault.tolist() == [4, 5]
    assert np.array_equal(some.p_load, scenarios.p_load[1:])


def test_some_decisions_are_a_batch() -> None:
    decisions = Decisions(np.eye(3, dtype=bool), np.arange(6.0).reshape(3, 2) / 10)
    some = decisions[[2, 0]]
    assert len(some) == 2
    assert some.closed.tolist() == [[False, False, True], [True, False, False]]
    assert some.shed.tolist() == [[0.4, 0.5], [0.0, 0.1]]


@pytest.mark.parametrize("fault", [-1, 37])
def test_a_fault_outside_the_feeder_is_refused(ieee33: Network, fault: int) -> None:
    with pytest.raises(
        ValueError,
        match=f"ieee33: fault is {fault}; branches are numbered 0 to 36",
    ):
        make_scenarios(ieee33, [3, fault])


def test_an_unknown_branch_name_is_refused(ieee33: Network) -> None:
    with pytest.raises(NetworkError, match=r"ieee33: no branch, device or bus 'L99'; branches are"):
        make_scenarios(ieee33, "L99")


def test_a_shape_that_does_not_fit_is_refused(ieee33: Network) -> None:
    with pytest.raises(
        ValueError, match=r"q_load has shape \(32,\); expected \(33,\) or \(2, 33\) for 2 fault"
    ):
        make_scenarios(ieee33, [3, 4], q_load=np.zeros(32))
    with pytest.raises(ValueError, match=r"p_gen has shape \(3, 33\)"):
        make_scenarios(ieee33, [3, 4], p_gen=np.zeros((3, 33)))


def test_negative_nominal_generation_is_load() -> None:
    network = feeder("l:0-1 m:1-2", p_load=[0, 0.5, -0.1], p_gen=[0, -0.2, 0.3])

    scenarios = make_scenarios(network, ["l"])

    np.testing.assert_allclose(scenarios.p_load, [[0, 0.7, 0]])
    np.testing.assert_allclose(scenarios.p_gen, [[0, 0, 0.4]])


@pytest.mark.parametrize("name", ["p_load", "p_gen"])
def test_negative_active_power_is_refused(ieee33: Network, name: str) -> None:
    value = np.zeros((2, ieee33.n_bus))
    value[1, 6] = -0.25
    message = rf"{name} of bus '7' in scenario 1 is -0.25; it must not be negative"
    with pytest.raises(ValueError, match=message):
        make_scenarios(ieee33, [3, 4], **{name: value})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_demand_that_is_not_finite_is_refused(ieee33: Network, value: float) -> None:
    q_load = ieee33.q_load.copy()
    q_load[2] = value
    with pytest.raises(
        ValueError, match=rf"q_load of bus '3' in scenario 0 is {value}; give a finite number"
    ):
        make_scenarios(ieee33, 3, q_load=q_load)


def test_capacitive_reactive_demand_is_accepted(ieee33: Network) -> None:
    assert np.array_equal(
        make_scenarios(ieee33, 3, q_load=-ieee33.q_load).q_load[0], -ieee33.q_load
    )


def test_generators_that_wait_for_a_dispatch_are_warned_of(ieee33: Network) -> None:
    network = ieee33.with_changes(
        gen_name=("g",),
        gen_bus=[5],
        gen_p_min=[0.0],
        gen_p_max=[1.0],
        gen_q_min=[0.0],
        gen_q_max=[0.0],
    )
    with pytest.warns(
        UserWarning, match="ieee33: its 1 dispatchable generators feed nothing here, .* give p_gen"
    ):
        make_scenarios(network, ["6"])


def test_with_devices_a_fault_takes_its_block() -> None:
    """As in the table of the feeder drawn by hand: bus 7 dies with f, and g and K isolate it."""
    network = switched_feeder()

    scenarios = make_scenarios(network, ["bus:7", ("b", "g"), "device:T2"])

    assert scenarios.failed is not None
    out = ["".join(network.branch_name[b] for b in np.flatnonzero(row)) for row in scenarios.failed]
    assert out == ["fgK", "bg", "ght"]
    assert [network.branch_name[b] for b in scenarios.fault] == ["f", "b", "g"]


def test_a_dead_source_with_load_or_generation_of_its_own_is_refused() -> None:
    network = switched_feeder()
    faults, zero = ["f", "bus:0"], np.zeros((2, 12))
    make_scenarios(network, faults)

    for name in ("p_load", "q_load", "p_gen"):
        at_source = zero.copy()
        at_source[1, 0] = 0.01
        message = "hand: fault 1 kills the source at bus '0', which has load or generation of its"
        with pytest.raises(NetworkError, match=message):
            make_scenarios(network, faults, **{name: at_source})
        make_scenarios(network, ["bus:0", "f"], **{name: at_source})


def test_a_source_that_loses_its_only_line_keeps_its_own_load() -> None:
    """Without devices the line alone is out of use, and the bus it left is alive."""
    assert len(make_scenarios(feeder("a:0-1 b:1-2", p_load=[0.1, 0.1, 0.1]), ["a", "b"])) == 2
