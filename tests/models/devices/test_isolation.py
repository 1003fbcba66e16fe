"""What trips, is dark, is isolated and closed again, against a table made by hand.

fault_response.py and branch_ends.py are tested here.
"""

import re

import numpy as np
import pytest

from feederguard.models.devices import blocks, isolate
from feederguard.models.network import NetworkError
from feeders import feeder
from switched_feeder import switched_feeder

ALL = "0 1 2 3 4 5 6 7 8 9 10 11"
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
bus 6 + branch a    | grid6 B1 | 1 2 3 4 5 6 7 8 9 10 11 | R1 D2 B2 | a b e f | | 1 2 3 4 5 6 7 8 9 10 11
branch c + branch h | R1 B2 | 2 3 4 7 8 9 10 11     | L1 L2 L3 T2 | c g h t | R1 B2 | 3 8 9
branch K + branch e | K B1  | 1 2 3 4 5 10 11       | D2 F2       | e K m u | B1    | 5 10 11
device R1 + device L3 | B1 B2 | 1 2 3 4 5 7 8 9 10 11 | D1 D2 L2 T2 | a b e g h t | B2 | 1 2 3 4 5 8 9
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
