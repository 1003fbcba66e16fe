"""Blocks of the feeder drawn by hand, and of feeders without device data."""

import numpy as np

from feederguard.models.devices import blocks
from feeders import feeder
from switched_feeder import switched_feeder


def parts(network):
    """The blocks as sets of names, buses before branches."""
    found = blocks(network)
    return {
        frozenset(
            [network.bus_name[i] for i in np.flatnonzero(found.bus == number)]
            + [network.branch_name[b] for b in np.flatnonzero(found.branch == number)]
        )
        for number in range(found.n_block)
    }


def test_blocks_of_the_feeder_drawn_by_hand():
    drawn = "0, a 1, b, 2, c 3, d 4, e 5 u, 6, f 7, g, 8 h 9, K 10, m 11, t"

    assert parts(switched_feeder()) == {frozenset(part.split()) for part in drawn.split(", ")}


def test_a_blocked_device_divides_nothing_while_it_is_closed():
    """D2 and T1 are blocked; T1 is open."""
    network = switched_feeder()
    names = np.array(network.devices.name)
    devices = network.devices.with_changes(available=~np.isin(names, ("D2", "T1")))

    found = parts(network.with_changes(devices=devices))

    assert frozenset(("a", "1", "e", "5", "u")) in found
    assert frozenset(("c", "3")) in found and frozenset(("t",)) in found


def test_without_device_data_every_bus_and_branch_is_a_block():
    network = feeder("a:0-1 b:1-2 t:0~2")

    assert parts(network) == {frozenset((name,)) for name in ("0", "1", "2", "a", "b", "t")}


def test_the_head_of_a_feeder_divides_it_from_its_substation():
    """No device is drawn but one in b; a is taken to have a breaker at bus 0."""
    devices = switched_feeder().devices.on_branches([-1, 1, *[-1] * 10])
    network = feeder("a:0-1 b:1-2", devices=devices)

    assert frozenset(("0",)) in parts(network) and frozenset(("a", "1")) in parts(network)
