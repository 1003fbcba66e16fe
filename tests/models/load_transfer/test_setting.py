"""The two settings of load transfer, and the questions about reach that they rest on."""

import networkx as nx
import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Setting, device_note, resolve_setting, restrict
from feederguard.models.load_transfer.setting import faultable_branches
from feederguard.models.network import Devices, NetworkError
from feederguard.models.network.graph import energised_buses, zones
from feeders import feeder
from switched_feeder import switched_feeder


@pytest.fixture(scope="module")
def network():
    return load_network("ieee33")


def names(network, mask):
    return [name for name, marked in zip(network.branch_name, mask, strict=True) if marked]


def test_paper_setting_switches_ties_only_and_limits_power(network):
    setting = resolve_setting(network, "paper")

    assert (setting.radial, setting.v_min_pu, setting.v_max_pu) == (False, 0.90, 1.10)
    assert setting.active_limit_mw == network.paper_limit_mw == 0.9
    assert names(network, setting.switchable_branches(network)) == ["33", "34", "35", "36", "37"]


def test_radial_setting_switches_ties_and_loop_lines_and_limits_current(network):
    """Only branch 1 lies on no loop of the 33-bus feeder."""
    setting = resolve_setting(network, "radial")

    assert (setting.radial, setting.v_min_pu, setting.v_max_pu) == (True, 0.90, 1.05)
    assert setting.active_limit_mw is None
    assert names(network, ~setting.switchable_branches(network)) == ["1"]


def test_a_transformer_on_a_loop_is_not_a_switch(network):
    kind = list(network.kind)
    kind[4] = "trafo"

    mask = resolve_setting(network, "radial").switchable_branches(network.with_changes(kind=kind))

    assert names(network, ~mask) == ["1", "5"]


def test_named_switchable_branches_override_the_rule(network):
    setting = Setting("mine", True, 0.9, 1.1, switchable=("7", "33"))

    assert names(network, setting.switchable_branches(network)) == ["7", "33"]
    assert resolve_setting(network, setting) is setting
    with pytest.raises(NetworkError, match="ieee33: no branch '99'; there are 1, 2, 3"):
        Setting("mine", True, 0.9, 1.1, switchable=("99",)).switchable_branches(network)


def test_active_limit_holds_on_every_branch_that_does_not_touch_a_substation(network):
    mask = resolve_setting(network, "paper").limited_branches(network)

    assert names(network, ~mask) == ["1"]
    two = network.with_changes(substation=[0, 17], v_substation=[1.0, 1.0])
    assert names(network, ~resolve_setting(network, "paper").limited_branches(two)) == [
        "1",
        "17",
        "36",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.95, 0.90), r"setting 'mine': voltage band 0.95..0.9 pu is empty"),
        ((0.0, 1.1), r"voltage band 0.0..1.1 pu is empty"),
        ((float("nan"), 1.1), r"voltage band nan..1.1 pu is empty"),
        ((0.9, 1.1, 0.0), "active_limit_mw is 0.0; it must be positive"),
        ((0.9, 1.1, float("nan")), "active_limit_mw is nan; it must be positive"),
    ],
)
def test_impossible_limits_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Setting("mine", True, *arguments)


def test_unknown_setting_lists_the_known_ones(network):
    with pytest.raises(
        ValueError, match="unknown setting 'looped'; use one of paper, radial, meshed, or a Setting"
    ):
        resolve_setting(network, "looped")


def test_paper_setting_of_a_feeder_without_its_limit_names_the_remedy(network):
    with pytest.raises(
        NetworkError, match="ieee33: the paper setting needs .* give it paper_limit_mw"
    ):
        resolve_setting(network.with_changes(paper_limit_mw=np.inf), "paper")


@pytest.mark.parametrize("seed", range(5))
def test_reach_and_zones_are_those_of_the_graph(network, seed):
    available = np.random.default_rng(seed).random(network.n_branch) < 0.8
    two = network.with_changes(substation=[0, 24], v_substation=[1.0, 1.0])
    graph = nx.Graph()
    graph.add_nodes_from(range(network.n_bus))
    graph.add_edges_from(
        (network.from_bus[b], network.to_bus[b]) for b in np.flatnonzero(available)
    )

    reached, zone = energised_buses(two, available), zones(network, available)

    expected = [
        nx.has_path(graph, 0, bus) or nx.has_path(graph, 24, bus) for bus in range(network.n_bus)
    ]
    np.testing.assert_array_equal(reached, expected)
    same = [[nx.has_path(graph, i, j) for j in range(network.n_bus)] for i in range(network.n_bus)]
    np.testing.assert_array_equal(zone[:, None] == zone[None, :], same)
    assert sorted(set(zone.tolist())) == list(range(nx.number_connected_components(graph)))


def test_every_closed_line_but_the_first_can_fail(network):
    """The loss of branch 1 cuts off the whole 33-bus feeder; ties are open and cannot fail."""
    assert names(network, np.isin(np.arange(37), faultable_branches(network))) == [
        str(k) for k in range(2, 33)
    ]


def test_a_second_substation_lets_the_first_line_fail_too(network):
    two = network.with_changes(substation=[0, 17], v_substation=[1.0, 1.0])

    assert 0 in faultable_branches(two)


def test_a_stub_that_leaves_other_load_fed_can_fail(network):
    """With tie 36 (18-33) gone, the feeder's end hangs from one line.

    The loss of that line still leaves a problem to solve.
    """
    keep = np.array([name != "36" for name in network.branch_name])
    fields = (
        "branch_name",
        "kind",
        "from_bus",
        "to_bus",
        "r",
        "x",
        "g_from",
        "b_from",
        "g_to",
        "b_to",
        "tap",
        "shift",
        "rating",
        "closed",
        "open_end",
    )
    stub = network.with_changes(**{name: np.array(getattr(network, name))[keep] for name in fields})
    assert not stub.on_loop[stub.branch_index("17")]

    assert stub.branch_index("17") in faultable_branches(stub)


def test_with_devices_only_they_are_operated():
    """The operable branches on a loop, and the ties; without devices every line of a loop."""
    drawn = switched_feeder()
    radial = resolve_setting(drawn, "radial")
    meshed = Setting("mine", False, 0.9, 1.1)

    assert names(drawn, radial.switchable_branches(drawn)) == list("abcfgKtu")
    assert names(drawn, meshed.switchable_branches(drawn)) == ["t", "u"]
    bare = drawn.with_changes(devices=None)
    assert names(bare, radial.switchable_branches(bare)) == list("abcefghtu")


def test_options_restrict_devices_and_branches():
    drawn = switched_feeder()
    radial = resolve_setting(drawn, "radial")

    network, setting = restrict(drawn, radial, ("g", "t"), ("L2", "u"))

    assert names(network, setting.switchable_branches(network)) == ["g", "t"]
    assert network.open_end[network.branch_index("g")] == 2
    bare, setting = restrict(drawn.with_changes(devices=None), radial, (), ("a", "t"))
    assert names(bare, setting.switchable_branches(bare)) == list("bcefghu")
    with pytest.raises(NetworkError, match="hand: no device or branch 'Z'"):
        restrict(drawn, radial, (), ("Z",))


def test_outputs_say_what_devices_they_rest_on(network):
    assert device_note(network).startswith("ieee33 has no device data: a switch is assumed in")
    assert (
        device_note(switched_feeder()) == "14 devices of hand; 8 branches can be operated by them"
    )


def test_with_devices_a_fault_that_takes_every_load_with_its_block_is_left_out():
    """l and m have one breaker, at the head of l: the loss of either leaves nothing to feed."""
    breaker = Devices(
        name=["B"],
        branch=[0],
        end=[0],
        kind=["breaker"],
        closed=[True],
        remote=[True],
        minutes=[1.0],
        available=[True],
    )
    drawing, load = "l:0-1 m:1-2", [0, 0.1, 0.1]

    assert faultable_branches(feeder(drawing, p_load=load)).tolist() == [1]
    assert faultable_branches(feeder(drawing, p_load=load, devices=breaker)).tolist() == []
    bare = switched_feeder()
    assert names(bare, np.isin(np.arange(bare.n_branch), faultable_branches(bare))) == list(
        "abcdefgh"
    )


def test_a_tie_under_repair_saves_nobody():
    drawing, load = "l:0-1 t:0~1", [0, 0.1]

    assert faultable_branches(feeder(drawing, p_load=load)).tolist() == [0]
    out = feeder(drawing, p_load=load, in_service=[True, False])
    assert faultable_branches(out).tolist() == []
