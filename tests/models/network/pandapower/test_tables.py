"""Nets that other programs and older versions wrote: whole, half, or beyond reading."""

import contextlib
import copy
import io
import logging
import random
import warnings

import numpy as np
import pandapower
import pandas as pd
import pytest

from feederguard.models.network import Network, NetworkError
from feederguard.models.power_flow import solve_power_flow
from pandapower_nets import add_trafo3w, assert_same_flow, feeder


def rich_net():
    """The ring with one of everything that a Network holds."""
    net = feeder()
    add_trafo3w(net)
    pandapower.create_sgen(net, 1, p_mw=0.3, q_mvar=0.05, name="s")
    pandapower.create_motor(net, 1, pn_mech_mw=0.1, cos_phi=0.9)
    pandapower.create_storage(net, 3, p_mw=0.1, max_e_mwh=1.0)
    pandapower.create_ward(net, 3, 0.1, 0.1, 0.1, 0.1)
    pandapower.create_shunt(net, 3, q_mvar=-0.1)
    pandapower.create_asymmetric_load(net, 1, p_a_mw=0.1)
    pandapower.create_asymmetric_sgen(net, 1, p_a_mw=0.05)
    bus = pandapower.create_bus(net, 20.0)
    pandapower.create_switch(net, 3, bus, et="b")
    pandapower.create_load(net, bus, p_mw=0.1)
    pandapower.create_switch(net, 2, 1, et="l", closed=False)
    pandapower.create_switch(net, 4, 0, et="t", closed=True)
    pandapower.create_impedance(net, 0, 1, 0.1, 0.2, sn_mva=10.0)
    return net


TABLES = (
    "bus load sgen motor storage ward shunt asymmetric_load asymmetric_sgen switch line trafo "
    "trafo3w impedance gen ext_grid poly_cost pwl_cost xward dcline"
).split()


def mutated(seed):
    """Return the net with one thing wrong, and what."""
    rng, net = random.Random(seed), rich_net()
    table = rng.choice(TABLES)
    frame = net[table].copy()
    kind = rng.choice(["column", "table", "index", "text", "none", "bus", "flag"])
    column = rng.choice(list(frame.columns))
    if kind == "table":
        del net[table]
    elif kind == "column" or not len(frame):
        net[table] = frame.drop(columns=column)
    elif kind == "index":
        net[table] = pd.concat([frame, frame[:1]])
    else:
        row = rng.randrange(len(frame))
        if kind in ("bus", "flag"):
            wanted = ("bus", "from_bus", "hv_bus") if kind == "bus" else ("in_service", "closed")
            column = next((name for name in wanted if name in frame), column)
        cells = frame[column].astype(object)
        cells.iloc[row] = {"text": "abc", "none": None, "bus": 99, "flag": rng.choice([0, 1])}[kind]
        net[table] = frame.assign(**{column: cells})
    return net, (table, kind, column)


def runs(net):
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            pandapower.runpp(copy.deepcopy(net), calculate_voltage_angles=True)
    except BaseException:  # pandapower raises anything on such nets
        return False
    return True


@pytest.mark.parametrize("seed", range(40))
def test_a_mutated_net_is_read_where_runpp_runs_or_refused_in_one_sentence(seed):
    net, what = mutated(seed)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            Network.from_pandapower(net)
        return
    except NetworkError as error:
        told = str(error)
    finally:
        logging.disable(logging.NOTSET)
    assert told.startswith("ring: ") and "\n" not in told
    # `runpp` does not look at every cell; what it cannot know, or ambiguous rows, may be refused.
    assert not runs(net) or what[1] in ("index", "none", "text"), (what, told)


def test_old_columns_count_as_pandapower_counts_them():
    """z_ohm, df and parallel came late; names are nobody's duty."""
    net = feeder()
    pandapower.create_switch(net, 2, 1, et="l", closed=False)
    whole = assert_same_flow(net)
    for table in ("bus", "load", "ext_grid", "line", "trafo", "sgen"):
        net[table] = net[table].drop(columns=["name", "df", "parallel"], errors="ignore")
    net.trafo["parallel"] = 2
    net.switch = net.switch.drop(columns=["z_ohm", "in_ka"])

    network = Network.from_pandapower(net)

    assert network.branch_name == whole.branch_name and network.bus_name == (
        "0",
        "1",
        "2",
        "3",
        "4",
    )
    np.testing.assert_allclose(
        solve_power_flow(network).voltage, solve_power_flow(whole).voltage, rtol=0, atol=1e-12
    )


def test_loads_of_equal_index_all_count():
    net = feeder()
    net.load = pd.concat([net.load, net.load])

    assert Network.from_pandapower(net).p_load.sum() == pytest.approx(2 * 5.1 / 10)


def _set(table, row, column, value):
    def change(net):
        net[table] = net[table].astype({column: object})
        net[table].at[row, column] = value

    return change


def _twice(table):
    def change(net):
        net[table] = pd.concat([net[table], net[table][:1]])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("load", 1, "p_mw", "1,5"), "ring: p_mw of load 1 is '1,5'; give a number"),
        (_set("line", 2, "r_ohm_per_km", None), "r_ohm_per_km of line 2 is None; give a finite"),
        (_set("load", 0, "bus", 99), "bus of load 0 is 99, which table bus does not list"),
        (_set("line", 3, "in_service", "yes"), "in_service of line 3 is 'yes'; give True or False"),
        (_set("switch", 0, "et", "x"), "et of switch 0 is 'x'; use b, l, t, t3"),
        (lambda net: net.line.drop(columns="length_km", inplace=True), "line has no column length"),
        (lambda net: net.update(sn_mva="1"), "net.sn_mva is '1'; it must be a positive number"),
        (lambda net: net.update(load=[1]), "net.load is a list; it must be a table"),
        (_twice("bus"), "table bus has two rows of index 0, .* give every row its own"),
        (_twice("line"), "table line has two rows of index 0, .* give every row its own"),
        (lambda net: net.pop("bus"), "no ext_grid|bus 0 .* does not list|which table bus"),
    ],
)
def test_what_cannot_be_read_is_named_by_table_row_and_column(change, message):
    net = feeder()
    pandapower.create_switch(net, 2, 1, et="l", closed=False)
    change(net)

    with pytest.raises(NetworkError, match=message):
        Network.from_pandapower(net)


def test_what_is_no_net_is_refused():
    with pytest.raises(NetworkError, match="a pandapower net is expected, not a dict"):
        Network.from_pandapower({})


def test_cells_of_rows_out_of_service_are_nobodys_concern():
    net = feeder()
    index = pandapower.create_load(net, 1, p_mw=1.0, in_service=False)
    net.load = net.load.astype({"p_mw": object})
    net.load.loc[index, ["p_mw", "bus"]] = "unknown", 99

    assert Network.from_pandapower(net).p_load.sum() == pytest.approx(5.1 / 10)
