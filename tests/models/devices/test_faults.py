"""Which branches are out of use for the faults that a person asks for."""

import numpy as np
import pytest

from feederguard.models.devices import failed_branches
from feederguard.models.network import NetworkError
from feeders import feeder
from switched_feeder import switched_feeder


def out_of_use(network, faults):
    """The failed branch and all that are out of use, by name."""
    branch, failed = failed_branches(network, faults)
    if failed is None:
        failed = np.arange(network.n_branch) == branch[:, None]
    return [
        (network.branch_name[b], "".join(np.array(network.branch_name)[row]))
        for b, row in zip(branch, failed, strict=True)
    ]


def test_without_devices_a_failed_branch_alone_is_out_of_use():
    network = feeder("a:0-1 b:1-2 c:2-3 t:0~3")

    assert out_of_use(network, ["a", 2]) == [("a", "a"), ("c", "c")]
    assert out_of_use(network, "b") == [("b", "b")]
    assert out_of_use(network, np.array([1, 1, 3])) == [("b", "b"), ("b", "b"), ("t", "t")]


def test_a_tuple_is_several_faults_at_once():
    network = feeder("a:0-1 b:1-2 c:2-3 t:0~3")

    assert out_of_use(network, [("a", "c"), "b"]) == [("a", "ac"), ("b", "b")]
    assert out_of_use(network, [("c", 0)]) == [("c", "ac")]


def test_a_mask_is_made_only_where_more_than_one_is_out_of_use():
    assert failed_branches(feeder("a:0-1 b:1-2"), ["a", "b"])[1] is None
    assert failed_branches(switched_feeder(), ["b", "d"])[1] is None


def test_with_devices_the_dead_block_and_its_edge_are_out_of_use():
    """As in the table of the feeder drawn by hand."""
    network = switched_feeder()

    assert out_of_use(network, ["c", "bus:7", "device:T2"]) == [
        *(("c", "ct"), ("f", "fgK")),
        ("g", "ght"),
    ]
    assert out_of_use(network, [("b", "g"), ("bus:0", "b")]) == [("b", "bg"), ("b", "ab")]


def test_what_cannot_fail_is_refused():
    network = feeder("a:0-1 b:1-2")

    with pytest.raises(NetworkError, match="hand: no branch, device or bus 'z'; branches are a, b"):
        failed_branches(network, ["a", "z"])
    with pytest.raises(NetworkError, match="hand: fault is 7; branches are numbered 0 to 1"):
        failed_branches(network, [7])
    with pytest.raises(NetworkError, match=r"hand: fault \('a', 'a'\) names one twice; name each"):
        failed_branches(network, [("a", "a")])
    with pytest.raises(NetworkError, match=r"hand: fault is 1\.5; give a branch by number, or a"):
        failed_branches(network, [1.5])
