"""The shunt of a hanging cable: every use of it against the nodal matrix of the cable, eliminated.

An open cable that hangs from bus i is a branch to a bus of its own at which nothing is drawn. With
the nodal matrix Y of its two ends, bus i sees Y_ii - Y_ij Y_jj^-1 Y_ji. That is written out here,
apart from `pi_model.py`.

Uses: pi_model, AC and DistFlow equations with their losses, the lossless range, DistFlow with
switches, least shedding as an NLP, and the compiled power flow with what is derived from it: one
item, a batch on one tree, a batch of many trees, end currents, voltage sensitivity, nodal
impedance.
"""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.equations.lossless import lossless_range
from feederguard.models.equations.periods import read_periods
from feederguard.models.load_transfer import make_scenarios
from feederguard.models.load_transfer.shedding_opf import build_transfer_opf
from feederguard.models.network.graph import feeding_tree
from feederguard.models.network.pi_model import hanging_shunts
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.power_flow.line_node_ratio import nodal_impedance
from feederguard.models.power_flow.voltage_sensitivity import voltage_sensitivity
from feederguard.models.reconfiguration import build_load_transfer, build_loss_reconfiguration
from feeders import feeder

# t hangs from its from bus 3, which has reactive demand only, u from its to bus 2.
OPEN_END = [0, 0, 0, 0, 2, 1]
T, U = 4, 5


def drawn(open_end=OPEN_END, **changes):
    """A feeder with charged branches; its cables are strong enough to be seen in every answer."""
    values = {
        "p_load": [0, 0.2, 0.3, 0, 0.4],
        "q_load": [0, 0.1, 0.1, 0.2, 0.1],
        "r": 0.05,
        "x": 0.03,
        "g_from": [0, 0, 0, 0, 0.2, 0.1],
        "b_from": [0, 0.02, 0, 0, 0.3, 0.4],
        "g_to": [0, 0, 0, 0, 0.1, 0.3],
        "b_to": [0, 0, 0.01, 0, 0.5, 0.2],
        "tap": [1, 1, 1, 1, 0.9, 1.05],
        "v_min": 0.5,
        "v_max": 1.5,
        "rating": 50.0,
    }
    return feeder("0-1 1-2 2-3 1-4 t:3~4 u:4~2", open_end=open_end, **values | changes)


def nodal(network, b):
    """Return the nodal matrix of a branch between its from bus and its to bus, (2, 2)."""
    y, tap = 1 / network.z[b], network.tap[b]
    y_from = y + network.g_from[b] + 1j * network.b_from[b]
    y_to = y + network.g_to[b] + 1j * network.b_to[b]
    return np.array([[y_from / tap**2, -y / tap], [-y / tap, y_to]])


def expected(network):
    """Return what hangs from each bus, (n_bus,)."""
    hanging = np.zeros(network.n_bus, dtype=complex)
    for b in np.flatnonzero(~network.closed & (network.open_end > 0)):
        near, far = (0, 1) if network.open_end[b] == 2 else (1, 0)
        m = nodal(network, b)
        bus = (network.from_bus, network.to_bus)[near][b]
        hanging[bus] += m[near, near] - m[near, far] * m[far, near] / m[far, far]
    return hanging


def admittance(network, closed):
    """Return the bus admittance matrix in a state, (n_bus, n_bus)."""
    y = np.diag(network.g_shunt + 1j * network.b_shunt)
    for b in np.flatnonzero(closed):
        ends = np.ix_(
            [network.from_bus[b], network.to_bus[b]], [network.from_bus[b], network.to_bus[b]]
        )
        y[ends] += nodal(network, b)
    return y + np.diag(expected(network.with_changes(closed=closed)))


def fill(models, rng):
    """Give the variables of the same name in all models the same random value, those fixed too."""
    for variables in zip(*(model.component_data_objects(pyo.Var) for model in models), strict=True):
        value = rng.uniform(0.8, 1.2)
        assert len({variable.name for variable in variables}) == 1
        for variable in variables:
            variable.set_value(value, skip_validation=True)


def residual(row):
    """Return the left side of an equation less its right side."""
    return pyo.value(row.body) - pyo.value(row.upper)


def added(models, name):
    """Return what hanging adds to the rows of a balance, (n_row,), and their buses."""
    with_it, without = (getattr(model, name) for model in models)
    at = [index[-1] if isinstance(index, tuple) else index for index in with_it]
    change = [residual(with_it[index]) - residual(without[index]) for index in with_it]
    return np.array(change), np.array(at)


def assert_hangs(models, hanging, sign=1.0):
    """Rows change by the power that `hanging` takes at random squared voltages."""
    w = {i: pyo.value(models[0].w[i]) for i in models[0].w}
    w = {(i[-1] if isinstance(i, tuple) else i): value for i, value in w.items()}
    for name, part, turn in (("active_balance", "real", 1), ("reactive_balance", "imag", -1)):
        change, at = added(models, name)
        wanted = [turn * sign * getattr(hanging[i], part) * w[i] for i in at.tolist()]
        np.testing.assert_allclose(change, wanted, rtol=0, atol=1e-12)
        assert np.abs(wanted).max() > 0.1


def test_pi_model():
    network = drawn()

    np.testing.assert_allclose(hanging_shunts(network), expected(network), rtol=1e-13)
    assert np.count_nonzero(expected(network)) == 2


OPF = {
    "AC, polar": lambda network: build_ac_opf(network, "polar"),
    "AC, cone": lambda network: build_ac_opf(network, "soc"),
    "DistFlow, exact": lambda network: build_distflow_opf(network, "exact"),
    "DistFlow, cone": lambda network: build_distflow_opf(network, "soc"),
    "DistFlow, linear": lambda network: build_distflow_opf(network, "linear"),
}


@pytest.mark.parametrize("form", OPF)
def test_optimal_power_flow(form):
    network = drawn()
    models = [OPF[form](network), OPF[form](drawn(open_end=0))]
    fill(models, np.random.default_rng(0))

    hanging = expected(network)
    assert_hangs(models, hanging)
    lost = pyo.value(models[0].loss[0]) - pyo.value(models[1].loss[0])
    wanted = sum(hanging[i].real * pyo.value(models[0].w[0, i]) for i in range(network.n_bus))
    assert lost == pytest.approx(wanted, abs=1e-12) and wanted > 0.1


def test_lossless_range():
    """At the most, a shunt takes |y| v_max^2 either way; branch 2-3 carries what hangs from 3."""
    network = drawn()
    ranges = [
        lossless_range(read_periods(case), feeding_tree(case))
        for case in (network, drawn(open_end=0))
    ]

    most = abs(expected(network)[3]) * 1.5**2
    for name, sign in (("p_low", -1), ("p_high", 1), ("q_low", -1), ("q_high", 1)):
        change = getattr(ranges[0], name)[0, 2] - getattr(ranges[1], name)[0, 2]
        assert change == pytest.approx(sign * most, abs=1e-12)


@pytest.mark.parametrize("closed", [(), (T,), (U,), (T, U)])
@pytest.mark.parametrize("problem", ["minimum loss", "load transfer"])
def test_distflow_with_switches(problem, closed):
    """A cable hangs while its y is 0; u of (1) stands for y w."""

    def build(network):
        if problem == "minimum loss":
            return build_loss_reconfiguration(network)
        return build_load_transfer(network, make_scenarios(network, "2-3"), "radial")

    network = drawn(tap=1.0)
    models = [build(network), build(drawn(tap=1.0, open_end=0))]
    fill(models, np.random.default_rng(1))
    for model in models:
        for b in model.branch:
            model.y[b].set_value(float(b in (0, 1, 3, *closed)))
        ends = shunted_ends(network)
        for k in model.u:
            b, i = ends[k]
            model.u[k].set_value(model.y[b].value * model.w[i].value)
    now = network.with_changes(closed=np.isin(np.arange(6), (0, 1, 2, 3, *closed)))

    if expected(now).any():
        assert_hangs(models, expected(now), sign=-1.0)
    else:
        for name in ("active_balance", "reactive_balance"):
            np.testing.assert_allclose(added(models, name)[0], 0.0, atol=1e-12)


def shunted_ends(network):
    """Return branch and bus of every end that sees a shunt, closed or hanging, as u counts them."""
    ends = []
    for b in range(network.n_branch):
        at_from = network.g_from[b] or network.b_from[b]
        at_to = network.g_to[b] or network.b_to[b]
        for bus, own, hangs in ((network.from_bus, at_from, 2), (network.to_bus, at_to, 1)):
            if own or (network.open_end[b] == hangs and (at_from or at_to)):
                ends.append((b, int(bus[b])))
    return ends


@pytest.mark.parametrize("closed", [(), (T,), (T, U)])
def test_least_shedding_as_nlp(closed):
    network = drawn()
    models = [build_transfer_opf(case, "radial") for case in (network, drawn(open_end=0))]
    fill(models, np.random.default_rng(2))
    for model in models:
        for b in model.branch:
            model.y[b].set_value(float(network.closed[b] or b in closed))
        for i in model.bus:
            model.live[i].set_value(1.0)
    hanging = expected(network.with_changes(closed=network.closed | np.isin(np.arange(6), closed)))

    if hanging.any():
        assert_hangs(models, hanging)
    else:
        np.testing.assert_allclose(added(models, "active_balance")[0], 0.0, atol=1e-12)


TREES = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 0], [1, 0, 1, 1, 0, 1]], dtype=bool)
STATES = {
    "one item": TREES[:1],
    "one tree": np.repeat(TREES[:1], 16, axis=0),
    "many trees": np.tile(TREES, (6, 1)),
    "meshed": np.ones((1, 6), dtype=bool) & (np.arange(6) != T),
}


@pytest.mark.parametrize("states", STATES)
def test_power_flow(states):
    network, closed = drawn(), STATES[states]
    rng = np.random.default_rng(3)
    p, q = (rng.uniform(0, 0.3, (len(closed), 5)) for _ in range(2))
    p[:, 3] = 0.0

    flow = solve_power_flow(network, p, q, closed)
    assert flow.converged.all()
    for k, state in enumerate(closed):
        v = flow.voltage[k]
        wrong = v * np.conj(admittance(network, state) @ v) + p[k] + 1j * q[k]
        assert np.abs(wrong[1:]).max() < 1e-8
    free = ~closed[:, T]
    hanging = expected(network)[3]
    np.testing.assert_allclose(
        flow.current_from[free, T], hanging * flow.voltage[free, 3], rtol=1e-12
    )
    assert not flow.current_to[free, T].any()


def test_voltage_sensitivity():
    network, h = drawn(), 1e-4
    p, q = np.atleast_2d(network.p_load), np.atleast_2d(network.q_load)

    def squared(step):
        return np.abs(solve_power_flow(network, p + step, q, tolerance_mva=1e-13).voltage) ** 2

    found = voltage_sensitivity(
        network,
        solve_power_flow(network, p, q, tolerance_mva=1e-13).voltage,
        p,
        q,
        np.array([3, 4]),
    )
    for k, bus in enumerate((3, 4)):
        step = h * (np.arange(5) == bus)
        slope = (squared(step) - squared(-step)) / (2 * h)
        np.testing.assert_allclose(found[:, k], slope, rtol=0, atol=3e-7)


@pytest.mark.parametrize("tree", range(3))
def test_nodal_impedance(tree):
    network = drawn()
    free = np.arange(1, 5)

    inverse = np.linalg.inv(admittance(network, TREES[tree])[np.ix_(free, free)])
    found = nodal_impedance(network, TREES[tree])
    np.testing.assert_allclose(found[np.ix_(free, free)], inverse, rtol=0, atol=1e-12)
