"""Switches of a pandapower net as devices, there and back; write_switches.py is tested here."""

import pandapower
import pandapower.networks as examples
import pytest

from feederguard.models.network import Network, NetworkError
from feederguard.models.network.devices import MANUAL_MINUTES
from feederguard.models.power_flow import solve_power_flow
from pandapower_nets import add_line, add_trafo3w, assert_round_trip, assert_same_flow, feeder, run

PER_DEVICE = ("name", "kind")
ARRAYS = ("end", "closed", "remote", "minutes", "available")


def switched():
    """Line 1 from bus 1 to 2 has a breaker and a disconnector, line 3 hangs at bus 2 from a load
    break switch, the transformer has a fuse at its low side; a coupler leads to bus 5.
    """
    net = feeder()
    pandapower.create_bus(net, 20.0)
    add_line(net, 5, 3, name="spare")
    pandapower.create_switch(net, 1, 1, et="l", type="CB", name="B1")
    pandapower.create_switch(net, 2, 1, et="l", type="DS", name="D1")
    pandapower.create_switch(net, 2, 3, et="l", type="LBS", name="S3", closed=False)
    pandapower.create_switch(net, 4, 0, et="t", type="fuse", name="F")
    pandapower.create_switch(net, 2, 5, et="b", type="CB", name="K", closed=False)
    pandapower.create_switch(net, 5, 4, et="l", type="recloser", name="R")
    return net


def assert_same_devices(one, other):
    a, b = one.devices, other.devices
    for name in PER_DEVICE:
        assert getattr(a, name) == getattr(b, name)
    for name in ARRAYS:
        assert getattr(a, name).tolist() == getattr(b, name).tolist()
    assert [one.branch_name[k] for k in a.branch] == [other.branch_name[k] for k in b.branch]


def test_every_switch_becomes_a_device_at_its_end():
    network = assert_same_flow(switched())

    devices = network.devices
    assert devices.name == ("B1", "D1", "S3", "F", "K", "R")
    assert devices.kind == (
        *("breaker", "disconnector", "load_break", "fuse"),
        *("breaker", "recloser"),
    )
    at = [network.branch_name[k] for k in devices.branch]
    assert at == ["line 1", "line 1", "line 3", "trafo 0", "K", "spare"]
    assert devices.end.tolist() == [0, 1, 1, 1, 0, 0]
    assert devices.closed.tolist() == [True, True, False, True, False, True]
    assert not devices.remote.any() and devices.available.all()
    assert set(devices.minutes) == {MANUAL_MINUTES}
    assert network.kind[network.branch_index("K")] == "coupler"
    assert network.open_end[network.branch_index("line 1")] == 1


def test_devices_go_to_pandapower_and_back():
    network = Network.from_pandapower(switched())
    given = network.devices.with_changes(
        remote=[True, False] * 3, minutes=[1, 2, 3, 4, 5, 6], available=[True] * 5 + [False]
    )
    network = network.with_changes(devices=given)

    again = assert_round_trip(network)

    assert_same_devices(network, again)


@pytest.mark.filterwarnings("ignore:tap_dependency_table:DeprecationWarning")
@pytest.mark.parametrize("make", [examples.create_cigre_network_mv, examples.mv_oberrhein])
def test_published_net_keeps_every_switch_there_and_back(make):
    net = make()
    network = Network.from_pandapower(net)

    assert len(network.devices) == len(net.switch)
    assert network.devices.closed.tolist() == net.switch["closed"].tolist()
    for d, switch in enumerate(net.switch.itertuples()):
        bus = (network.from_bus, network.to_bus)[network.devices.end[d]]
        label = network.bus_name[bus[network.devices.branch[d]]]
        assert label.startswith(str(net.bus["name"].at[switch.bus]).strip())
    again = Network.from_pandapower(network.to_pandapower())
    assert_same_devices(network, again)


def test_a_coupler_can_be_opened_in_both():
    """The breaker of the closed coupler opens, and bus 5 is dark but for nothing else."""
    net = switched()
    net.switch.loc[4, "closed"] = True
    net.switch.loc[2, "closed"] = True
    net.line.loc[4, "in_service"] = False
    network = assert_same_flow(net)

    opened = network.with_changes(
        closed=network.closed & ~(network.devices.branch[4] == range(network.n_branch))
    )
    back = opened.to_pandapower()
    run(back)

    assert not opened.devices.closed[4]
    assert back.res_bus.vm_pu.isna().tolist() == [False] * 5 + [True]


def test_windings_of_a_three_winding_transformer_have_devices_at_their_buses():
    net = feeder()
    add_trafo3w(net)
    for bus in (5, 3, 6):
        pandapower.create_switch(net, bus, 0, et="t3", type="CB")

    network = assert_same_flow(net)

    at = [network.branch_name[k] for k in network.devices.branch]
    assert at == ["t0 hv", "t0 mv", "t0 lv"]
    assert network.devices.end.tolist() == [0, 1, 1]


def test_a_switch_without_a_type_is_a_load_break_switch_and_says_so():
    net = switched()
    net.switch.loc[1, "type"], net.switch.loc[3, "type"] = None, "valve"

    with pytest.warns(UserWarning, match=r"switch 1, 3 has no type that is known; it is taken as"):
        network = Network.from_pandapower(net)

    assert network.devices.kind[1] == network.devices.kind[3] == "load_break"


def test_switches_that_only_mark_open_lines_are_no_device_data():
    net = feeder()
    pandapower.create_switch(net, 2, 1, et="l", closed=False)

    assert Network.from_pandapower(net).devices is None


def test_a_coupler_with_two_devices_is_refused_by_the_writer():
    network = Network.from_pandapower(switched())
    d = network.devices
    k = network.branch_index("K")
    twice = d.with_changes(
        branch=[k if name == "R" else b for name, b in zip(d.name, d.branch, strict=True)]
    )

    with pytest.raises(NetworkError, match=r"coupler 'K' has devices K, R; pandapower has one"):
        network.with_changes(devices=twice).to_pandapower()


def test_what_is_out_of_service_is_so_in_pandapower():
    """Line 1 with its breaker and disconnector, and the coupler K, are under repair."""
    network = Network.from_pandapower(switched())
    in_service = [name not in ("line 1", "K") for name in network.branch_name]
    network = network.with_changes(in_service=in_service, closed=network.closed & in_service)

    net = network.to_pandapower()
    run(net)

    assert net.line["in_service"].tolist() == [True, False, True, True, True]
    assert net.switch["closed"].tolist()[4] is False and not net.switch["available"][4]
    dark = [name for name, v in zip(net.bus["name"], net.res_bus.vm_pu, strict=True) if v != v]
    fed = solve_power_flow(network).energised
    assert dark == [name for name, on in zip(network.bus_name, fed, strict=True) if not on]
