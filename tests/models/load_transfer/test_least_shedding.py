"""Least shedding by hand and against Ipopt on the full equations.

The race of topologies is held against the answers of single topologies.

shedding_sweep.py is tested here.
shedding_cuts.py is tested here.
bounded_simplex.py is tested here.
"""

import itertools
from typing import Any

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import Decisions, Scenarios, Setting, judge, make_scenarios
from feederguard.models.load_transfer.least_shedding import (
    Candidates,
    least_shedding,
    limit_names,
    race_topologies,
)
from feederguard.models.load_transfer.shedding_opf import LeastSheddingSolver
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feeders import feeder, row_with_spare


def limited_row(p_mw: list[float], **given: Any) -> Network:
    """`row_with_spare` with a paper limit of 0.3 MW."""
    return row_with_spare(p_mw, paper_limit_mw=0.3, **given)


def without_spare(network: Network, n: int = 1) -> np.ndarray:
    return np.tile(np.array(network.branch_name) != "spare", (n, 1))


def agrees_with_ipopt(
    network: Network,
    scenarios: Scenarios,
    closed: np.ndarray,
    setting: str | Setting,
    rel: float = 2e-3,
) -> None:
    ours = least_shedding(network, scenarios, closed, setting)
    assert judge(network, scenarios, Decisions(closed, ours.shed), setting).safe.all()
    solver = LeastSheddingSolver(network, setting)
    for k in range(len(scenarios)):
        exact = solver.solve(scenarios[k : k + 1], closed[k])
        assert exact.found
        live = scenarios.p_load[k] * energised_buses(network, closed[k])
        assert live @ ours.shed[k] == pytest.approx(live @ exact.shed, rel=rel, abs=1e-6)


def test_power_limit_by_hand() -> None:
    # No resistance: l2 carries what bus 2 keeps. Of 0.4 MW, 0.3 may pass, a quarter is shed; l1 is
    # at the substation.
    network = limited_row([0.5, 0.4])
    answer = least_shedding(
        network, make_scenarios(network, "spare"), without_spare(network), "paper"
    )
    assert answer.safe[0]
    assert answer.shed[0] == pytest.approx([0, 0, 0.25, 0], abs=1e-5)
    broken = {
        name for name, on in zip(limit_names(network, "paper"), answer.active[0], strict=True) if on
    }
    assert broken == {"sending_limit[1,1]", "receiving_limit[1,1]"}


def test_voltage_limit_by_hand() -> None:
    # r = 1: V = 1 - I = 0.9 at I = 0.1, P = 0.09. Of 0.12 MW a quarter is shed.
    network = limited_row([0.12], r=1.0, x=0.0)
    answer = least_shedding(
        network, make_scenarios(network, "spare"), without_spare(network), "radial"
    )
    assert answer.shed[0] == pytest.approx([0, 0.25, 0], abs=1e-5)


def test_what_is_safe_keeps_its_floor() -> None:
    network = limited_row([0.1, 0.2])
    floor = np.array([[0, 0.3, 0.1, 0]])
    answer = least_shedding(
        network, make_scenarios(network, "spare"), without_spare(network), "paper", floor
    )
    assert answer.safe[0] and answer.n_flows[0] == 1 and not answer.active.any()
    assert (answer.shed == floor).all()


def test_floor_is_added_to_not_moved() -> None:
    # The floor sheds the wrong bus; the limit still asks for a quarter of bus 2.
    network = limited_row([0.5, 0.4])
    floor = np.array([[0, 0.8, 0.0, 0]])
    answer = least_shedding(
        network, make_scenarios(network, "spare"), without_spare(network), "paper", floor
    )
    assert answer.shed[0] == pytest.approx([0, 0.8, 0.25, 0], abs=1e-5)


def test_generation_that_shedding_cannot_cure_is_curtailed() -> None:
    # 0.5 MW of generation behind a limit of 0.3: keeping all load leaves 0.4 to send back.
    network = limited_row([0.1, 0.1], gen_mw=0.5)
    answer = least_shedding(
        network, make_scenarios(network, "spare"), without_spare(network), "paper"
    )
    assert answer.safe[0] and not answer.shed.any()
    assert 0.5 * answer.curtail[0].max() == pytest.approx(0.1, rel=0.05)


def test_flow_that_does_not_converge_at_first() -> None:
    # Ten times what the line can carry at all (V^2 / 4r = 0.25): no flow to linearise at, until
    # enough is shed.
    network = limited_row([2.5], r=1.0, x=0.0)
    answer = least_shedding(
        network, make_scenarios(network, "spare"), without_spare(network), "radial"
    )
    assert answer.safe[0]
    assert 2.5 * (1 - answer.shed[0, 1]) == pytest.approx(0.09, rel=1e-3)


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_agrees_with_ipopt_on_ieee33(setting: str) -> None:
    network = load_network("ieee33")
    scenarios = sample_scenarios(network, load_profiles(), 8, seed=5).scenarios
    scenarios = Scenarios(
        scenarios.fault, 1.4 * scenarios.p_load, 1.4 * scenarios.q_load, scenarios.p_gen
    )
    closed = np.tile(network.closed, (8, 1))
    if setting == "paper":
        closed |= network.is_tie & (np.random.default_rng(0).random(closed.shape) < 0.6)
    closed[np.arange(8), scenarios.fault] = False
    agrees_with_ipopt(network, scenarios, closed, setting)


def test_least_where_shedding_is_split_between_many_loads() -> None:
    """A way over vertices alone stops 5e-4 to 1e-3 above the least shedding here.

    Limits hold to 1e-5, which is worth about as much of the shed power.
    """
    network = load_network("ieee33")
    scenarios = sample_scenarios(network, load_profiles(), 300, seed=0).scenarios
    scenarios = scenarios[[94, 231, 177, 98]]
    closed = np.tile(network.closed, (4, 1))
    for row, ties in zip(closed, [[0], [3], [1, 3], [0]], strict=True):
        row[np.flatnonzero(network.is_tie)[ties]] = True
    closed[np.arange(4), scenarios.fault] = False
    agrees_with_ipopt(network, scenarios, closed, "paper", rel=2e-5)


def test_agrees_with_ipopt_with_taps_shifts_and_charging() -> None:
    """The adjoint of a meshed network with everything a branch can have."""
    rng, m = np.random.default_rng(3), 8
    network = feeder(
        "b0:0-1 b1:1-2 b2:2-3 b3:3-0 b4:1-4 b5:4-5 b6:5-2 b7:0-4",
        name="mesh",
        p_load=[0.0, 0.3, 0.2, 0.25, 0.3, 0.35],
        q_load=[0.0, 0.1, 0.12, 0.05, 0.1, 0.2],
        p_gen=[0, 0, 0.05, 0, 0, 0],
        g_shunt=0.01,
        b_shunt=0.02,
        v_substation=[1.02 + 0.01j],
        r=rng.uniform(0.02, 0.1, m),
        x=rng.uniform(0.02, 0.1, m),
        g_from=0.002,
        b_from=0.01,
        g_to=0.001,
        b_to=0.02,
        tap=rng.uniform(0.97, 1.03, m),
        shift=rng.uniform(-0.02, 0.02, m),
    )
    scenarios = make_scenarios(network, ["b3", "b0", "b6"])
    closed = np.ones((3, m), dtype=bool)
    closed[np.arange(3), scenarios.fault] = False
    # The shifts drive power round the loops, against the loads: limits are then not convex, and an
    # old cut may cost a bit.
    tight = Setting("tight power", False, 0.9, 1.1, active_limit_mw=0.15)
    agrees_with_ipopt(network, scenarios, closed, tight, rel=2e-2)
    agrees_with_ipopt(network, scenarios, closed, Setting("tight voltage", False, 0.985, 1.1))


def test_race_finds_the_cheapest_of_all_states() -> None:
    """The winner of 32 tie states costs what the cheapest of 32 single answers costs.

    Bounds lie below answers.
    """
    network = load_network("ieee33")
    scenarios = sample_scenarios(network, load_profiles(), 3, seed=8).scenarios
    ties = np.flatnonzero(network.is_tie)
    states = np.array(list(itertools.product([False, True], repeat=len(ties))))
    for k in range(len(scenarios)):
        one = scenarios[k : k + 1]
        closed = np.tile(network.closed, (len(states), 1))
        closed[:, ties] = states
        closed[:, one.fault[0]] = False
        many = one[np.zeros(len(states), dtype=np.int64)]
        single = least_shedding(network, many, closed, "paper")
        cost = judge(network, many, Decisions(closed, single.shed), "paper").cost
        race = race_topologies(
            network, one, Candidates(np.array([0, len(states)]), closed), "paper"
        )
        best = cost[single.safe].min()
        assert race.cost[race.winner[0]] == pytest.approx(best, rel=1e-6)
        assert race.finished[race.winner[0]]
        assert (
            race.cost[np.isfinite(race.cost)] <= cost[np.isfinite(race.cost)] * (1 + 1e-3)
        ).all()
        decided = Decisions(closed[race.winner], race.shed)
        assert judge(network, one, decided, "paper").cost[0] == pytest.approx(best, rel=1e-6)


def test_a_cutoff_that_nothing_beats_leaves_no_winner() -> None:
    network = limited_row([0.5, 0.4])
    one_each = Candidates.one_each(without_spare(network))
    race = race_topologies(
        network, make_scenarios(network, "spare"), one_each, "paper", cutoff=np.array([1e-9])
    )
    assert race.winner[0] == -1


def test_batch_equals_one_by_one() -> None:
    network = load_network("ieee33")
    scenarios = sample_scenarios(network, load_profiles(), 40, seed=2).scenarios
    closed = np.tile(network.closed | network.is_tie, (40, 1))
    closed[np.arange(40), scenarios.fault] = False
    batch = least_shedding(network, scenarios, closed, "paper")
    for k in (0, 17, 39):
        single = least_shedding(network, scenarios[k : k + 1], closed[k : k + 1], "paper")
        assert (single.shed[0] == batch.shed[k]).all()


def test_wrong_shapes_are_named() -> None:
    network = limited_row([0.5, 0.4])
    scenarios = make_scenarios(network, "spare")
    with pytest.raises(ValueError, match=r"closed has shape \(2, 3\); expected \(1, 3\) on row"):
        least_shedding(network, scenarios, without_spare(network, 2), "paper")
    with pytest.raises(ValueError, match=r"floor has shape \(1, 3\); expected \(1, 4\)"):
        least_shedding(network, scenarios, without_spare(network), "paper", np.zeros((1, 3)))
    with pytest.raises(
        ValueError,
        match="floor of bus '1' in scenario 0 is 1.5; a shed fraction lies between 0 and 1",
    ):
        least_shedding(
            network, scenarios, without_spare(network), "paper", np.array([[0, 1.5, 0, 0]])
        )


def test_scenarios_of_another_feeder_are_named() -> None:
    network, other = limited_row([0.5, 0.4]), load_network("ieee33")
    with pytest.raises(ValueError, match=r"p_load has shape \(1, 33\); expected \(1, 4\) on row"):
        least_shedding(network, make_scenarios(other, 1), without_spare(network), "paper")
    good = make_scenarios(network, "spare")
    with pytest.raises(
        ValueError,
        match="scenario 0 has its fault at branch 99; branches are numbered 0 to 2 on row",
    ):
        least_shedding(
            network,
            Scenarios(np.array([99]), good.p_load, good.q_load, good.p_gen),
            without_spare(network),
            "paper",
        )
    bad = good.p_load.copy()
    bad[0, 1] = np.nan
    with pytest.raises(
        ValueError, match="p_load of bus '1' in scenario 0 is nan; give a finite number"
    ):
        least_shedding(
            network,
            Scenarios(good.fault, bad, good.q_load, good.p_gen),
            without_spare(network),
            "paper",
        )


def test_empty_batch() -> None:
    network = limited_row([0.5, 0.4])
    none = make_scenarios(network, "spare")[:0]
    assert len(least_shedding(network, none, without_spare(network, 0), "paper").safe) == 0
