"""The network's own limits, sources outside them, cables that hang, what is out of service.

`voltage_band` and `current_limit_pu` of setting.py and rules.py, judged and searched.
"""

import numpy as np
import pandapower
import pytest

from feederguard.baselines.misocp import Misocp
from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Decisions, Setting, judge, make_scenarios
from feederguard.models.load_transfer.setting import resolve_setting, voltage_band
from feederguard.models.network import Network, NetworkError
from feeders import feeder

RADIAL = Setting("radial", True, 0.90, 1.05)


def ring(**given: object) -> Network:
    """Return 0-1-2-3 with a tie from 0 to 3; 0.1 MW each."""
    return feeder("a:0-1 b:1-2 c:2-3 t:0~3", p_load=[0.0, 0.1, 0.1, 0.1], **given)


def test_the_tighter_of_network_and_setting_holds() -> None:
    band = voltage_band(ring(v_min=[0.9, 0.97, 0.8, 0.9], v_max=[1.1, 1.1, 1.02, 1.1]), RADIAL)
    assert band.low.tolist() == [0.9, 0.97, 0.9, 0.9]
    assert band.high.tolist() == [1.05, 1.05, 1.02, 1.05]
    assert not band.beyond.any()


def test_an_emergency_factor_widens_the_networks_limits_about_1_pu() -> None:
    network = ring(v_min=0.97, v_max=1.02, emergency_voltage_factor=2.0)
    band = voltage_band(network, RADIAL)
    assert band.low == pytest.approx(np.full(4, 0.94))
    assert band.high == pytest.approx(np.full(4, 1.04))


@pytest.mark.parametrize("name", ["kraftringen533", "mantovani136", "ieee33", "bus69"])
def test_bundled_feeders_keep_the_band_of_the_setting(name: str) -> None:
    network = load_network(name)
    band = voltage_band(network, resolve_setting(network, "radial"))
    free = ~np.isin(np.arange(network.n_bus), network.substation)
    assert set(band.low[free]) == {0.90}
    assert set(band.high[free]) == {1.05}


def test_a_bus_below_its_own_limit_is_not_safe() -> None:
    # 0.3 MW over 0.15 + 0.1 + 0.05 pu: bus 3 falls to about 0.94 pu.
    for own_limit, safe in ((0.90, True), (0.97, False)):
        network = ring(r=0.1, x=0.0, v_min=own_limit)
        closed = np.array([[True, True, True, False]])
        outcome = judge(
            network.with_changes(closed=[True, True, True, False]),
            make_scenarios(network, "t"),
            Decisions(closed, np.zeros((1, 4))),
            RADIAL,
        )
        assert 0.93 < outcome.v_min_pu[0] < 0.95
        assert bool(outcome.safe[0]) is safe


def test_an_empty_band_is_refused_by_bus() -> None:
    network = ring(v_min=1.06, v_max=1.1, v_substation=[1.07])
    with pytest.raises(NetworkError, match=r"bus '1' has limits 1\.06 to 1\.1 pu and the radial"):
        voltage_band(network, RADIAL)


def test_a_source_above_the_limit_sheds_nobody() -> None:
    network = ring(v_substation=[1.06])
    with pytest.warns(UserWarning, match=r"3 bus\(es\) are outside their limits with nothing dr"):
        voltage_band(network, RADIAL)
    scenarios = make_scenarios(network, ["a", "b", "c"])
    decisions = PlanSearch(network, RADIAL).decide(scenarios)
    outcome = judge(network, scenarios, decisions, RADIAL)
    assert outcome.safe.all()
    assert (outcome.shed_ratio == 0).all()
    assert (outcome.n_operations == 1).all()


def test_what_rises_above_an_unhelpable_bus_is_still_refused() -> None:
    """Generation that lifts the voltage further is no fault of the source."""
    network = ring(v_substation=[1.06], p_gen=[0.0, 0.0, 0.0, 2.0])
    with pytest.warns(UserWarning, match="no switching or shedding helps"):
        outcome = judge(
            network,
            make_scenarios(network, "a"),
            Decisions(np.array([[False, True, True, True]]), np.zeros((1, 4))),
            RADIAL,
        )
    assert not outcome.safe[0]


def test_a_rating_factor_allows_an_emergency_overload() -> None:
    network = ring(r=0.01, rating=[1.0, 1.0, 1.0, 0.28])
    scenarios = make_scenarios(network, "a")
    closed = Decisions(np.array([[False, True, True, True]]), np.zeros((1, 4)))
    assert not judge(network, scenarios, closed, RADIAL).safe[0]
    emergency = Setting("own", True, 0.90, 1.05, rating_factor=1.2)
    outcome = judge(network, scenarios, closed, emergency)
    assert outcome.safe[0]
    assert 0.85 < outcome.max_loading[0] <= 1.0


def hanging(rating: float) -> Network:
    """Return the ring with a tie that hangs from bus 0 and charges 0.2 pu of current."""
    return ring(open_end=[0, 0, 0, 2], b_from=[0, 0, 0, 0.1], b_to=[0, 0, 0, 0.1], rating=rating)


def test_an_open_cable_is_limited_by_its_rating() -> None:
    scenarios = make_scenarios(hanging(1.0), "c")
    for rating, safe in ((1.0, True), (0.15, False)):
        network = hanging(rating).with_changes(rating=[1.0, 1.0, 1.0, rating])
        left = Decisions(np.array([[True, True, False, False]]), np.zeros((1, 4)))
        outcome = judge(network, scenarios, left, RADIAL)
        assert bool(outcome.safe[0]) is safe


def test_searches_close_a_cable_that_hangs_without_shedding() -> None:
    network = hanging(1.0)
    scenarios = make_scenarios(network, ["a", "b", "c"])
    for method in (PlanSearch(network, RADIAL), Misocp(network, RADIAL)):
        outcome = judge(network, scenarios, method.decide(scenarios), RADIAL)
        assert outcome.safe.all(), method.name
        assert outcome.cost == pytest.approx([3.0, 3.0, 3.0]), method.name


def test_the_state_with_a_hanging_cable_is_that_of_pandapower() -> None:
    network = hanging(1.0)
    net = network.to_pandapower()
    pandapower.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-10)
    left = Decisions(network.closed[None], np.zeros((1, 4)))
    outcome = judge(
        network.with_changes(closed=network.closed), make_scenarios(network, "t"), left, RADIAL
    )
    assert outcome.v_min_pu[0] == pytest.approx(net.res_bus.vm_pu.min(), abs=1e-8)


def test_what_is_out_of_service_is_never_closed() -> None:
    network = feeder(
        "a:0-1 b:1-2 c:2-3 t:0~3 u:0~2",
        p_load=[0.0, 0.1, 0.1, 0.1],
        in_service=[True, True, True, False, True],
    )
    assert network.is_tie.tolist() == [False, False, False, False, True]
    # Without t, line c lies on no loop, so nobody can open it.
    switchable = RADIAL.switchable_branches(network)
    assert switchable.tolist() == [True, True, False, False, True]
    scenarios = make_scenarios(network, ["a", "b", "c"])
    for method in (PlanSearch(network, RADIAL), Misocp(network, RADIAL)):
        decisions = method.decide(scenarios)
        assert not decisions.closed[:, 3].any()
    with pytest.raises(NetworkError, match="branch 't' is out of service, so nobody can switch it"):
        Setting("own", True, 0.9, 1.05, switchable=("t",)).switchable_branches(network)


def test_a_closed_branch_is_in_service() -> None:
    with pytest.raises(NetworkError, match="branch 'b' is closed and out of service; open it"):
        ring(in_service=[True, False, True, True])


def test_several_branches_fail_at_once() -> None:
    network = feeder("a:0-1 b:1-2 c:2-3 t:0~3 u:0~2", p_load=[0.0, 0.1, 0.1, 0.1])
    scenarios = make_scenarios(network, ["a", ("a", "b"), ("b", "t")])
    assert scenarios.lost(0) == 0
    assert scenarios.lost(1) == (0, 1)
    assert scenarios.failed_branches(5).sum(axis=1).tolist() == [1, 2, 2]
    for method in (PlanSearch(network, RADIAL), Misocp(network, RADIAL)):
        decisions = method.decide(scenarios)
        outcome = judge(network, scenarios, decisions, RADIAL)
        assert outcome.safe.all(), method.name
        # a: close one tie. a and b: bus 1 stays dark, 1 bus of 0.1 MW: 22 + 3. b and t: close u.
        assert outcome.cost == pytest.approx([3.0, 25.0, 3.0], rel=1e-6), method.name
    both = Decisions(np.array([[False, True, True, True, False]] * 3), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="decision 1 closes the faulted branch 'b'"):
        judge(network, scenarios, both, RADIAL)
