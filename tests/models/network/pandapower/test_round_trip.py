"""Published and odd feeders through pandapower: the voltages of both power flows are the same."""

import copy
import functools

import numpy as np
import pandapower
import pandapower.networks as examples
import pytest

from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feeders import feeder
from pandapower_nets import assert_round_trip, assert_same_flow, held, polar, run

# pandapower says so of its own example nets.
pytestmark = pytest.mark.filterwarnings("ignore:tap_dependency_table is missing:DeprecationWarning")


@functools.cache
def mv_oberrhein_halves():
    return examples.mv_oberrhein(separation_by_sub=True)


PUBLISHED = {
    **{
        f"mv_oberrhein {scenario} {inside}": lambda scenario=scenario, inside=inside: (
            examples.mv_oberrhein(scenario=scenario, include_substations=inside)
        )
        for scenario in ("load", "generation")
        for inside in (False, True)
    },
    "mv_oberrhein, one half": lambda: mv_oberrhein_halves()[0],
    "mv_oberrhein, other half": lambda: mv_oberrhein_halves()[1],
    **{
        f"cigre_mv {der}": lambda der=der: examples.create_cigre_network_mv(with_der=der)
        for der in (False, "pv_wind", "all")
    },
    "cigre_lv": examples.create_cigre_network_lv,
    "case33bw": examples.case33bw,
    "example_simple": lambda: held(examples.example_simple()),
    "example_multivoltage": lambda: held(examples.example_multivoltage()),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.newest
def test_published_net_has_pandapowers_voltages_there_and_back(name):
    network = assert_same_flow(PUBLISHED[name]())

    assert_round_trip(network)


def test_mv_oberrhein_keeps_its_size_and_its_open_points():
    network = Network.from_pandapower(examples.mv_oberrhein())

    assert (network.n_bus, network.n_branch, len(network.substation)) == (179, 183, 2)
    assert network.kind.count("trafo") == 2
    assert network.kind.count("tie") == (~network.closed).sum() == 6


def test_random_switch_states_and_outages_follow_pandapower():
    """Buses, lines, transformers and switches of all kinds are off or open at random.

    Transformers have two or three windings.
    """
    original = held(examples.example_multivoltage())
    rng = np.random.default_rng(7)
    tried = 0
    for _ in range(12):
        net = copy.deepcopy(original)
        net.switch["closed"] = rng.random(len(net.switch)) < 0.85
        net.bus.loc[net.bus.index[12:], "in_service"] = rng.random(len(net.bus) - 12) < 0.93
        for table in ("line", "trafo", "trafo3w", "load", "sgen", "shunt", "ward", "impedance"):
            net[table]["in_service"] = rng.random(len(net[table])) < 0.93
        try:
            run(net)
        except pandapower.LoadflowNotConverged:
            continue
        assert_same_flow(net)
        tried += 1
    assert tried >= 8


def odd_network(seed):
    """Twelve buses with all that a Network allows.

    They have taps, shifts, unequal and capacitive shunts, branches without impedance, negative
    resistance, missing ratings, hanging branches, two substations and two nominal voltages.
    """
    rng = np.random.default_rng(seed)
    n_bus, n_branch = 12, 15
    from_bus = np.r_[[rng.integers(0, i) for i in range(1, n_bus)], 1, 3, 7, 2]
    to_bus = np.r_[np.arange(1, n_bus), 9, 8, 11, 10]

    def some(share, values, otherwise, size=n_branch):
        return np.where(rng.random(size) < share, values, otherwise)

    kind = rng.choice(["line", "tie", "trafo"], n_branch)
    vn_kv = rng.choice([20.0, 10.0], n_bus)
    r = np.where(
        (kind == "trafo") & (rng.random(n_branch) < 0.2), -0.001, rng.uniform(0.001, 0.02, n_branch)
    )
    x, tap, shift = rng.uniform(-0.002, 0.02, n_branch), some(0.4, 0.97, 1.0), some(0.2, 0.02, 0.0)
    ideal = 10
    r[ideal] = x[ideal] = shift[ideal] = 0.0
    tap[ideal], vn_kv[to_bus[ideal]] = 1.0, vn_kv[from_bus[ideal]]
    b_from, g_from = rng.uniform(-0.02, 0.03, n_branch), some(0.5, 0.004, 0.0)
    return feeder(
        " ".join(f"{k}:{i}-{j}" for k, (i, j) in enumerate(zip(from_bus, to_bus, strict=True))),
        name=f"odd {seed}",
        base_mva=float(rng.choice([1.0, 100.0])),
        vn_kv=vn_kv,
        v_min=0.93,
        v_max=1.07,
        p_load=rng.uniform(0, 0.05, n_bus),
        q_load=rng.uniform(-0.01, 0.03, n_bus),
        p_gen=some(0.3, 0.03, 0.0, n_bus),
        q_gen=some(0.3, 0.01, 0.0, n_bus),
        g_shunt=some(0.3, 0.003, 0.0, n_bus),
        b_shunt=some(0.3, 0.02, 0.0, n_bus),
        substation=[0, 5],
        v_substation=[1.02, 1.01 * np.exp(0.03j)],
        kind=kind,
        r=r,
        x=x,
        g_from=g_from,
        b_from=b_from,
        g_to=some(0.5, 0.002, g_from),
        b_to=some(0.4, 0.01, b_from),
        tap=tap,
        shift=shift,
        rating=some(0.3, np.inf, 0.8),
        closed=np.arange(n_branch) < rng.integers(9, n_branch),
        open_end=rng.integers(0, 3, n_branch),
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.newest
def test_odd_network_survives_pandapower(seed):
    network = odd_network(seed)
    flow = solve_power_flow(network)
    assert flow.converged

    net = network.to_pandapower()
    run(net)

    written = polar(net.res_bus.vm_pu, net.res_bus.va_degree)
    np.testing.assert_array_equal(~np.isnan(written), flow.energised)
    np.testing.assert_allclose(
        written[flow.energised], flow.voltage[flow.energised], rtol=0, atol=1e-8
    )
    again = Network.from_pandapower(net)
    assert again.bus_name == network.bus_name and again.devices is None
    order = [network.branch_index(name) for name in again.branch_name]
    np.testing.assert_allclose(solve_power_flow(again).voltage, flow.voltage, rtol=0, atol=1e-9)
    np.testing.assert_allclose(again.rating, network.rating[order], rtol=1e-12)
    np.testing.assert_allclose(again.tap, network.tap[order], rtol=1e-12)
    np.testing.assert_allclose(again.shift, network.shift[order], atol=1e-12)
    np.testing.assert_array_equal(again.closed, network.closed[order])
    assert (again.v_min.min(), again.v_max.max()) == (0.93, 1.07)
    assert sorted(order) == list(range(network.n_branch))
    assert [again.kind[k] for k, b in enumerate(order) if network.z[b] == 0] == ["coupler"]
