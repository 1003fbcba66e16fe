"""A pandapower net as a Network: names, base, what is left out, and what is refused."""

import copy

import numpy as np
import pandapower
import pandapower.networks as examples
import pytest

from feederguard.models.network import Network, NetworkError
from feederguard.models.power_flow import solve_power_flow
from pandapower_nets import (
    add_line,
    add_trafo,
    assert_round_trip,
    assert_same_flow,
    feeder,
    held,
)

# pandapower says so of its own example nets.
pytestmark = pytest.mark.filterwarnings("ignore:tap_dependency_table is missing:DeprecationWarning")


def test_what_is_out_of_service_is_left_out_and_a_line_to_it_stays_charged():
    net = feeder()
    net.bus.loc[3, "in_service"] = False
    net.line.loc[3, "in_service"] = False
    add_trafo(net, 2, 4, in_service=False)
    pandapower.create_impedance(net, 1, 2, 0.01, 0.02, sn_mva=10.0, in_service=False)

    network = assert_same_flow(net)

    assert network.bus_name == ("0", "1", "2", "4")
    assert network.branch_name == ("line 0", "line 1", "trafo 0", "trafo 1")
    assert network.in_service.tolist() == [True, True, True, False]
    assert network.b_shunt[0] == pytest.approx(4 * 300e-9 * 2 * np.pi * 50 * 40, rel=1e-3)


def test_lines_and_trafos_out_of_service_are_kept_open_there_and_back():
    """A second cable and a second transformer are under repair; the net's flow is without them."""
    net = feeder()
    add_line(net, 1, 2, name="out", in_service=False)
    add_trafo(net, 2, 4, in_service=False, name="spare")
    pandapower.create_switch(net, 1, 4, et="l", type="CB", name="S")

    network = assert_same_flow(net)
    again = assert_round_trip(network)

    for read in (network, again):
        out = [b for b, sound in zip(read.branch_name, read.in_service, strict=True) if not sound]
        assert out == ["out", "spare"]
        assert not read.closed[~read.in_service].any() and not read.is_tie[~read.in_service].any()
    assert network.kind[network.branch_index("out")] == "line"
    assert network.z[network.branch_index("out")] == network.z[1]
    assert network.devices.name == again.devices.name == ("S",)


def test_what_only_a_line_out_of_service_joins_is_left_out():
    net = feeder()
    far = pandapower.create_bus(net, 20.0, name="far")
    add_line(net, 3, far, name="out", in_service=False)

    with pytest.warns(UserWarning, match="left out bus far, which no branch in service joins to"):
        network = Network.from_pandapower(net)

    assert "far" not in network.bus_name and "out" not in network.branch_name


def test_a_line_out_of_service_without_its_numbers_is_left_out():
    net = feeder()
    for k in range(3):
        add_line(net, 1, 2, name=f"out {k}", in_service=False)
    net.line.loc[4, "length_km"] = np.nan
    net.line.loc[5, ["r_ohm_per_km", "x_ohm_per_km"]] = 0.0

    network = assert_same_flow(net)

    assert [name for name in network.branch_name if "out" in name] == ["out 2"]


def test_names_stay_where_they_are_unique():
    net = feeder()
    net.bus["name"] = ["Grid", "Street", "Street", "", None]
    net.line["name"] = ["A", "B", None, "B"]
    net.trafo["name"] = "A"

    network = Network.from_pandapower(net)

    assert network.name == "ring"
    assert network.bus_name == ("Grid", "Street (bus 1)", "Street (bus 2)", "3", "4")
    assert network.branch_name == (
        "A (line 0)",
        "B (line 1)",
        "line 2",
        "B (line 3)",
        "A (trafo 0)",
    )


def test_another_base_changes_the_figures_but_not_the_flow():
    net = feeder()

    network, other = Network.from_pandapower(net), Network.from_pandapower(net, base_mva=2.5)

    assert other.base_mva == 2.5
    np.testing.assert_allclose(other.p_load, 4 * network.p_load)
    np.testing.assert_allclose(other.z, network.z / 4)
    np.testing.assert_allclose(other.rating, 4 * network.rating)
    np.testing.assert_allclose(
        solve_power_flow(other).voltage, solve_power_flow(network).voltage, rtol=0, atol=1e-8
    )


def test_reading_leaves_the_net_as_it_was():
    net = held(examples.example_multivoltage())
    before = copy.deepcopy(net)

    Network.from_pandapower(net)

    assert pandapower.toolbox.nets_equal(net, before)


def test_buses_without_any_branch_to_an_ext_grid_are_left_out_with_a_warning():
    net = feeder()
    pandapower.create_buses(net, 2, 20.0, name=["far", "away"])
    add_line(net, 5, 6)
    pandapower.create_load(net, 6, p_mw=0.4, q_mvar=0.1)

    with pytest.warns(
        UserWarning, match=r"ring: left out bus far, away, .* with it 0\.4 MW and 0\.1 Mvar of load"
    ):
        network = Network.from_pandapower(net)

    assert network.n_bus == 5 and "line 4" not in network.branch_name


def put_xward(net):
    pandapower.create_xward(net, 1, 0.1, 0.1, 0.0, 0.0, 0.1, 0.1, 1.0)


def put_dcline(net):
    pandapower.create_dcline(
        net, 1, 3, p_mw=0.1, loss_percent=1.0, loss_mw=0.0, vm_from_pu=1.0, vm_to_pu=1.0
    )


def put_svc(net):
    pandapower.create_svc(net, 1, 1.0, -10.0, 1.0, 90.0)


def put_one_way_impedance(net):
    pandapower.create_impedance(net, 1, 3, 0.01, 0.02, sn_mva=10.0, rtf_pu=0.02, xtf_pu=0.02)


def put_switch_between_voltages(net):
    pandapower.create_switch(net, 2, 4, et="b", closed=False)


def put_switch_elsewhere(net):
    pandapower.create_switch(net, 1, 0, et="l", closed=False)
    net.switch["bus"] = 3


def put_contradicting_ext_grid(net):
    pandapower.create_bus(net, 20.0)
    pandapower.create_switch(net, 0, 5, et="b")
    pandapower.create_ext_grid(net, 5, vm_pu=1.0)


def take_ext_grid(net):
    net.ext_grid["in_service"] = False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put_xward, r"ring: a Network cannot hold xward 0; make it a ward"),
        (
            put_dcline,
            r"ring: a Network cannot hold dcline 0; make it a load at one end and an sgen at the "
            r"other",
        ),
        (put_svc, r"ring: a Network cannot hold svc 0; replace it by loads and sgens"),
        (put_one_way_impedance, r"ring: impedance 0 differs by direction; give rtf_pu and xtf_pu"),
        (
            put_switch_between_voltages,
            r"ring: switch 0 joins bus 2 of 20 kV to bus 4 of 0\.4 kV; give both",
        ),
        (
            put_switch_elsewhere,
            r"ring: switch 0 is at bus 3, where line 0 does not end; move it to the from_bus or",
        ),
        (
            put_contradicting_ext_grid,
            r"ring: two ext_grids hold bus 0 at different voltages; keep one",
        ),
        (take_ext_grid, r"ring: no ext_grid in service at a bus in service; add one"),
    ],
)
def test_what_a_network_cannot_hold_is_refused(change, message):
    net = feeder()
    change(net)

    with pytest.raises(NetworkError, match=message):
        Network.from_pandapower(net)


def test_base_must_be_positive():
    with pytest.raises(NetworkError, match=r"ring: base_mva is -1\.0; it must be positive"):
        Network.from_pandapower(feeder(), base_mva=-1.0)
