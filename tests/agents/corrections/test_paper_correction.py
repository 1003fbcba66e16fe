"""The paper's correction: (20) by hand, how it ends, and a simple loop that it equals.

shedding_steps.py is tested here.
"""

from dataclasses import replace

import numpy as np
import pytest

from feederguard.agents.corrections.paper_correction import (
    AS_PROPOSED,
    CORRECTED,
    CORRECTION_ENDS,
    HIGH_VOLTAGE,
    NOT_RADIAL,
    NOTHING_LEFT,
    OUT_OF_STEPS,
    CorrectionRun,
    PaperCorrection,
)
from feederguard.data.networks import load_network
from feederguard.models.arrays import FloatArray
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    Setting,
    judge,
    limit_places,
    limit_violations,
    make_scenarios,
)
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.scenario import demand_after_shedding
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.power_flow.line_node_ratio import (
    line_node_ratio,
    nodal_impedance,
    shedding_sensitivity,
)
from feederguard.models.switching.forests import spanning_forests
from feeders import feeder


def chain(
    loads: tuple[float, ...], limit_mw: float = 0.089, r: float = 0.0, **changes: object
) -> Network:
    """0 --b1-- 1 --b2-- 2 ... and a tie from 0 to the last bus; loads in MW at 1, 2, ...

    The lines at the substation, b1 and the tie, have no limit in the paper setting.
    """
    last = len(loads)
    lines = " ".join(f"b{i}:{i - 1}-{i}" for i in range(1, last + 1))
    network = feeder(
        f"{lines} tie:0~{last}", name="chain", p_load=[0.0, *loads], r=r, paper_limit_mw=limit_mw
    )
    return network.with_changes(**changes)


def run_one(
    network: Network,
    closed: list[bool],
    setting: str | Setting = "paper",
    fault: str = "tie",
    alpha: float = 0.02,
    max_steps: int | None = None,
    shed: FloatArray | None = None,
) -> CorrectionRun:
    proposed = np.zeros(network.n_bus) if shed is None else shed
    decision = Decisions(np.array([closed]), proposed[None])
    return PaperCorrection(network, setting, alpha, max_steps).run(
        make_scenarios(network, fault), decision
    )


def proposals(network: Network, setting: str, count: int, seed: int) -> tuple[Scenarios, Decisions]:
    """Random faults, loads and switch states; some proposals shed at random.

    Loads are 0.4 to 1.0 of nominal.
    """
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.4, 1.0, (count, 1)) * rng.uniform(0.8, 1.2, (count, network.n_bus))
    fault = rng.choice(faultable_branches(network), count)
    scenarios = make_scenarios(network, fault, level * network.p_load, level * network.q_load)
    usable = np.ones((count, network.n_branch), dtype=bool)
    usable[np.arange(count), fault] = False
    if setting == "paper":
        closed = usable & (network.closed | (rng.random(usable.shape) < 0.7))
    else:
        free = network.is_tie | network.on_loop
        closed = spanning_forests(network, rng.random(usable.shape), usable, network.closed & ~free)
    shed = np.where(rng.random((count, 1)) < 0.5, rng.uniform(0, 0.5, (count, network.n_bus)), 0.0)
    return scenarios, Decisions(closed, shed)


def test_steps_of_a_three_bus_feeder_by_hand() -> None:
    # b2 carries the 0.1 MW of bus 2; its limit is 0.089. Steps of 0.02 * 0.1 MW: 0.1, 0.098, ...
    # 0.09, 0.088: six steps. Bus 1 does not help (ratio 0). One flow to see that it is not safe,
    # one before every step, one that is safe.
    run = run_one(chain((0.05, 0.1)), [True, True, False])
    assert run.decisions.shed[0] == pytest.approx([0, 0, 0.12])
    assert (run.n_steps[0], run.n_flows[0], run.end[0], run.worst_limit[0]) == (6, 8, CORRECTED, -1)
    assert run.safe[0]


def test_a_bus_shed_entirely_makes_way_for_the_next_by_hand() -> None:
    # Along a line with resistance the far bus has the lower voltage, so by (18) it is the more
    # sensitive. b2 carries 0.1, limit 0.04: half of bus 3, all of bus 3, half of bus 2 leave 0.025
    # MW.
    run = run_one(
        chain((0.0, 0.05, 0.05), limit_mw=0.04, r=0.001), [True, True, True, False], alpha=0.5
    )
    assert run.decisions.shed[0].tolist() == [0, 0, 0.5, 1.0]
    assert run.n_steps[0] == 3 and CORRECTION_ENDS[run.end[0]] == "corrected"


def test_power_against_a_line_is_relieved_at_its_other_side() -> None:
    # With b1 lost the tie feeds bus 2 and, backwards over b2, bus 1: 0.1 MW against 0.089. Bus 1 is
    # shed, bus 2 is not.
    network = chain((0.1, 0.05))
    run = run_one(network, [False, True, True], fault="b1")
    assert run.decisions.shed[0] == pytest.approx([0, 0.12, 0])
    assert judge(network, make_scenarios(network, "b1"), run.decisions, "paper").safe[0]


def test_low_voltage_is_cured_at_the_bus_that_moves_it_most() -> None:
    # r = 0.3, 0.12 pu over b1 and 0.1 over b2: below 1 - 0.066 = 0.934 pu. Bus 2's load acts over
    # both lines, bus 1's over one.
    network = chain((0.02, 0.1), r=0.3)
    setting = Setting("tight", False, 0.95, 1.1, active_limit_mw=1.0)
    run = run_one(network, [True, True, False], setting)
    assert (
        run.end[0] == CORRECTED and run.decisions.shed[0, 1] == 0 and run.decisions.shed[0, 2] > 0
    )
    scenarios = make_scenarios(network, "tie")
    assert judge(network, scenarios, run.decisions, setting).safe[0]
    one_less = Decisions(run.decisions.closed, run.decisions.shed - [[0, 0, 0.02]])
    assert not judge(network, scenarios, one_less, setting).safe[0]


def test_current_limit_of_the_radial_setting() -> None:
    network = chain((0.05, 0.1), rating=np.array([np.inf, 0.085, np.inf]))
    run = run_one(network, [True, True, False], "radial")
    # 0.085 pu of current carries 0.085 MW at 1 pu: (1 - 0.16) * 0.1 = 0.084.
    assert run.decisions.shed[0] == pytest.approx([0, 0, 0.16]) and run.safe[0]


def test_high_voltage_is_reported_at_once() -> None:
    network = chain((0.05, 0.05), r=0.3, p_gen=np.array([0.0, 0.0, 0.2]))
    setting = Setting("tight", False, 0.9, 1.02, active_limit_mw=1.0)
    run = run_one(network, [True, True, False], setting)
    assert run.end[0] == HIGH_VOLTAGE and not run.safe[0]
    assert not run.decisions.shed.any() and run.n_steps[0] == 0
    places = limit_places(network, setting)
    assert places.bus[run.worst_limit[0]] == 2 and places.branch[run.worst_limit[0]] == -1


def test_generation_that_overloads_a_line_is_not_cured_by_shedding() -> None:
    network = chain((0.05, 0.05), p_gen=np.array([0.0, 0.0, 0.2]))
    run = run_one(network, [True, True, False])
    assert run.end[0] == NOTHING_LEFT and not run.decisions.shed.any()
    assert limit_places(network, "paper").branch[run.worst_limit[0]] == network.branch_index("b2")


def test_other_ends() -> None:
    network = chain((0.05, 0.1))
    ring = load_network("ieee33")
    closed = np.arange(ring.n_branch)[None] != 5
    looped = PaperCorrection(ring, "radial").run(
        make_scenarios(ring, 5), Decisions(closed, np.zeros((1, ring.n_bus)))
    )
    assert looped.end[0] == NOT_RADIAL
    with pytest.raises(ValueError, match="closes the faulted branch 'b1'; it must stay open"):
        run_one(network, [True, True, True], "radial", fault="b1")
    run = run_one(network, [True, True, False], max_steps=3)
    assert run.end[0] == OUT_OF_STEPS and run.n_steps[0] == 3 and not run.safe[0]
    assert run.decisions.shed[0] == pytest.approx([0, 0, 0.06])


def test_a_flow_without_solution_is_shed_back_to_one() -> None:
    # 40 MW over 0.02 pu of reactance is beyond what the line can carry (1 / 2x = 25).
    network = chain((0.0, 40.0), limit_mw=np.inf, v_min=np.full(3, 0.5))
    setting = Setting("wide", False, 0.5, 1.1, active_limit_mw=100.0)
    run = run_one(network, [True, True, False], setting)
    assert run.end[0] == CORRECTED and 15 / 40 < run.decisions.shed[0, 2] < 0.5
    assert judge(network, make_scenarios(network, "tie"), run.decisions, setting).safe[0]


def plain_loop(
    network: Network, scenarios: Scenarios, decisions: Decisions, setting: str, alpha: float
) -> tuple[FloatArray, int]:
    """The algorithm of one item in public functions.

    A step is a flow, the worst limit, the most sensitive bus and its shedding.
    """
    places = limit_places(network, setting)
    closed, shed = decisions.closed, decisions.shed.copy()
    ratio, impedance = line_node_ratio(network, closed[0]), nodal_impedance(network, closed[0])
    p, q = scenarios.p_load[0], scenarios.q_load[0]
    loaded = p > 0
    drawn = np.where(loaded, (p + 1j * q) / np.where(loaded, p, 1.0), 0.0)
    for step in range(100_000):
        flow = solve_power_flow(
            network, *demand_after_shedding(scenarios, Decisions(closed, shed)), closed
        )
        broken = limit_violations(network, setting, flow)[0]
        if broken.max() <= SAFE_TOLERANCE:
            return shed[0], step
        k = int(np.argmax(broken))
        live = flow.energised[0]
        current = np.where(live, np.conj(drawn / np.where(live, flow.voltage[0], 1.0)), 0.0)
        if places.bus[k] >= 0:
            j = places.bus[k]
            gain = (np.conj(flow.voltage[0, j]) * impedance[j] * current).real
        elif setting == "radial":
            b = places.branch[k]
            gain = (np.conj(flow.series_current[0, b]) * ratio[b] * current).real
        else:
            gain = shedding_sensitivity(network, ratio, flow, p, q)[0, places.branch[k]]
        best = int(np.argmax(np.where(loaded & live & (shed[0] < 1), gain, -np.inf)))
        assert gain[best] > 0
        shed[0, best] = min(shed[0, best] + alpha, 1.0)
    raise AssertionError("the plain loop does not end")


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_the_compiled_loop_is_the_plain_one(setting: str) -> None:
    network = load_network("ieee33")
    if setting == "radial":
        network = network.with_changes(rating=0.5 * network.rating)
    scenarios, decisions = proposals(network, setting, 8, seed=3)
    correction = PaperCorrection(network, setting, alpha=0.125)
    run = correction.run(scenarios, decisions)
    assert (run.end == CORRECTED).sum() >= 4
    for k in np.flatnonzero(run.safe):
        shed, steps = plain_loop(
            network, scenarios[k : k + 1], decisions[k : k + 1], setting, 0.125
        )
        np.testing.assert_allclose(run.decisions.shed[k], shed, atol=1e-9)
        assert run.n_steps[k] == steps


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_ends_safe_wherever_shedding_everything_is_safe(setting: str) -> None:
    network = load_network("ieee33")
    if setting == "radial":
        network = network.with_changes(rating=0.4 * network.rating)
    scenarios, decisions = proposals(network, setting, 200, seed=1)
    run = PaperCorrection(network, setting).run(scenarios, decisions)
    everything = Decisions(decisions.closed, np.ones_like(decisions.shed))
    assert run.safe[judge(network, scenarios, everything, setting).safe].all()
    np.testing.assert_array_equal(judge(network, scenarios, run.decisions, setting).safe, run.safe)
    np.testing.assert_array_equal(
        judge(network, scenarios, decisions, setting).safe, run.end == AS_PROPOSED
    )
    assert (run.decisions.shed >= decisions.shed).all() and (run.decisions.shed <= 1).all()
    assert (run.end == CORRECTED).sum() > 50 and (run.n_steps > 0).sum() == (
        run.end == CORRECTED
    ).sum()


def test_a_safe_proposal_comes_back_as_it_is() -> None:
    network = load_network("ieee33")
    scenarios, decisions = proposals(network, "paper", 20, seed=4)
    corrected = PaperCorrection(network, "paper").correct(scenarios, decisions)
    again = PaperCorrection(network, "paper").run(scenarios, corrected)
    assert (
        (again.end == AS_PROPOSED).all() and not again.n_steps.any() and (again.n_flows == 1).all()
    )
    np.testing.assert_array_equal(again.decisions.shed, corrected.shed)
    np.testing.assert_array_equal(again.decisions.closed, decisions.closed)


def test_a_batch_is_its_items_whatever_the_cache_holds() -> None:
    network = load_network("ieee33")
    scenarios, decisions = proposals(network, "paper", 24, seed=5)
    before = decisions.shed.copy()
    run = PaperCorrection(network, "paper").run(scenarios, decisions)
    np.testing.assert_array_equal(decisions.shed, before)
    small = PaperCorrection(network, "paper", cache_mb=0.08)
    assert small.cache.capacity == 2
    for correction in (small, PaperCorrection(network, "paper")):
        for k in range(24):
            one = correction.run(scenarios[k : k + 1], decisions[k : k + 1])
            np.testing.assert_array_equal(one.decisions.shed[0], run.decisions.shed[k])
            assert (one.end[0], one.n_steps[0], one.n_flows[0]) == (
                run.end[k],
                run.n_steps[k],
                run.n_flows[k],
            )
    blocks = small.run(scenarios, decisions)
    np.testing.assert_array_equal(blocks.decisions.shed, run.decisions.shed)


def test_an_empty_batch() -> None:
    network = load_network("ieee33")
    scenarios, decisions = proposals(network, "paper", 2, seed=6)
    run = PaperCorrection(network, "paper").run(scenarios[:0], decisions[:0])
    assert len(run.end) == 0 and run.decisions.shed.shape == (0, network.n_bus)


def test_messages() -> None:
    network = chain((0.05, 0.1))
    for alpha in (0.0, -0.1, 1.5, np.nan):
        with pytest.raises(
            ValueError,
            match=f"alpha is {alpha}; shed more than 0 and at most 1 of a demand per step",
        ):
            PaperCorrection(network, "paper", alpha=alpha)
    with pytest.raises(ValueError, match="max_steps is 0; allow at least 1, or None for no bound"):
        PaperCorrection(network, "paper", max_steps=0)
    with pytest.raises(ValueError, match="unknown setting 'looped'"):
        PaperCorrection(network, "looped")
    correct = PaperCorrection(network, "paper").correct
    scenarios = make_scenarios(network, "tie")
    fine = Decisions(np.array([[True, True, False]]), np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"shed has shape \(1, 2\); expected \(1, 3\) on chain"):
        correct(scenarios, Decisions(fine.closed, np.zeros((1, 2))))
    with pytest.raises(ValueError, match=r"closed has shape \(2, 3\); expected \(1, 3\)"):
        correct(scenarios, Decisions(np.ones((2, 3), dtype=bool), fine.shed))
    with pytest.raises(ValueError, match="closed holds float64; a branch is closed .True. or open"):
        correct(scenarios, Decisions(np.ones((1, 3)), fine.shed))  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="decision 0 sheds nan of bus '2'; a shed fraction lies between 0 and 1"
    ):
        correct(scenarios, Decisions(fine.closed, np.array([[0, 0, np.nan]])))
    with pytest.raises(
        ValueError, match="decision 0 sheds 1.2 of bus '1'; a shed fraction lies between 0 and 1"
    ):
        correct(scenarios, Decisions(fine.closed, np.array([[0, 1.2, 0]])))
    with pytest.raises(
        ValueError,
        match="paper correction: p_load of bus '1' in scenario 0 is nan; give a finite number",
    ):
        correct(replace(scenarios, p_load=np.array([[0, np.nan, 0.1]])), fine)
