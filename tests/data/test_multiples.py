"""Multiples of a feeder: copies equal the feeder, ties follow the rule, names are unique."""

import numpy as np
import pytest

from feederguard.data.multiples import TIE_RATING_A, load_multiple, multiply_network
from feederguard.data.networks import load_network
from feederguard.models.network import Devices, GroupLimit, Network, NetworkError
from feederguard.models.network.graph import feeding_tree
from feederguard.models.power_flow import solve_power_flow
from feeders import feeder


def small(**changes: object) -> Network:
    """Loads at 0, 1 and 2, generators at 0 and 2; the ends are buses 2 and 3.

    0 --head-- 1 --a-- 2
               |       .
               +--b-- 3   (tie 3-2)
    """
    return feeder(
        "head:0-1 a:1-2 b:1-3 tie:3~2",
        bus_name=("s", "1", "2", "3"),
        p_load=[0.1, 0.2, 0.3, 0.0],
        b_shunt=[0.01, 0, 0, 0],
        v_substation=[1.02],
        r=[0.01, 0.02, 0.04, 0.09],
        x=0.03,
        b_from=0.001,
        rating=[9.0, 1.0, 2.0, 1.0],
        gen_name=("grid", "pv"),
        gen_bus=[0, 2],
        gen_p_min=[0, 0],
        gen_p_max=[5.0, 0.1],
        gen_q_min=[0, 0],
        gen_q_max=[0, 0],
        gen_cost=[[0, 30.0, 0], [0, 1.0, 2.0]],
        gen_is_grid=[True, False],
    ).with_changes(**changes)


@pytest.mark.parametrize(
    "name", ["ieee33", "bus69", "mantovani136", "kraftringen533", "cigre_lv18"]
)
def test_every_copy_has_the_voltages_of_the_feeder(name: str) -> None:
    feeder, three = load_network(name), load_multiple(f"{name}_x3", seed=4)
    alone, together = solve_power_flow(feeder), solve_power_flow(three)
    root = int(feeder.substation[0])
    others = np.delete(np.arange(feeder.n_bus), root)
    copies = together.voltage[1:].reshape(3, -1)
    assert together.voltage[0] == pytest.approx(alone.voltage[root], abs=1e-12)
    for copy in copies:
        assert copy == pytest.approx(alone.voltage[others], abs=1e-9)
    assert float(together.loss_mw) == pytest.approx(3 * float(alone.loss_mw), rel=1e-9)
    assert three.n_bus == 3 * (feeder.n_bus - 1) + 1
    assert three.p_load.sum() == pytest.approx(3 * feeder.p_load.sum(), rel=1e-12)


def test_it_is_radial_and_only_ties_join_copies() -> None:
    feeder, four = load_network("ieee33"), load_multiple("ieee33_x4")
    assert len(feeding_tree(four)) == four.n_bus - 1
    copy = np.array([0, *(int(name.rsplit("@")[1]) for name in four.bus_name[1:])])
    near, far = copy[four.from_bus], copy[four.to_bus]
    joins = (near != far) & (near > 0) & (far > 0)
    assert joins.sum() == 3 * 2
    assert (far[joins] == near[joins] + 1).all()
    assert np.array_equal(np.unique(near[joins], return_counts=True)[1], [2, 2, 2])
    assert not four.closed[joins].any() and (np.array(four.kind)[joins] == "tie").all()
    assert four.is_tie.sum() == 4 * feeder.is_tie.sum() + 6


def test_what_a_tie_is_like_by_hand() -> None:
    two = multiply_network(small(), 2, ties_per_pair=9)
    assert two.name == "hand_x2"
    assert two.bus_name == ("s", "1@1", "2@1", "3@1", "1@2", "2@2", "3@2")
    # Two ends, 2 and 3, so two ties; lines have 0.01, 0.02 and 0.04 pu.
    assert two.n_branch == 2 * 4 + 2
    assert two.r[8:] == pytest.approx([0.02, 0.02])
    assert two.x[8:] == pytest.approx([0.03, 0.03])
    assert not two.b_from[8:].any()
    rating = {"2": 1.0, "3": 2.0}
    for k in (8, 9):
        near, far = (two.bus_name[int(end[k])].split("@") for end in (two.from_bus, two.to_bus))
        assert two.branch_name[k] == f"{near[0]}@1-{far[0]}@2"
        assert two.rating[k] == max(rating[near[0]], rating[far[0]])
    assert {two.bus_name[i] for i in two.from_bus[8:]} == {"2@1", "3@1"}


def test_a_tie_is_rated_at_most_400_a() -> None:
    two = multiply_network(small(rating=np.full(4, np.inf)), 2)
    assert two.rating[8] * two.base_current_a[8] == pytest.approx(TIE_RATING_A, rel=1e-12)


def test_what_hangs_from_the_substation_counts_n_times_and_generators_are_copied() -> None:
    three = multiply_network(small(), 3)
    assert (three.p_load[0], three.b_shunt[0]) == (pytest.approx(0.3), pytest.approx(0.03))
    assert three.v_substation[0] == 1.02
    assert three.gen_name == ("grid@1", "pv@1", "grid@2", "pv@2", "grid@3", "pv@3")
    assert [three.bus_name[i] for i in three.gen_bus] == ["s", "2@1", "s", "2@2", "s", "2@3"]
    assert three.gen_is_grid.tolist() == [True, False] * 3
    assert three.gen_cost.tolist() == small().gen_cost.tolist() * 3


def test_a_seed_decides_the_ties_and_nothing_else() -> None:
    feeder = load_network("bus69")
    one, same, other = (multiply_network(feeder, 5, seed) for seed in (1, 1, 2))
    assert one.branch_name == same.branch_name != other.branch_name
    n = 5 * feeder.n_branch
    assert one.branch_name[:n] == other.branch_name[:n]
    assert np.array_equal(one.p_load, other.p_load)


def test_one_copy_is_the_feeder_and_no_ties_may_be_asked_for() -> None:
    feeder = small()
    assert multiply_network(feeder, 1) is feeder
    assert multiply_network(feeder, 3, ties_per_pair=0).n_branch == 12
    assert load_multiple("ieee33").n_bus == 33


def test_a_feeder_not_written_from_its_substation_on_keeps_its_flow() -> None:
    swapped = small(
        bus_name=("1", "s", "2", "3"), p_load=np.array([0.2, 0.1, 0.3, 0.0]), substation=np.array([1]),
        from_bus=np.array([1, 0, 0, 3]), to_bus=np.array([0, 2, 3, 2]), b_shunt=np.array([0, 0.01, 0, 0]),
        gen_bus=np.array([1, 2]),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="its 2 dispatchable generators feed nothing here"):
        a, b = (solve_power_flow(multiply_network(network, 2)) for network in (small(), swapped))
    assert float(a.loss_mw) == pytest.approx(float(b.loss_mw), rel=1e-12)
    assert multiply_network(swapped, 2).bus_name[0] == "s"


@pytest.mark.parametrize(
    ("changes", "n", "words"),
    [
        ({}, 0, "hand: 0 copies of a feeder; make at least one"),
        (
            {
                "substation": np.array([0, 2]),
                "v_substation": np.array([1.0, 1.0]),
                "gen_is_grid": np.array([False, False]),
            },
            2,
            "hand has 2 substations; multiply a feeder that hangs from one bus",
        ),
        (
            {"closed": np.ones(4, dtype=bool)},
            2,
            "hand is meshed: closed branch 'tie' closes a loop",
        ),
        (
            {"kind": ("trafo", "trafo", "trafo", "tie")},
            2,
            "hand: no line at 10 kV, where its ends are",
        ),
    ],
)
def test_what_cannot_be_multiplied_is_refused(
    changes: dict[str, object], n: int, words: str
) -> None:
    with pytest.raises(NetworkError, match=words):
        multiply_network(small(**changes), n)


def test_a_bad_number_of_ties_and_an_unknown_feeder_are_refused() -> None:
    with pytest.raises(NetworkError, match="ties_per_pair is -1; it must be zero or more"):
        multiply_network(small(), 2, ties_per_pair=-1)
    with pytest.raises(NetworkError, match="no feeder 'nowhere'; the bundled ones are"):
        load_multiple("nowhere_x3")


def test_devices_are_copied_and_every_new_tie_has_one() -> None:
    devices = Devices(
        name=["B", "T"],
        branch=[0, 3],
        end=[0, 1],
        kind=["breaker", "load_break"],
        closed=[True, False],
        remote=[True, False],
        minutes=[1.0, 30.0],
        available=[True, True],
    )

    two = multiply_network(small(devices=devices), 2, ties_per_pair=1)

    assert two.devices is not None
    assert two.devices.name == ("B@1", "T@1", "B@2", "T@2", "tie 1")
    at = [two.branch_name[b] for b in two.devices.branch]
    assert at[:4] == ["head@1", "tie@1", "head@2", "tie@2"] and two.is_tie[two.devices.branch[4]]
    assert two.devices.closed.tolist() == [True, False, True, False, False]


def test_group_limits_are_copied() -> None:
    two = multiply_network(small(groups=[GroupLimit("G", ("head",), 2.0)]), 2)

    assert [(g.name, g.branches, g.p_limit_mw) for g in two.groups] == [
        ("G@1", ("head@1",), 2.0),
        ("G@2", ("head@2",), 2.0),
    ]
