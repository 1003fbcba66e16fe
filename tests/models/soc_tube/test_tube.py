"""The SOC tube as numbers: what it refuses, its digest, and the powers that lead into it."""

import numpy as np
import pytest

import feeders
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import battery_digest
from feederguard.models.network import Network
from feederguard.models.soc_tube import SocTube
from feederguard.models.soc_tube.tube import check_tube, power_towards, tube_interval


def two_buses() -> Network:
    """0 --0.1-- 1 without reactance, a substation at 1 pu, 1 MVA, band 0.95..1.05."""
    return feeders.two_buses(name="two buses", v_min=0.95, v_max=1.05)


def battery(network, energy=1.0, p_max=0.5, **changes) -> Batteries:
    """Lossless unless said otherwise, half full."""
    return Batteries.at(
        network,
        ["1"],
        p_max,
        energy,
        **({"efficiency_charge": 1.0, "efficiency_discharge": 1.0} | changes),
    )


def test_a_tube_must_be_one() -> None:
    with pytest.raises(ValueError, match="battery 0 has low 0.7 and high 0.6 before step 1"):
        SocTube(np.array([[0.1], [0.7]]), np.array([[0.2], [0.6]]))
    with pytest.raises(ValueError, match="give both"):
        SocTube(np.zeros((3, 1)), np.zeros((2, 1)))


def test_the_digest_is_of_its_numbers_and_of_what_it_is_of() -> None:
    low, high = np.zeros((3, 1)), np.ones((3, 1))
    tubes = [
        SocTube(low, high),
        SocTube(low + 0.1, high),
        SocTube(low, high - 0.1),
        SocTube(low, high, 1.0),
        SocTube(low, high, 1.0, "these"),
    ]
    assert len({tube.digest for tube in tubes}) == 5
    assert SocTube(low, high, 1.0, "these").digest == tubes[-1].digest


def test_powers_that_lead_into_the_tube() -> None:
    network = two_buses()
    unit = battery(network, efficiency_charge=0.9, efficiency_discharge=0.8)
    tube = SocTube(np.array([[0.0], [0.5], [0.5]]), np.array([[1.0], [0.6], [1.0]]))
    step = np.zeros(4, dtype=np.int64)
    low, high = tube_interval(tube, unit, np.array([[0.5], [0.4], [0.9], [0.0]]), step, 1.0)

    # From 0.5: hold, or charge 0.1 / 0.9; from 0.4: charge at least 0.1 / 0.9; from 0.9:
    # discharge 0.3 * 0.8 at least.
    assert low[:3, 0] == pytest.approx([0.0, 0.1 / 0.9, -0.4 * 0.8])
    assert high[:3, 0] == pytest.approx([0.1 / 0.9, 0.2 / 0.9, -0.3 * 0.8])
    # From empty 0.5 cannot be reached with 0.5: as near as it gets.
    assert low[3, 0] == high[3, 0] == 0.5
    assert power_towards(unit, np.array([0.5]), np.array([0.4]), 0.5) == pytest.approx(
        [-0.1 * 0.8 / 0.5]
    )


def test_a_tube_of_other_batteries_or_of_another_step_is_refused():
    network = two_buses()
    unit = battery(network)
    tube = SocTube(np.zeros((3, 1)), np.ones((3, 1)), 1.0, battery_digest(unit))
    check_tube(tube, network, battery(network), 1.0)
    for changes in ({"energy": 2.0}, {"soc_start": 0.4}, {"soc_end": 0.5}):
        with pytest.raises(
            ValueError,
            match="two buses: the SOC tube is of batteries with other numbers .*; compute it",
        ):
            check_tube(tube, network, battery(network, **changes), 1.0)
    with pytest.raises(
        ValueError,
        match="two buses: the SOC tube is of steps of 1 h and not of 0.25 h; compute it with",
    ):
        check_tube(tube, network, unit, 0.25)
    with pytest.raises(ValueError, match="the SOC tube is of 2 batteries and there are 1; comp"):
        check_tube(SocTube(np.zeros((3, 2)), np.ones((3, 2))), network, unit, 1.0)
