"""The judge by hand: cost, reward, limits, darkness and every refusal."""

from dataclasses import replace

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import (
    Decisions,
    Outcomes,
    Scenarios,
    Setting,
    judge,
    make_scenarios,
)
from feederguard.models.load_transfer.scenario import demand_after_shedding
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import energised_buses
from feederguard.models.power_flow import solve_power_flow
from feeders import feeder

FIELDS = tuple(Outcomes.__dataclass_fields__)


def ring_and_leaf(rating: float = np.inf, limit_mw: float = 0.09, x: float = 0.01) -> Network:
    """Lines without resistance, so that power flows are sums of loads; pu of 1 MVA.

    0 --a-- 1 --b-- 2 --c-- 3
    |       |               .
    |       f-- 5           .
    +--d-- 4 . . . e . . . .+
    """
    return feeder(
        "a:0-1 b:1-2 c:2-3 d:0-4 e:4~3 f:1-5",
        p_load=[0.0, 0.05, 0.06, 0.06, 0.05, 0.02],
        r=0.0,
        x=x,
        rating=rating,
        paper_limit_mw=limit_mw,
    )


def decide(network: Network, closed: str, **shed: float) -> Decisions:
    """A batch of one: the branches that are closed, as letters, and shed fractions as b2=0.5."""
    fractions = np.zeros(network.n_bus)
    for bus, fraction in shed.items():
        fractions[int(bus[1:])] = fraction
    return Decisions(np.isin(network.branch_name, list(closed))[None], fractions[None])


def outcome_of(
    network: Network, fault: str, closed: str, setting: str | Setting, **shed: float
) -> dict[str, float]:
    outcome = judge(
        network, make_scenarios(network, fault), decide(network, closed, **shed), setting
    )
    assert len(outcome) == 1
    return {name: getattr(outcome, name)[0] for name in FIELDS}


def test_a_safe_transfer_by_hand() -> None:
    # Half of bus 2 and a tenth of bus 3 are shed: 0.036 MW, 22 * 0.36^2 + 3 * 1 = 5.8512. Total
    # load 0.24 MW. e carries 0.054 + 0.03 = 0.084 of the 0.09 MW allowed.
    found = outcome_of(ring_and_leaf(), "b", "acdef", "paper", b2=0.5, b3=0.1)
    assert found["cost"] == pytest.approx(5.8512)
    assert found["reward"] == pytest.approx(1 / 6.8512)
    assert found["shed_ratio"] == pytest.approx(0.15)
    assert found["n_operations"] == 1
    assert found["safe"] and found["converged"] and found["connected"]
    assert found["max_loading"] == pytest.approx(0.084 / 0.09)
    assert found["worst_violation"] == 0.0
    assert 0.99 < found["v_min_pu"] < 1.0


def test_a_broken_power_limit_costs_five() -> None:
    # e carries 0.12 MW: a third over its limit. The cost asks only for the switch.
    found = outcome_of(ring_and_leaf(), "b", "acdef", "paper")
    assert found["cost"] == pytest.approx(3.0)
    assert found["reward"] == pytest.approx(1 / 4 - 5)
    assert found["converged"] and not found["safe"]
    assert found["max_loading"] == pytest.approx(4 / 3)
    assert found["worst_violation"] == pytest.approx(1 / 3)


def test_dark_load_counts_as_shed_once() -> None:
    # Buses 2 and 3 are dark, 0.12 of 0.24 MW, whatever the decision says of them: 22 * 1.2^2 =
    # 31.68.
    for shed in ({}, {"b2": 1.0, "b3": 0.4}):
        found = outcome_of(ring_and_leaf(), "b", "acdf", "paper", **shed)
        assert found["cost"] == pytest.approx(31.68)
        assert found["shed_ratio"] == pytest.approx(0.5)
        assert found["safe"]


def test_isolating_the_fault_is_no_operation() -> None:
    assert outcome_of(ring_and_leaf(), "b", "acdf", "radial")["n_operations"] == 0
    # Opening c beside it is one, closing e another: 3 * 2^2 = 12, and bus 2 is dark: 22 * 0.6^2 =
    # 7.92.
    found = outcome_of(ring_and_leaf(), "b", "adef", "radial")
    assert found["n_operations"] == 2
    assert found["cost"] == pytest.approx(19.92)


def test_connected_means_all_that_can_be_reached() -> None:
    network = ring_and_leaf()
    # Bus 5 hangs from f alone: nobody can feed it, and nobody is blamed.
    assert outcome_of(network, "f", "abcd", "paper")["connected"]
    # Buses 2 and 3 could be fed through e.
    assert not outcome_of(network, "b", "acdf", "paper")["connected"]
    assert outcome_of(network, "b", "acdef", "paper")["connected"]


def test_connected_asks_no_more_than_the_setting_allows_to_switch() -> None:
    nothing = Setting("nothing", False, 0.9, 1.1, switchable=())
    assert outcome_of(ring_and_leaf(), "b", "acdf", nothing)["connected"]


def test_the_radial_setting_refuses_a_loop() -> None:
    # f has failed; closing e then makes the loop a-b-c-e-d, electrically harmless.
    radial = outcome_of(ring_and_leaf(), "f", "abcde", "radial")
    assert not radial["safe"]
    assert radial["worst_violation"] == 0.0
    cost = 22 * 0.2**2 + 3
    assert radial["reward"] == pytest.approx(1 / (cost + 1) - 5)
    paper = outcome_of(ring_and_leaf(), "f", "abcde", "paper")
    assert paper["safe"]
    assert paper["reward"] == pytest.approx(1 / (cost + 1))


def test_radial_is_asked_of_what_is_energised() -> None:
    # Five closed branches and six buses are the count of a tree, but bus 5 is dark and the five
    # make a loop.
    decisions = decide(ring_and_leaf(), "abcde")
    assert decisions.closed.sum() == ring_and_leaf().n_bus - 1
    assert not outcome_of(ring_and_leaf(), "f", "abcde", "radial")["safe"]
    # Three of four closed branches feed all that is energised; c lies in the dark.
    assert outcome_of(ring_and_leaf(), "b", "acdf", "radial")["safe"]


def test_the_paper_limit_spares_branches_at_the_substation() -> None:
    # After c fails, a carries 0.13 MW and d 0.05: a is over the limit of 0.07 that b (0.06) keeps.
    found = outcome_of(ring_and_leaf(limit_mw=0.07), "c", "abdf", "paper")
    assert found["safe"]
    assert found["max_loading"] == pytest.approx(0.06 / 0.07)


def test_the_radial_setting_limits_every_branch_by_its_current() -> None:
    # a carries 0.13 pu at about 1 pu voltage.
    assert outcome_of(ring_and_leaf(rating=0.1302), "c", "abdf", "radial")["safe"]
    found = outcome_of(ring_and_leaf(rating=0.12), "c", "abdf", "radial")
    assert not found["safe"]
    assert found["max_loading"] == pytest.approx(0.13 / 0.12, rel=1e-4)
    # Violation is of the squared current, relative.
    assert found["worst_violation"] == pytest.approx(found["max_loading"] ** 2 - 1, rel=1e-6)


def test_the_lowest_voltage_by_hand() -> None:
    # e, f and the loads of 1, 2, 3 aside, bus 4 draws I through d: x I = 2.8 * 0.1 = 0.28 and V4 =
    # sqrt(1 - 0.28^2) = 0.96 at P = 0.96 * 0.1.
    network = ring_and_leaf(x=2.8)
    scenario = make_scenarios(network, "a", [0.0, 0.0, 0.0, 0.0, 0.096, 0.0])
    decisions = decide(network, "bcdf")
    assert judge(network, scenario, decisions, "radial").v_min_pu[0] == pytest.approx(0.96)
    tight = judge(network, scenario, decisions, Setting("tight", False, 0.97, 1.05))
    # Violation is of the squared voltage.
    assert tight.worst_violation[0] == pytest.approx(0.97**2 - 0.96**2, abs=1e-6)
    assert not tight.safe[0]
    assert judge(network, scenario, decisions, Setting("loose", False, 0.96, 1.05)).safe[0]


def test_a_voltage_above_the_band_is_unsafe() -> None:
    network = ring_and_leaf().with_changes(r=np.full(6, 1.0))
    scenario = make_scenarios(network, "b", np.zeros(6), p_gen=[0.0, 0.0, 0.0, 0.0, 0.1, 0.0])
    found = judge(network, scenario, decide(network, "acdf"), "radial")
    assert found.converged[0] and not found.safe[0]
    assert found.reward[0] == pytest.approx(1.0 - 5.0)


def test_a_flow_without_solution() -> None:
    # Unity power factor over x = 2.8 has its nose at 1 / (2 x) = 0.179 pu; bus 4 asks for 0.3.
    network = ring_and_leaf(x=2.8)
    p_load = np.array([[0.0, 0.0, 0.0, 0.0, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0, 0.096, 0.0]])
    scenarios = make_scenarios(network, ["a", "a"], p_load)
    closed = np.stack([decide(network, "bcdf").closed[0]] * 2)
    shed = np.zeros((2, 6))
    shed[0, 4] = 0.01
    found = judge(network, scenarios, Decisions(closed, shed), "paper")
    assert found.converged.tolist() == [False, True]
    assert found.safe.tolist() == [False, True]
    cost = 22 * 0.03**2
    assert found.cost[0] == pytest.approx(cost)
    assert found.reward == pytest.approx([1 / (cost + 1) - 10, 1.0])
    assert np.isnan(found.v_min_pu[0]) and np.isnan(found.worst_violation[0])
    assert np.isnan(found.max_loading[0]) and np.isfinite(found.v_min_pu[1])


def test_generation_is_not_shed_and_does_not_lower_the_ratio() -> None:
    network = ring_and_leaf()
    scenario = make_scenarios(network, "b", p_gen=[0.0, 0.0, 0.04, 0.0, 0.0, 0.0])
    decisions = decide(network, "acdef", b3=0.5)
    p, q = demand_after_shedding(scenario, decisions)
    assert p[0] == pytest.approx([0.0, 0.05, 0.02, 0.03, 0.05, 0.02])
    assert not q.any()
    found = judge(network, scenario, decisions, "paper")
    assert found.shed_ratio[0] == pytest.approx(0.03 / 0.24)
    # e carries 0.02 + 0.03 MW.
    assert found.max_loading[0] == pytest.approx(0.05 / 0.09)


def test_shed_load_keeps_its_power_factor() -> None:
    network = ring_and_leaf().with_changes(q_load=np.array([0.0, 0.0, 0.04, 0.0, 0.0, 0.0]))
    _, q = demand_after_shedding(make_scenarios(network, "b"), decide(network, "acdef", b2=0.25))
    assert q[0] == pytest.approx([0.0, 0.0, 0.03, 0.0, 0.0, 0.0])


def test_no_demand_has_no_shed_ratio_to_speak_of() -> None:
    network = ring_and_leaf()
    found = judge(
        network, make_scenarios(network, "b", np.zeros(6)), decide(network, "acdf"), "paper"
    )
    assert found.shed_ratio[0] == 0.0
    assert found.cost[0] == 0.0
    assert found.reward[0] == pytest.approx(1.0)


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_a_batch_is_judged_as_its_items_alone(setting: str) -> None:
    network = load_network("ieee33")
    rng = np.random.default_rng(5)
    n = 24
    fault = rng.choice(faultable_branches(network), n)
    level = rng.uniform(0.0, 3.0, (n, 1))
    scenarios = make_scenarios(network, fault, level * network.p_load, level * network.q_load)
    closed = np.tile(network.closed, (n, 1))
    closed[:, network.is_tie] = rng.random((n, int(network.is_tie.sum()))) < 0.4
    closed[np.arange(n), fault] = False
    decisions = Decisions(closed, rng.uniform(0.0, 0.3, (n, network.n_bus)))
    together = judge(network, scenarios, decisions, setting)
    assert 0 < together.safe.sum() < n
    for k in range(n):
        alone = judge(network, scenarios[k : k + 1], decisions[k : k + 1], setting)
        for name in FIELDS:
            np.testing.assert_allclose(
                getattr(alone, name)[0],
                getattr(together, name)[k],
                rtol=1e-9,
                atol=1e-12,
                err_msg=f"{name} of {k}",
            )


@pytest.mark.parametrize("fraction", [-0.1, 1.01, np.nan])
def test_a_shed_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(
        ValueError, match=r"decision 0 sheds \S+ of bus '3'; a shed fraction lies between 0 and 1"
    ):
        outcome_of(ring_and_leaf(), "b", "acdf", "paper", b3=fraction)


def test_closing_the_faulted_branch_is_refused() -> None:
    with pytest.raises(
        ValueError, match="decision 0 closes the faulted branch 'b'; it must stay open"
    ):
        outcome_of(ring_and_leaf(), "b", "abcdf", "paper")


def test_switching_what_may_not_be_switched_is_refused() -> None:
    # In the paper setting only ties switch; in the radial one f, on no loop, does not.
    with pytest.raises(
        ValueError, match="switches branch 'c', which the paper setting does not let anyone operate"
    ):
        outcome_of(ring_and_leaf(), "b", "adef", "paper")
    with pytest.raises(
        ValueError,
        match="switches branch 'f', which the radial setting does not let anyone operate",
    ):
        outcome_of(ring_and_leaf(), "b", "acde", "radial")


def test_the_bad_item_of_a_batch_is_named() -> None:
    network = ring_and_leaf()
    good = decide(network, "acdf")
    bad = Decisions(np.concatenate([good.closed] * 3), np.zeros((3, 6)))
    bad.shed[2, 1] = 2.0
    with pytest.raises(ValueError, match="decision 2 sheds 2 of bus '1'"):
        judge(network, make_scenarios(network, ["b"] * 3), bad, "paper")


def test_shapes_that_do_not_fit_are_refused() -> None:
    network = ring_and_leaf()
    scenarios, good = make_scenarios(network, ["b", "b"]), decide(network, "acdf")
    with pytest.raises(ValueError, match=r"closed has shape \(1, 6\); expected \(2, 6\) on hand"):
        judge(network, scenarios, good, "paper")
    two = Decisions(np.concatenate([good.closed] * 2), np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"shed has shape \(2, 5\); expected \(2, 6\)"):
        judge(network, scenarios, two, "paper")
    two = replace(two, shed=np.zeros((2, 6)))
    short = Scenarios(scenarios.fault, scenarios.p_load[:, :4], scenarios.q_load, scenarios.p_gen)
    with pytest.raises(ValueError, match=r"p_load has shape \(2, 4\)"):
        judge(network, short, two, "paper")


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(
        ValueError, match="unknown setting 'looped'; use one of paper, radial, meshed, or a Setting"
    ):
        outcome_of(ring_and_leaf(), "b", "acdf", "looped")
    with pytest.raises(
        NetworkError, match="hand: the paper setting needs a uniform active-power limit"
    ):
        outcome_of(ring_and_leaf(limit_mw=np.inf), "b", "acdf", "paper")


def reward_21(network: Network, closed: str, proposal: Decisions, **shed: float) -> float:
    scenario = make_scenarios(network, "b")
    return float(
        judge(
            network, scenario, decide(network, closed, **shed), "paper", proposed=proposal
        ).reward[0]
    )


def random_batch(setting: str, n: int = 40) -> tuple[Network, Scenarios, Decisions]:
    network = load_network("ieee33")
    rng = np.random.default_rng(8)
    fault = rng.choice(faultable_branches(network), n)
    level = rng.uniform(0.0, 3.0, (n, 1))
    scenarios = make_scenarios(network, fault, level * network.p_load, level * network.q_load)
    closed = np.tile(network.closed, (n, 1))
    switched = network.is_tie if setting == "paper" else network.is_tie | network.on_loop
    closed[:, switched] ^= rng.random((n, int(switched.sum()))) < 0.2
    closed[np.arange(n), fault] = False
    return network, scenarios, Decisions(closed, rng.uniform(0.0, 0.3, (n, network.n_bus)))


def test_corrected_shedding_is_charged_twice_by_hand() -> None:
    # Proposed: a fifth of bus 2, S = 0.012. Applied: half of bus 2 and a tenth of bus 3, S~ =
    # 0.036; one tie. 2 * 22 * 0.36^2 - 22 * 0.12^2 + 3 = 5.7024 - 0.3168 + 3 = 8.3856.
    network = ring_and_leaf()
    proposal = decide(network, "acdef", b2=0.2)
    assert reward_21(network, "acdef", proposal, b2=0.5, b3=0.1) == pytest.approx(1 / 9.3856)
    # The cost stays (1), and a limit that the correction left broken costs five as ever.
    scenario = make_scenarios(network, "b")
    found = judge(
        network, scenario, decide(network, "acdef", b2=0.5, b3=0.1), "paper", proposed=proposal
    )
    assert found.cost[0] == pytest.approx(5.8512)
    assert reward_21(network, "acdef", proposal, b2=0.25) < -4.5


def test_what_a_proposal_leaves_dark_counts_on_its_own_topology() -> None:
    network = ring_and_leaf()
    # Applied: 2 and 3 dark, S~ = 0.12 MW and no switch. Proposed on that topology: the same S,
    # whatever it says.
    assert reward_21(network, "acdf", decide(network, "acdf", b2=0.3)) == pytest.approx(
        1 / (22 * 1.2**2 + 1)
    )
    # Proposed with e closed, where nothing is dark: S = 0.
    assert reward_21(network, "acdf", decide(network, "acdef")) == pytest.approx(
        1 / (2 * 22 * 1.2**2 + 1)
    )


def test_shedding_less_than_was_proposed_is_rewarded_as_its_cost() -> None:
    # The proposal leaves 0.12 MW dark; the decision sheds 0.036. As it stands (21) would be 1 / (2
    # * 2.85 - 31.68 + 4) < 0.
    network = ring_and_leaf()
    assert reward_21(network, "acdef", decide(network, "acdf"), b2=0.5, b3=0.1) == pytest.approx(
        1 / 6.8512
    )


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_21_equals_10_exactly_where_nothing_was_corrected(setting: str) -> None:
    network, scenarios, decisions = random_batch(setting)
    plain = judge(network, scenarios, decisions, setting)
    same = Decisions(decisions.closed.copy(), decisions.shed.copy())
    assert np.array_equal(
        judge(network, scenarios, decisions, setting, proposed=same).reward, plain.reward
    )
    less = Decisions(decisions.closed, 0.5 * decisions.shed)
    charged = judge(network, scenarios, decisions, setting, proposed=less)
    assert (charged.reward < plain.reward).all()
    assert np.array_equal(charged.cost, plain.cost)


def operations(before: str, closed: str, fault: str = "b", setting: str = "radial") -> int:
    network = ring_and_leaf()
    state = decide(network, before).closed
    found = judge(
        network, make_scenarios(network, fault), decide(network, closed), setting, before=state
    )
    shed_cost = 22 * (found.shed_ratio[0] * 2.4) ** 2
    assert found.cost[0] == pytest.approx(shed_cost + 3 * found.n_operations[0] ** 2)
    return int(found.n_operations[0])


def test_switching_is_charged_against_the_state_before() -> None:
    assert operations("acdef", "acdef") == 0
    assert operations("acdf", "acdef") == 1
    assert operations("acdef", "acdf") == 1
    # Closing c again and opening e: both count, though the result is the normal state.
    assert operations("adef", "acdf") == 2
    # The faulted branch opens for nothing, be it a line or the tie itself.
    assert operations("abcdf", "acdf") == 0
    assert operations("abcdef", "abcdf", fault="e") == 0
    assert operations("abcdef", "abdf", fault="e") == 1


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_the_normal_state_is_what_switching_is_charged_against_otherwise(setting: str) -> None:
    network, scenarios, decisions = random_batch(setting)
    plain = judge(network, scenarios, decisions, setting)
    told = judge(
        network, scenarios, decisions, setting, before=np.tile(network.closed, (len(scenarios), 1))
    )
    for name in FIELDS:
        assert np.array_equal(getattr(plain, name), getattr(told, name), equal_nan=True), name


def test_a_bad_proposal_or_state_before_is_refused() -> None:
    network = ring_and_leaf()
    scenario, good = make_scenarios(network, "b"), decide(network, "acdf")
    with pytest.raises(
        ValueError, match="judge: proposal 0 sheds 2 of bus '3'; a shed fraction lies"
    ):
        judge(network, scenario, good, "paper", proposed=decide(network, "acdf", b3=2.0))
    with pytest.raises(ValueError, match="judge: proposal 0 closes the faulted branch 'b'"):
        judge(network, scenario, good, "paper", proposed=decide(network, "abcdf"))
    with pytest.raises(ValueError, match=r"judge: closed has shape \(2, 6\); expected \(1, 6\)"):
        judge(network, scenario, good, "paper", proposed=Decisions.join([good, good]))
    with pytest.raises(ValueError, match=r"judge: before has shape \(6,\); expected \(1, 6\)"):
        judge(network, scenario, good, "paper", before=network.closed)
    with pytest.raises(ValueError, match="judge: before holds float64; a branch is closed"):
        judge(network, scenario, good, "paper", before=good.closed.astype(float))


@pytest.mark.filterwarnings("ignore:.*charging alone overloads:UserWarning")
@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_taps_and_charging_are_judged_at_the_ends_of_the_branch(setting: str) -> None:
    network, scenarios, decisions = random_batch(setting)
    tap = np.where(np.arange(network.n_branch) % 5 == 2, 1.02, 1.0)
    network = network.with_changes(
        tap=tap,
        b_from=network.b_from + 0.02,
        g_to=network.g_to + 0.001,
        rating=0.5 * network.rating,
    )
    found = judge(network, scenarios, decisions, setting)
    flow = solve_power_flow(network, *demand_after_shedding(scenarios, decisions), decisions.closed)
    ok = flow.converged
    assert ok.sum() > 20
    assert found.v_min_pu[ok] == pytest.approx(flow.v_min_pu[ok], rel=1e-12)
    if setting == "radial":
        # Closed branches that charging alone overloads: their limit follows that current.
        nothing = np.zeros(network.n_bus)
        rest = solve_power_flow(network, nothing, nothing)
        charged = np.maximum(np.abs(rest.current_from), np.abs(rest.current_to))
        follows = network.closed & (charged > network.rating)
        assert follows.any() and not follows.all()
        limit = np.where(follows, np.hypot(charged, network.rating), network.rating)
        expected = (flow.loading * network.rating / limit).max(axis=1)
    else:
        away = ~np.isin(network.from_bus, network.substation)
        power = np.maximum(np.abs(flow.s_from.real), np.abs(flow.s_to.real))[:, away].max(axis=1)
        expected = power * network.base_mva / network.paper_limit_mw
    assert found.max_loading[ok] == pytest.approx(expected[ok], rel=1e-12)
    over = ok & (found.max_loading > 1.0)
    assert over.any() and not found.safe[over].any()


def test_energised_buses_are_those_of_the_power_flow() -> None:
    network, scenarios, decisions = random_batch("radial")
    flow = solve_power_flow(network, scenarios.p_load, scenarios.q_load, decisions.closed)
    assert not flow.energised.all()
    assert np.array_equal(energised_buses(network, decisions.closed), flow.energised)


def test_arrays_need_be_neither_writable_nor_contiguous() -> None:
    network, scenarios, decisions = random_batch("paper", 6)
    plain = judge(network, scenarios, decisions, "paper")
    fault, closed = scenarios.fault.copy(), decisions.closed.copy()
    fault.setflags(write=False)
    closed.setflags(write=False)
    odd = Scenarios(fault, np.asfortranarray(scenarios.p_load), scenarios.q_load, scenarios.p_gen)
    found = judge(network, odd, Decisions(closed, np.asfortranarray(decisions.shed)), "paper")
    assert np.array_equal(found.reward, plain.reward)
