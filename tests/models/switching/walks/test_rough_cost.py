"""Estimated costs by hand, and against the least shedding by AC power flow."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import make_scenarios
from feederguard.models.load_transfer.least_shedding import Candidates, race_topologies
from feederguard.models.network import Network
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.walks.walker import Walker
from feeders import feeder, two_buses


def shed_mw(network: Network, fault: str, closed: list[str]) -> float:
    """Return the estimated S of one state of a feeder with 1 MVA base, in MW."""
    plans, scenarios = SwitchPlans(network, "radial"), make_scenarios(network, [fault])
    state = np.isin(network.branch_name, closed)[None]
    walker = Walker(plans, scenarios)
    # Later estimates begin at the voltages of the earlier ones.
    cost = walker.estimates(np.repeat(state, 10, axis=0))[-1]
    operations = plans.operations(scenarios.lost(0), state)[0]
    return float(np.sqrt(max(cost - 3 * operations**2, 0) / 22) * 0.1)


def test_current_limit_by_hand() -> None:
    # No impedance to speak of: 2 MW at 1 pu are a current of 2, and 1.5 may flow.
    lines = feeder("a:0-1 t:0~1", p_load=[0, 2.0], r=1e-6, x=0.0, rating=1.5)
    assert shed_mw(lines, "a", ["t"]) == pytest.approx(0.5, abs=1e-4)


def test_the_load_of_the_worst_power_factor_goes_first() -> None:
    # Loads of 1 + 0j and 1 + 1j: the current is |2 + 1j|, and at |1.5 + 0.5j| half of the second
    # is gone.
    lines = feeder(
        "a:0-1 b:1-2 t:0~1",
        p_load=[0, 1.0, 1.0],
        q_load=[0, 0.0, 1.0],
        r=1e-6,
        x=0.0,
        rating=abs(1.5 + 0.5j),
    )
    # Along the current the first half of it is worth a little more.
    assert shed_mw(lines, "a", ["b", "t"]) == pytest.approx(0.5, abs=0.015)


def test_voltage_limit_by_hand() -> None:
    # V (1 - V) = r p at unity power factor: at V = 0.9 and r = 0.1, p = 0.9.
    line = feeder("a:0-1 t:0~1", p_load=[0, 1.0], r=0.1, x=0.0)
    assert shed_mw(line, "a", ["t"]) == pytest.approx(0.1, abs=1e-4)


def test_what_is_dark_is_shed() -> None:
    assert shed_mw(two_buses(p_load=[0, 0.7]), "l", []) == pytest.approx(0.7)


@pytest.mark.parametrize(
    # On ieee33 many voltages bind at once: shedding for one after the other then costs more.
    ("name", "factor", "apart"),
    [("ieee33", 1.8, 0.3), ("mantovani136", 1.6, 0.1)],
)
def test_estimates_are_near_the_least_shedding_by_ac_power_flow(
    name: str, factor: float, apart: float
) -> None:
    network = load_network(name)
    network = network.with_changes(p_load=factor * network.p_load, q_load=factor * network.q_load)
    plans, scenarios = SwitchPlans(network, "radial"), make_scenarios(network, ["3"])
    states = plans.plain(scenarios.lost(0))[:6]
    estimates = [Walker(plans, scenarios).estimates(np.tile(row, (4, 1)))[-1] for row in states]
    one_each = Candidates.one_each(states)
    items = scenarios[np.zeros(len(states), dtype=np.int64)]
    exact = race_topologies(network, items, one_each, "radial").cost
    assert (exact > 100).all()
    assert estimates == pytest.approx(exact, rel=apart)
