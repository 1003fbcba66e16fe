"""The order of switching operations: hand feeders, and all orders of real decisions compared."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    judge,
    make_scenarios,
    resolve_setting,
)
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.switching import sequence as switching_sequence
from feederguard.models.switching.sequence import SwitchingSequence, order_operations

AMPERE_PER_MW = 1e3 / (np.sqrt(3) * 10)  # at 10 kV and unity power factor


def write_feeder(
    folder: Path,
    buses: dict[str, tuple[float, float]],
    branches: dict[str, tuple[str, str, int, float]],
) -> Network:
    """Return a 10 kV feeder fed at bus S.

    buses: load and generation in MW. branches: ends, normally open, limit in MW.
    """
    lines = ["bus,vn_kv,type,p_mw,q_mvar,vmin_pu,vmax_pu,sgen_p_mw", "S,10,slack,0,0,0.9,1.1,0"]
    lines += [
        f"{name},10,pq,{load},0,0.9,1.1,{generation}" for name, (load, generation) in buses.items()
    ]
    (folder / "buses.csv").write_text("\n".join(lines))
    lines = ["branch,from_bus,to_bus,kind,normally_open,r_ohm,x_ohm,b_us,rating_a"]
    lines += [
        f"{name},{i},{j},{'tie' if tie else 'line'},{tie},0.01,0.01,0,{limit * AMPERE_PER_MW}"
        for name, (i, j, tie, limit) in branches.items()
    ]
    (folder / "branches.csv").write_text("\n".join(lines))
    (folder / "meta.json").write_text("{}")
    return load_network(folder)


def two_sections(
    folder: Path,
    load_3: float = 1.0,
    generation_3: float = 0.0,
    load_5: float = 1.0,
    limit_4: float = 5.0,
) -> Network:
    """Return S-4 with two ties, to 3 and 5, which hang with 1 from S-1 by the lines 13 and 15.

    A fault of S1 cuts off 1, 3 and 5; the decision of these tests opens 15 and feeds 3 with 1, and
    5, from 4.
    """
    return write_feeder(
        folder,
        {"1": (0, 0), "3": (load_3, generation_3), "4": (0.5, 0), "5": (load_5, 0)},
        {
            "S1": ("S", "1", 0, 9),
            "13": ("1", "3", 0, 9),
            "15": ("1", "5", 0, 9),
            "S4": ("S", "4", 0, limit_4),
            "t3": ("4", "3", 1, 9),
            "t5": ("4", "5", 1, 9),
        },
    )


def decide(
    network: Network, fault: str, opened: list[str], closed: list[str], shed: dict[str, float]
) -> tuple[Scenarios, Decisions]:
    state = network.closed.copy()
    for names, value in (([fault, *opened], False), (closed, True)):
        state[[network.branch_index(name) for name in names]] = value
    fractions = np.zeros(network.n_bus)
    for bus, fraction in shed.items():
        fractions[network.bus_index(bus)] = fraction
    return make_scenarios(network, fault), Decisions(state[None], fractions[None])


def words(network: Network, sequence: SwitchingSequence) -> list[str]:
    return [
        o.kind if not o.branches else f"{o.kind} {network.branch_name[o.branches[0]]}"
        for o in sequence.operations
    ]


def has_loop(network: Network, closed: np.ndarray) -> bool:
    """Return whether the closed branches energise a loop, by walking from the substation."""
    near: dict[int, list[tuple[int, int]]] = {i: [] for i in range(network.n_bus)}
    for b in np.flatnonzero(closed).tolist():
        i, j = int(network.from_bus[b]), int(network.to_bus[b])
        near[i].append((b, j))
        near[j].append((b, i))
    seen, stack = {int(network.substation[0])}, [(int(network.substation[0]), -1)]
    while stack:
        bus, came = stack.pop()
        for b, other in near[bus]:
            if b == came:
                continue
            if other in seen:
                return True
            seen.add(other)
            stack.append((other, b))
    return False


def test_a_section_is_opened_before_two_ties_feed_both_sides(tmp_path: Path) -> None:
    """Both ties closed with 15 still closed is the loop 4-3-1-5-4.

    The larger section gets its supply first.
    """
    network = two_sections(tmp_path, load_3=0.4, load_5=1.0)
    scenarios, decisions = decide(network, "S1", ["15"], ["t3", "t5"], {})

    (sequence,) = order_operations(network, scenarios, decisions, "radial")

    assert words(network, sequence) == ["open 15", "close t5", "close t3"]
    assert sequence.compared and not sequence.loop.any() and (sequence.excess == 0).all()
    assert (sequence.closed[0] == (network.closed & (np.arange(6) != 0))).all()
    assert (sequence.closed[-1] == decisions.closed[0]).all()


def test_shedding_comes_just_before_the_closing_that_would_overload(tmp_path: Path) -> None:
    """S4 bears 2 MW; 4 and 5 take 1.5, with 3 it would be 2.5.

    So 0.5 MW of live bus 4 must go first, but not earlier.
    """
    network = two_sections(tmp_path, limit_4=2.05)
    scenarios, decisions = decide(network, "S1", ["15"], ["t3", "t5"], {"4": 1.0})

    (sequence,) = order_operations(network, scenarios, decisions, "radial")

    told = words(network, sequence)
    assert told[0] == "open 15" and told[2] == "shed"
    assert (sequence.excess == 0).all()
    unshed = judge(network, scenarios, Decisions(decisions.closed, np.zeros((1, 5))), "radial")
    assert unshed.max_loading[0] == pytest.approx(2.5 / 2.05, rel=2e-3) and not unshed.safe[0]


def test_where_no_order_is_within_limits_the_least_overload_is_marked(tmp_path: Path) -> None:
    """3 brings 2 MW and 5 takes 1.5 MW.

    Together they rest on S4 (1 MW); one without the other does not.

    4 takes 0.5, so with 5 alone S4 carries 2.0 MW and with 3 alone 1.5 MW backwards: overload by 50
    % for one step.
    """
    network = two_sections(tmp_path, load_3=0, generation_3=2.0, load_5=1.5, limit_4=1.0)
    scenarios, decisions = decide(network, "S1", ["15"], ["t3", "t5"], {})
    assert judge(network, scenarios, decisions, "radial").safe[0]

    (sequence,) = order_operations(network, scenarios, decisions, "radial")

    assert words(network, sequence) == ["open 15", "close t3", "close t5"]
    assert (sequence.excess > 0).tolist() == [False, False, True, False]
    # The judge's violation is that of squared current over squared rating.
    assert sequence.excess[2] == pytest.approx(1.5**2 - 1, rel=5e-3)


def test_make_before_break_closes_the_loop_and_interrupts_nobody(tmp_path: Path) -> None:
    network = two_sections(tmp_path, load_3=0, generation_3=2.0, load_5=1.5, limit_4=1.0)
    scenarios, decisions = decide(network, "S1", ["15"], ["t3", "t5"], {})

    (sequence,) = order_operations(network, scenarios, decisions, "radial", make_before_break=True)

    assert words(network, sequence)[-1] == "open 15"
    assert (sequence.excess == 0).all()
    assert sequence.loop.tolist() == [False, False, True, False]


def test_what_is_left_dark_or_has_no_demand_is_not_shed(tmp_path: Path) -> None:
    network = two_sections(tmp_path)
    scenarios, decisions = decide(network, "S1", [], [], {"1": 1.0, "3": 1.0, "5": 0.5})

    (sequence,) = order_operations(network, scenarios, decisions, "radial")

    assert len(sequence) == 0 and sequence.closed.shape == (1, 6) and not sequence.shed.any()


def test_beyond_the_most_counted_one_operation_is_chosen_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching_sequence, "MOST_COUNTED", 2)
    network = two_sections(tmp_path, load_3=0.4)
    scenarios, decisions = decide(network, "S1", ["15"], ["t3", "t5"], {})

    (sequence,) = order_operations(network, scenarios, decisions, "radial")

    assert not sequence.compared
    assert words(network, sequence) == ["open 15", "close t5", "close t3"]
    assert not sequence.loop.any() and (sequence.closed[-1] == decisions.closed[0]).all()


def test_batches_must_agree(tmp_path: Path) -> None:
    network = two_sections(tmp_path)
    scenarios, decisions = decide(network, "S1", [], [], {})

    with pytest.raises(ValueError, match="1 scenarios and 2 decisions; give one decision for each"):
        order_operations(network, scenarios, Decisions.join([decisions, decisions]), "radial")


def measure(
    network: Network,
    scenarios: Scenarios,
    closed: list[np.ndarray],
    shed: list[np.ndarray],
    steps: list[str],
) -> tuple[float, int, float, int, float]:
    """Return (4) to (8) of one order, state by state and by plain loops."""
    p = scenarios.p_load[0]
    judged = [
        judge(network, scenarios, Decisions(c[None], s[None]), "radial")
        for c, s in zip(closed, shed, strict=True)
    ]
    excess = [
        float(o.worst_violation[0]) if o.worst_violation[0] > SAFE_TOLERANCE else 0.0
        for o in judged
    ]
    live = [
        solve_power_flow(network, p * (1 - s), closed=c).energised
        for c, s in zip(closed, shed, strict=True)
    ]
    gone = sum(float(p[a & ~b].sum()) for a, b in itertools.pairwise(live))
    early = sum(a == "close" and b == "open" for k, a in enumerate(steps) for b in steps[k + 1 :])
    unserved = sum(
        float((p * np.where(alive, s, 1.0)).sum())
        for alive, s in zip(live[1:], shed[1:], strict=True)
    )
    inner = excess[1:-1]
    return max(inner, default=0.0), sum(e > 0 for e in inner), gone, early, unserved


@pytest.mark.parametrize("fault", ["22", "24", "30"])
def test_the_order_is_the_least_of_all_orders_on_ieee33(fault: str) -> None:
    """Every permutation of the decision's operations, each measured on its own."""
    network = load_network("ieee33")
    scenarios = make_scenarios(network, fault)
    decisions = PlanSearch(network, "radial").decide(scenarios)
    (sequence,) = order_operations(network, scenarios, decisions, "radial")

    best = None
    for order in itertools.permutations(sequence.operations):
        closed, shed = [sequence.closed[0]], [sequence.shed[0]]
        for operation in order:
            state, fractions = closed[-1].copy(), shed[-1]
            if not operation.branches:
                fractions = sequence.shed[-1]
            else:
                state[list(operation.branches)] = operation.kind == "close"
            closed.append(state)
            shed.append(fractions)
        if any(has_loop(network, state) for state in closed):
            continue
        found = measure(network, scenarios, closed, shed, [o.kind for o in order])
        best = found if best is None else min(best, found)

    own = measure(
        network,
        scenarios,
        list(sequence.closed),
        list(sequence.shed),
        [o.kind for o in sequence.operations],
    )
    assert best is not None
    assert own == pytest.approx(best, abs=1e-9)
    assert not any(has_loop(network, state) for state in sequence.closed)


def test_loads_alone_never_need_an_overload_on_the_way() -> None:
    """Open, shed, close passes through parts of the final forest.

    With loads alone none of them carries more than the decision.
    """
    network = load_network("bus69")
    scenarios = make_scenarios(network, np.flatnonzero(network.closed))
    decisions = PlanSearch(network, resolve_setting(network, "radial"), max_rounds=1).decide(
        scenarios
    )
    safe = judge(network, scenarios, decisions, "radial").safe

    sequences = order_operations(network, scenarios, decisions, "radial")

    assert safe.sum() > 60
    assert all(
        (sequences[k].excess == 0).all() and not sequences[k].loop.any()
        for k in np.flatnonzero(safe)
    )
