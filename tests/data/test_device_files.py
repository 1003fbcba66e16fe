"""switches.csv and groups.csv beside the files of a feeder."""

import numpy as np
import pytest

from feederguard.data.networks import read_network
from feederguard.models.network import NetworkError
from feederguard.models.power_flow import solve_power_flow

BUSES = """bus,vn_kv,type,p_mw,q_mvar,vmin_pu,vmax_pu,sgen_p_mw
S,20,slack,0,0,0.9,1.1,0
S2,20,pq,0,0,0.9,1.1,0
A,20,pq,1.0,0.3,0.9,1.1,0
B,20,pq,0.6,0.2,0.9,1.1,0
"""
BRANCHES = """branch,from_bus,to_bus,kind,normally_open,r_ohm,x_ohm,b_us,rating_a
K,S,S2,coupler,0,0,0,0,600
SA,S,A,line,0,0.8,0.5,10,270
SB,S2,B,line,0,0.8,0.5,10,270
AB,A,B,tie,1,0.8,0.5,10,200
"""
SWITCHES = """device,branch,bus,kind,normally_open,remote,minutes,available
KB,K,S2,breaker,0,1,,1
B1,SA,S,breaker,0,1,,1
D1,SA,A,disconnector,0,0,,1
B2,SB,S2,recloser,0,1,2,1
T1,AB,B,load_break,1,0,45,0
F1,AB,A,fuse,0,,,
"""


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "mine"
    path.mkdir()
    for name, text in (("buses", BUSES), ("branches", BRANCHES), ("switches", SWITCHES)):
        (path / f"{name}.csv").write_text(text)
    (path / "meta.json").write_text("{}")
    return path


def test_devices_are_read_with_their_ends_states_and_times(folder):
    network = read_network(folder)

    devices = network.devices
    assert devices.name == ("KB", "B1", "D1", "B2", "T1", "F1")
    assert devices.kind == (
        *("breaker", "breaker", "disconnector"),
        *("recloser", "load_break", "fuse"),
    )
    assert [network.branch_name[b] for b in devices.branch] == ["K", "SA", "SA", "SB", "AB", "AB"]
    assert devices.end.tolist() == [1, 0, 1, 0, 1, 0]
    assert devices.closed.tolist() == [True, True, True, True, False, True]
    assert devices.remote.tolist() == [True, True, False, True, False, False]
    assert devices.minutes.tolist() == [1, 1, 30, 2, 45, 30]
    assert devices.available.tolist() == [True, True, True, True, False, True]
    assert network.open_end[network.branch_index("AB")] == 2


def test_columns_of_what_is_not_known_may_be_left_out(folder):
    rows = [line.split(",")[:5] for line in SWITCHES.splitlines()]
    (folder / "switches.csv").write_text("\n".join(",".join(row) for row in rows))

    devices = read_network(folder).devices

    assert not devices.remote.any() and devices.available.all() and set(devices.minutes) == {30}


def test_a_coupler_has_no_impedance_and_can_be_opened(folder):
    network = read_network(folder)
    k = network.branch_index("K")

    flow = solve_power_flow(network)
    apart = solve_power_flow(network, closed=network.closed & (np.arange(4) != k))

    assert abs(flow.voltage[0] - flow.voltage[1]) < 1e-10
    assert apart.energised.tolist() == [True, False, True, False]


def test_without_the_file_there_are_no_devices(folder):
    (folder / "switches.csv").unlink()

    assert read_network(folder).devices is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "B1,SA,S,",
            "B1,SX,S,",
            r"switches\.csv, line 3 \(device 'B1'\): branch 'SX' is not in br",
        ),
        ("B1,SA,S,", "B1,SA,B,", r"branch 'SA' does not end at bus 'B'; use S or A"),
        ("B1,SA,S,breaker", "B1,SA,S,valve", r"kind is 'valve'; use breaker or recloser or"),
        ("B1,SA", "KB,SA", r"line 3 \(device 'KB'\): line 2 has that name too; give every device"),
        ("recloser,0,1,2", "recloser,0,yes,2", r"\(device 'B2'\): remote is 'yes'; use 0 or 1"),
        ("recloser,0,1,2", "recloser,0,1,-2", r"minutes is -2; give the minutes that it takes"),
        (
            "recloser,0",
            "recloser,1",
            r"mine: device 'B2' of branch 'SB' at bus 'S2' is open, but t",
        ),
        ("load_break,1", "load_break,0", r"device 'T1' of branch 'AB' .* but the branch is open;"),
        (
            "device,branch",
            "device,line",
            r"switches\.csv: column branch is missing; the first line",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder, old, new, message):
    (folder / "switches.csv").write_text(SWITCHES.replace(old, new, 1))

    with pytest.raises(NetworkError, match=message):
        read_network(folder)


def test_only_a_coupler_may_have_no_impedance(folder):
    (folder / "branches.csv").write_text(BRANCHES.replace("coupler", "line"))

    with pytest.raises(NetworkError, match=r"r_ohm and x_ohm are both 0; .* or make its kind coup"):
        read_network(folder)


def test_groups_are_read_by_their_rows(folder):
    assert read_network(folder).groups == ()
    (folder / "groups.csv").write_text(
        "group,branch,p_limit_mw\nheads,SA,1.5\nback,AB,0.2\nheads,SB,1.5\n"
    )

    groups = read_network(folder).groups

    assert [(g.name, g.branches, g.p_limit_mw) for g in groups] == [
        ("heads", ("SA", "SB"), 1.5),
        ("back", ("AB",), 0.2),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("heads,SA,0", r"groups\.csv, line 2 \(group 'heads'\): p_limit_mw is 0; give the active"),
        ("heads,SA,1\nheads,SB,2", r"line 3 .*: p_limit_mw is 2, and 1 in an earlier row"),
        (",SA,1", r"groups\.csv, line 2: group is empty; give it a name"),
        ("heads,SX,1", r"mine: group 'heads' holds branch 'SX', which is not there"),
    ],
)
def test_what_is_wrong_with_a_group_is_named(folder, rows, message):
    (folder / "groups.csv").write_text(f"group,branch,p_limit_mw\n{rows}\n")

    with pytest.raises(NetworkError, match=message):
        read_network(folder)
