"""What trips, is dark, is isolated and closed again, against a table made by hand.

fault_response.py and branch_ends.py are tested here.
"""

import copy
import re

import numpy as np
import pandapower
import pandapower.networks as examples
import pytest
from pandapower import topology

from feederguard.models.devices import block_devices, isolate
from feederguard.models.network import Network, NetworkError
from feeders import feeder
from pandapower_nets import indexed
from switched_feeder import switched_feeder

ALL = "0 1 2 3 4 5 6 7 8 9 10 11"
FED = "1 2 3 4 5 7 8 9 10 11"
# Fault; trips; dark; to be opened; out of use till the repair; closed again; dark thereafter.
TABLE = f"""
bus 0    | grid0  | 0 1 2 3 4 5   | B1       | a         |    | 0 1 2 3 4 5
bus 1    | B1     | 1 2 3 4 5     | R1 D2    | a b e     |    | 1 2 3 4 5
bus 2    | R1     | 2 3 4         | D1 L1 F1 | b c d     |    | 2 3 4
bus 3    | R1     | 2 3 4         | L1       | c t       | R1 | 3
bus 4    | F1     | 4             |          | d         |    | 4
bus 5    | B1     | 1 2 3 4 5     | D2       | e u       | B1 | 5
bus 6    | grid6  | 6 7 8 9 10 11 | B2       | f         |    | 6 7 8 9 10 11
bus 7    | B2     | 7 8 9 10 11   | L2 L3 K  | f g K     |    | 7 8 9 10 11
bus 8    | B2     | 7 8 9 10 11   | L2 L3 T2 | g h t     | B2 | 8 9
bus 9    | B2     | 7 8 9 10 11   | L2 L3 T2 | g h t     | B2 | 8 9
bus 10   | K      | 10 11         | F2       | K m u     |    | 10 11
bus 11   | F2     | 11            |          | m         |    | 11
branch a | B1     | 1 2 3 4 5     | R1 D2    | a b e     |    | 1 2 3 4 5
branch b | R1     | 2 3 4         | D1       | b         |    | 2 3 4
branch c | R1     | 2 3 4         | L1       | c t       | R1 | 3
branch d | F1     | 4             |          | d         |    | 4
branch e | B1     | 1 2 3 4 5     | D2       | e u       | B1 | 5
branch f | B2     | 7 8 9 10 11   | L2 L3 K  | f g K     |    | 7 8 9 10 11
branch g | B2     | 7 8 9 10 11   | L2 L3    | g         | B2 | 8 9
branch h | B2     | 7 8 9 10 11   | L2 L3 T2 | g h t     | B2 | 8 9
branch K | K      | 10 11         | F2       | K m u     |    | 10 11
branch m | F2     | 11            |          | m         |    | 11
branch t | B2     | 7 8 9 10 11   | T2       | t         | B2 |
branch u | B1     | 1 2 3 4 5     | D2       | e u       | B1 | 5
device B1 | grid0 | 0 1 2 3 4 5   | R1 D2    | a b e     |    | 0 1 2 3 4 5
device R1 | B1    | 1 2 3 4 5     | D1 D2    | a b e     |    | 1 2 3 4 5
device D1 | R1    | 2 3 4         | L1 F1    | b c d     |    | 2 3 4
device L1 | R1    | 2 3 4         | D1 F1    | b c d t   |    | 2 3 4
device F1 | R1    | 2 3 4         | D1 L1    | b c d     |    | 2 3 4
device D2 | B1    | 1 2 3 4 5     | R1       | a b e u   |    | 1 2 3 4 5
device B2 | grid6 | 6 7 8 9 10 11 | L2 L3 K  | f g K     |    | 6 7 8 9 10 11
device L2 | B2    | 7 8 9 10 11   | L3 K     | f g K     |    | 7 8 9 10 11
device L3 | B2    | 7 8 9 10 11   | L2 T2    | g h t     | B2 | 8 9
device K  | B2    | 7 8 9 10 11   | L2 L3 F2 | f g K m u |    | 7 8 9 10 11
device F2 | K     | 10 11         |          | K m u     |    | 10 11
device T1 | R1 B2 | 2 3 4 7 8 9 10 11      | L1 T2 | c t     | R1 B2 | 3
device T2 | B2    | 7 8 9 10 11            | L2 L3 | g h t   | B2    | 8 9
device U1 | B1 K  | 1 2 3 4 5 10 11        | D2 F2 | e K m u | B1    | 5 10 11
branch b + branch g | R1 B2 | 2 3 4 7 8 9 10 11     | D1 L2 L3    | b g     | B2    | 2 3 4 8 9
branch a + branch b | B1 R1 | 1 2 3 4 5             | D1 D2       | a b e   |       | 1 2 3 4 5
branch c + branch d | R1 F1 | 2 3 4                 | L1          | c d t   | R1    | 3 4
branch d + branch m | F1 F2 | 4 11                  |             | d m     |       | 4 11
branch e + branch t | B1 B2 | 1 2 3 4 5 7 8 9 10 11 | D2 T2       | e t u   | B1 B2 | 5
bus 6 + branch a    | grid6 B1 | {ALL[2:]} | R1 D2 B2 | a b e f | | {ALL[2:]}
branch c + branch h | R1 B2 | 2 3 4 7 8 9 10 11     | L1 L2 L3 T2 | c g h t | R1 B2 | 3 8 9
branch K + branch e | K B1  | 1 2 3 4 5 10 11       | D2 F2       | e K m u | B1    | 5 10 11
device R1 + device L3 | B1 B2 | {FED} | D1 D2 L2 T2 | a b e g h t | B2 | 1 2 3 4 5 8 9
bus 0 + bus 6       | grid0 grid6 | {ALL}           | B1 B2       | a f     |       | {ALL}
"""
ROWS = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]


def named(places, network):
    """The devices of some places by name, the grid above as grid and its bus."""
    return [
        network.devices.name[place.device] if place.branch >= 0 else f"grid{place.bus}"
        for place in places
    ]


def at(mask, names):
    return [names[k] for k in np.flatnonzero(mask)]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_every_fault_of_the_feeder_drawn_by_hand(row):
    fault, trips, dark, opened, failed, closed, dark_after = row
    network = switched_feeder()
    faults = [re.sub(" +", ":", part.strip()) for part in fault.split("+")]

    response = isolate(network, faults)

    assert response.faults == tuple(re.sub(" +", " ", part.strip()) for part in fault.split("+"))
    assert named(response.tripped, network) == trips.split()
    assert at(response.dark, network.bus_name) == dark.split()
    assert named(response.isolating, network) == opened.split()
    assert at(response.failed, network.branch_name) == failed.split()
    assert named(response.reclosing, network) == closed.split()
    assert at(response.dark_reclosed, network.bus_name) == dark_after.split()
    assert response.dark_kw(network) == pytest.approx(
        sum(int(bus) for bus in dark.split() if bus not in ("0", "6"))
    )


def test_every_element_of_the_feeder_has_its_row():
    network = switched_feeder()
    single = {tuple(row[0].split()) for row in ROWS if "+" not in row[0]}

    assert single == {
        *(("bus", name) for name in network.bus_name),
        *(("branch", name) for name in network.branch_name),
        *(("device", name) for name in network.devices.name),
    }
    assert sum("+" in row[0] for row in ROWS) == 10


def test_places_are_named_as_a_person_finds_them():
    network = switched_feeder()

    response = isolate(network, ["bus:6", "g"])

    texts = [place.text(network) for place in (*response.tripped, *response.isolating)]
    assert texts == [
        *("grid above at bus 6", "B2 (f at bus 6)"),
        *("L2 (g at bus 7)", "L3 (g at bus 8)"),
    ]
    assert at(response.open_after_trip(network), network.branch_name) == ["f"]


def test_without_devices_the_head_trips_and_the_branch_alone_is_cut_at_both_ends():
    network = feeder("a:0-1 b:1-2 c:2-3 d:0-4 t:4~3")

    response = isolate(network, "b")

    assert [place.text(network) for place in response.tripped] == ["a at bus 0"]
    assert at(response.dark, network.bus_name) == ["1", "2", "3"]
    texts = [place.text(network) for place in response.isolating]
    assert texts == ["b at bus 1", "b at bus 2"]
    assert at(response.failed, network.branch_name) == ["b"]
    assert response.reclosing == response.tripped
    assert at(response.dark_reclosed, network.bus_name) == ["2", "3"]


def test_a_feeder_without_a_breaker_trips_at_its_head():
    """The only device is a load-break switch in b: the head of a trips, and a dies with bus 1."""
    devices = switched_feeder().devices.on_branches([-1, -1, 1, *[-1] * 9])
    network = feeder("a:0-1 b:1-2 c:0-3", devices=devices)

    behind, before = isolate(network, "b"), isolate(network, "a")

    assert [place.text(network) for place in behind.tripped] == ["a at bus 0"]
    assert [place.text(network) for place in behind.isolating] == ["L1 (b at bus 1)"]
    assert behind.reclosing == behind.tripped
    assert at(before.failed, network.branch_name) == ["a", "b"] and not before.reclosing
    assert at(before.dark_reclosed, network.bus_name) == ["1", "2"]


def test_a_blocked_device_neither_trips_nor_isolates():
    network = block_devices(switched_feeder(), ["R1", "D1"])

    response = isolate(network, "b")

    assert named(response.tripped, network) == ["B1"]
    assert at(response.dead_bus, network.bus_name) == ["1", "2"]
    assert named(response.isolating, network) == ["L1", "F1", "D2"]


def test_a_closed_ring_is_tripped_from_both_sides():
    """With t closed, both substations feed c; the recloser and, beyond h and g, B2 trip."""
    network = switched_feeder()
    ring = network.with_changes(closed=network.closed | np.isin(network.branch_name, ["t"]))

    response = isolate(ring, "c")

    assert named(response.tripped, ring) == ["R1", "B2"]
    assert named(response.isolating, ring) == ["L1", "T1"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("bus:99", r"hand: no branch, device or bus 'bus:99'; branches are a, b, c"),
        (99, r"hand: fault is 99; branches are numbered 0 to 11"),
        (True, r"hand: fault is True; give a branch by number, or a branch, device or bus by"),
        ([], r"hand: no fault is given; name a branch, device or bus"),
    ],
)
def test_what_cannot_fail_is_refused(fault, message):
    with pytest.raises(NetworkError, match=message):
        isolate(switched_feeder(), fault)


def applied(net, network, response):
    """A copy of the net with what stays open after the isolation opened in it."""
    net = copy.deepcopy(net)
    stays = [place for place in response.tripped if place not in response.reclosing]
    for place in (*response.isolating, *stays):
        if place.device >= 0:
            net.switch.loc[net.switch.index[place.device], "closed"] = False
        elif place.branch < 0:
            net.ext_grid["in_service"] = False
        else:
            # The head of a feeder has a breaker that the net does not draw.
            name = network.branch_name[place.branch]
            table, et = ("trafo", "t") if network.kind[place.branch] == "trafo" else ("line", "l")
            element = net[table].index[net[table]["name"] == name][0]
            bus = int(network.bus_name[place.bus])
            pandapower.create_switch(net, bus, element, et=et, closed=False)
    return net


@pytest.mark.filterwarnings("ignore:tap_dependency_table:DeprecationWarning")
@pytest.mark.parametrize("make", [examples.create_cigre_network_mv, examples.mv_oberrhein])
def test_isolation_of_published_nets_in_pandapowers_own_topology(make):
    """Only devices that exist are operated; once they are open, pandapower supplies the same buses,
    and nothing dead.
    """
    net = indexed(make())
    for table in ("line", "trafo"):
        net[table]["name"] = [f"{table} {index}" for index in net[table].index]
    network = Network.from_pandapower(net)
    devices = network.devices
    faults = [*range(0, network.n_branch, 7), *(f"bus:{b}" for b in network.bus_name[::13])]
    for fault in [*faults, *(f"device:{name}" for name in devices.name[::29])]:
        response = isolate(network, fault)
        for place in (*response.tripped, *response.isolating, *response.reclosing):
            if place.device >= 0:
                there = devices.branch[place.device], devices.end[place.device]
                assert there == (place.branch, place.end)
            else:
                assert place.bus in network.substation
        after = applied(net, network, response)
        dark = {int(network.bus_name[bus]) for bus in np.flatnonzero(response.dark_reclosed)}
        assert topology.unsupplied_buses(after) == dark
        assert {int(network.bus_name[bus]) for bus in np.flatnonzero(response.dead_bus)} <= dark
        supplied = set(net.bus.index) - dark
        switches = after.switch[~after.switch["closed"]]
        opened = set(zip(switches["et"], switches["element"], switches["bus"], strict=True))
        for branch in np.flatnonzero(response.failed):
            table, _, index = network.branch_name[branch].partition(" ")
            ends = net[table].loc[int(index)].filter(regex="bus$")
            cut = [bus not in supplied or (table[0], int(index), bus) in opened for bus in ends]
            assert all(cut) if response.dead_branch[branch] else any(cut)
