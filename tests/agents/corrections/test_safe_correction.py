"""Our correction: the four ends of a proposal, and safety on thousands of random ones.

certificate.py is tested here.
"""

import numpy as np
import pytest

from feederguard.agents.corrections.certificate import CERTIFICATE_STATUSES
from feederguard.agents.corrections.safe_correction import SafeCorrection
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Decisions, Setting, judge, make_scenarios
from feederguard.models.network import Network
from feederguard.models.switching.search import search_plans
from feeders import feeder

MESHED = Setting("meshed", False, 0.90, 1.10, active_limit_mw=0.25)


def toy(p_gen_mw: float = 0.0) -> Network:
    """0 feeds 1 and 3; behind 1 lies 2, which the tie 3-2 can feed as well.

    Lines have no resistance; base 1 MVA.
    """
    return feeder(
        "0-1 1-2 0-3 3-2:3~2",
        name="toy",
        p_load=[0, 0.1, 0.3, 0.1],
        p_gen=[0, 0, 0, p_gen_mw],
        r=0.0,
        rating=5.0,
    )


def proposal(closed: list[int], shed_at_2: float) -> Decisions:
    return Decisions(np.array([closed], dtype=bool), np.array([[0, 0, shed_at_2, 0]]))


def test_a_safe_proposal_stays() -> None:
    network = toy()
    wanted = proposal([1, 0, 1, 1], 0.5)
    done = SafeCorrection(network, MESHED).run(make_scenarios(network, "1-2"), wanted)
    assert done.status[0] == "as_proposed" and done.outcome.safe[0]
    assert (done.applied.closed == wanted.closed).all() and (done.applied.shed == wanted.shed).all()
    assert not done.active.any() and done.n_flows[0] == 2  # to look at it, and to certify it


def test_the_least_is_added_by_hand() -> None:
    # The tie may carry 0.25 of the 0.3 MW at bus 2: a sixth is shed, not the tenth that was
    # proposed.
    network = toy()
    done = SafeCorrection(network, MESHED).run(
        make_scenarios(network, "1-2"), proposal([1, 0, 1, 1], 0.1)
    )
    assert done.status[0] == "corrected" and done.outcome.safe[0]
    assert done.applied.shed[0] == pytest.approx([0, 0, 1 / 6, 0], abs=1e-5)
    assert done.outcome.max_loading[0] == pytest.approx(1.0, abs=1e-4)
    assert "sending_limit[3,1]" in {
        n for n, on in zip(done.limit_names, done.active[0], strict=True) if on
    }


def test_more_than_needed_is_never_taken_back() -> None:
    network = toy()
    done = SafeCorrection(network, MESHED).run(
        make_scenarios(network, "1-2"), proposal([1, 0, 1, 1], 0.9)
    )
    assert done.applied.shed[0, 2] == 0.9


def test_a_loop_in_the_radial_setting_is_replaced() -> None:
    network = toy()
    spare = make_scenarios(network, "0-1")
    radial = SafeCorrection(network, "radial")
    looped = proposal([0, 1, 1, 1], 0.0)  # 0-3-2-1 in a row: radial, fine
    assert radial.run(spare, looped).status[0] == "as_proposed"
    # buses 1 and 2 joined and dark: safe by the judge, so it stays
    cut = proposal([0, 1, 1, 0], 0.0)
    assert radial.run(spare, cut).status[0] == "as_proposed"
    ring = load_network("ieee33")
    scenario = make_scenarios(ring, "6")
    closed = np.ones((1, ring.n_branch), dtype=bool)
    closed[0, scenario.fault[0]] = False
    done = SafeCorrection(ring, "radial").run(
        scenario, Decisions(closed, np.zeros((1, ring.n_bus)))
    )
    assert done.status[0] == "replaced" and done.outcome.safe[0] and done.outcome.cost[0] == 3.0


def test_impossible_says_why_and_leaves_dark_what_is_behind_the_fault() -> None:
    network = toy()
    strict = Setting("strict", False, 0.90, 1.001, active_limit_mw=0.25)
    # A load that feeds reactive power back raises its bus to 1.002 pu; it is shed, and the voltage
    # with it.
    raising = np.array([0, -0.2, 0, -0.2])
    done = SafeCorrection(network, strict).run(
        make_scenarios(network, "1-2", q_load=raising), proposal([1, 0, 1, 1], 0.0)
    )
    assert done.status[0] == "corrected" and done.outcome.safe[0]
    # Without active demand at those buses there is nothing to shed.
    raised = make_scenarios(network, "1-2", p_load=np.array([0, 0, 0.3, 0]), q_load=raising)
    done = SafeCorrection(network, strict).run(raised, proposal([1, 0, 1, 1], 0.0))
    assert done.status[0] == "impossible" and not done.outcome.safe[0]
    assert "no switch state tried keeps every limit" in str(done.reason[0])
    assert (done.applied.closed[0] == [1, 0, 1, 0]).all() and not done.applied.shed[0].any()
    assert "NOT SAFE" in done.sentence(network)


@pytest.mark.parametrize("setting", ["paper", "radial"])
@pytest.mark.parametrize("name", ["ieee33", "bus69_zhou"])
def test_random_proposals_end_safe(name: str, setting: str) -> None:
    network = load_network(name)
    correction = SafeCorrection(network, setting)
    scenarios = sample_scenarios(network, load_profiles(), 150, seed=6).scenarios
    rng = np.random.default_rng(1)
    closed = np.tile(network.closed, (150, 1))
    flipped = correction.plans.switchable & (
        rng.random(closed.shape) < (0.5 if setting == "paper" else 0.03)
    )
    closed ^= flipped
    closed[np.arange(150), scenarios.fault] = False
    wanted = Decisions(closed, rng.random((150, network.n_bus)) * (rng.random((150, 1)) < 0.5))
    done = correction.run(scenarios, wanted)
    assert set(done.status) <= set(CERTIFICATE_STATUSES[:3])
    assert judge(network, scenarios, done.applied, setting).safe.all()
    assert (done.residual_mva < 1e-7).all()
    kept = done.status != "replaced"
    assert (done.applied.shed[kept] >= wanted.shed[kept] - 1e-12).all()
    assert (done.applied.closed[kept] == wanted.closed[kept]).all()
    if setting == "radial":
        assert (done.status == "replaced").any()


def test_sentence_names_what_is_done() -> None:
    network = toy()
    done = SafeCorrection(network, MESHED).run(
        make_scenarios(network, "1-2"), proposal([1, 0, 1, 1], 0.1)
    )
    words = done.sentence(network)
    assert words.startswith(
        "corrected: safe; close 3-2, open nothing; shed 10.0% of the load at 1 buses"
    )
    assert "held against" in words and "AC residual" in words


def test_what_cannot_be_made_safe_breaks_the_limits_least() -> None:
    """Reactive demand without active demand sheds nothing, and nobody can open the line to it."""
    network = toy().with_changes(x=[0.5, 0.01, 0.01, 0.01])
    meshed = Setting("own", False, 0.90, 1.10)
    # 0.5 Mvar over 0.5 pu of reactance: 1 falls by a quarter.
    scenario = make_scenarios(network, "0-3", p_load=[0, 0, 0.3, 0.1], q_load=[0, 0.4, 0, 0])
    done = SafeCorrection(network, meshed).run(scenario, proposal([1, 1, 0, 0], 0.0))
    assert done.status[0] == "impossible" and not done.outcome.safe[0]
    assert (done.applied.closed[0] == [1, 1, 0, 0]).all()
    assert done.outcome.v_min_pu[0] < 0.9
    assert str(done.reason[0]).endswith(
        "however much is shed: nothing relieves the voltage of bus '1', voltage of bus '2'"
    )


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_much_generation_is_searched_before_anything_is_called_impossible(setting: str) -> None:
    """At three times the nominal load in PV, it finds a safe plan where a simple search does."""
    network = load_network("ieee33")
    correction = SafeCorrection(network, setting)
    scenarios = sample_scenarios(network, load_profiles(), 120, seed=9, pv_share=4.0).scenarios
    closed = np.tile(network.closed, (120, 1))
    closed[np.arange(120), scenarios.fault] = False
    done = correction.run(scenarios, Decisions(closed, np.zeros(scenarios.p_load.shape)))
    found = search_plans(correction.plans, scenarios, beam=4)
    assert done.outcome.safe[np.isfinite(found.cost)].all()
    assert not (done.status[np.isfinite(found.cost)] == "impossible").any()


def test_scenarios_of_another_feeder_are_named() -> None:
    network = toy()
    with pytest.raises(
        ValueError, match=r"judge: p_load has shape \(1, 33\); expected \(1, 4\) on toy"
    ):
        SafeCorrection(network, MESHED).run(
            make_scenarios(load_network("ieee33"), 3), proposal([1, 0, 1, 1], 0.0)
        )


def test_illegal_proposals_are_named() -> None:
    network = toy()
    correction, scenario = SafeCorrection(network, MESHED), make_scenarios(network, "1-2")
    with pytest.raises(ValueError, match="closes the faulted branch '1-2'; it must stay open"):
        correction.run(scenario, proposal([1, 1, 1, 1], 0.0))
    with pytest.raises(ValueError, match="a shed fraction lies between 0 and 1"):
        correction.run(scenario, proposal([1, 0, 1, 1], np.nan))
    with pytest.raises(ValueError, match=r"closed has shape \(1, 3\); expected \(1, 4\)"):
        correction.run(scenario, Decisions(np.ones((1, 3), dtype=bool), np.zeros((1, 4))))
