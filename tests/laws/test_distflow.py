"""DistFlow: every use of the law against the AC equations in complex numbers, on random points.

Uses: the exact, cone and linear forms of the OPF, DistFlow with switches, the lossless flow on a
tree, and the sensitivities of the safety QP. On a radial feeder exact DistFlow is the AC equations;
linear DistFlow is exact DistFlow with a current of zero.
"""

import numpy as np
import pyomo.environ as pyo
import pytest
from ac_reference import ac_state, put, random_voltages, residuals

from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.equations.lossless import lossless_flow
from feederguard.models.equations.periods import read_periods
from feederguard.models.equations.switched_distflow import add_branch_flow
from feederguard.models.network.graph import feeding_tree
from feederguard.models.safety_qp import build_safety_qp
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.safety_qp.statement import set_state
from feeders import feeder

POINTS = 5
LINEAR = ("active_balance", "reactive_balance", "voltage_drop")
CLOSE = {"rtol": 0, "atol": 1e-12}
CHARGED_ENDS = [(0, 0), (0, 1), (1, 2), (2, 3), (4, 3), (4, 4)]  # (branch, bus) with a shunt


@pytest.fixture(scope="module")
def network():
    """Branch c is drawn towards the substation, and bus 3 has reactive demand only.

    The tie is a cable that hangs from bus 3.
    """
    return feeder(
        "a:0-1 b:1-2 c:3-2 d:1-4 t:3~4",
        p_load=[0, 0.2, 0.3, 0, 0.4],
        q_load=[0, 0.1, 0.1, 0.2, 0.1],
        r=[0.02, 0.05, 0.04, 0.03, 0.05],
        x=[0.06, 0.03, 0.05, 0.02, 0.03],
        tap=[1.03, 1.0, 0.98, 1.0, 1.0],
        shift=[0.1, 0.0, -0.05, 0.0, 0.0],
        g_from=[0.004, 0.0, 0.003, 0.0, 0.002],
        b_from=[0.01, 0.0, 0.02, 0.0, 0.03],
        g_to=[0.002, 0.001, 0.0, 0.0, 0.001],
        b_to=[0.01, 0.02, 0.0, 0.0, 0.04],
        g_shunt=[0.0, 0.002, 0.0, 0.001, 0.0],
        b_shunt=[0.0, 0.01, 0.0, -0.02, 0.0],
        open_end=[0, 0, 0, 0, 2],
    )


@pytest.fixture(scope="module")
def state(network):
    return ac_state(network, random_voltages(network, POINTS))


def opf_at(network, state, form):
    """The OPF with a step per point, whose demand is what the point's voltages leave."""
    p_load, q_load = -state.injected.real, -state.injected.imag
    p_load[:, 0] = q_load[:, 0] = 0.0
    model = build_distflow_opf(network, form, p_load=p_load, q_load=q_load)
    put(model.w, np.abs(state.v) ** 2)
    put(model.P, state.s_from.real)
    put(model.Q, state.s_from.imag)
    put(model.p_substation, state.injected[:, 0].real)
    put(model.q_substation, state.injected[:, 0].imag)
    if form != "linear":
        put(model.ell, state.ell)
    return model


def test_the_exact_form_is_the_ac_equations(network, state):
    model = opf_at(network, state, "exact")
    np.testing.assert_allclose(residuals(model, *LINEAR, "cone"), 0, **CLOSE)
    far = [
        pyo.value(p) + 1j * pyo.value(q)
        for p, q in zip(model.P_to.values(), model.Q_to.values(), strict=True)
    ]
    np.testing.assert_allclose(far, state.s_to.ravel(), **CLOSE)
    loss = [pyo.value(model.loss[t]) for t in model.time]
    shunts = (network.g_shunt * np.abs(state.v) ** 2).sum(axis=1)
    np.testing.assert_allclose(loss, state.injected.real.sum(axis=1) - shunts, **CLOSE)


def test_the_cone_contains_the_ac_equations_on_its_edge(network, state):
    model = opf_at(network, state, "soc")
    np.testing.assert_allclose(residuals(model, *LINEAR), 0, **CLOSE)
    edge = [pyo.value(cone.body) - pyo.value(cone.upper) for cone in model.cone.values()]
    np.testing.assert_allclose(edge, 0, **CLOSE)
    put(model.ell, 1.1 * state.ell)
    assert max(pyo.value(cone.body) for cone in model.cone.values()) < 0


def test_the_linear_form_is_the_exact_one_without_current(network, state):
    linear, exact = (opf_at(network, state, form) for form in ("linear", "exact"))
    put(exact.ell, 0 * state.ell)
    np.testing.assert_allclose(residuals(linear, *LINEAR), residuals(exact, *LINEAR), **CLOSE)
    assert np.abs(residuals(linear, *LINEAR)).max() > 1e-3


@pytest.mark.parametrize("free", [False, True])
def test_with_switches_closed_branches_obey_the_ac_equations(network, state, free):
    """free: y is left to be decided, and takes the values of the feeder."""
    for k in range(POINTS):
        w, y = np.abs(state.v[k]) ** 2, network.closed.astype(float)
        model = pyo.ConcreteModel()
        model.bus = pyo.RangeSet(0, network.n_bus - 1)
        model.branch = pyo.RangeSet(0, network.n_branch - 1)
        model.y = pyo.Var(model.branch, domain=pyo.Binary)
        put(model.y, y)
        if not free:
            model.y.fix()
        model.zone_of = dict.fromkeys(model.bus, 0)
        model.energised = pyo.Var([0], initialize=1.0)
        model.energised.fix()
        injected = state.injected[k]
        model.p_net = pyo.Expression(model.bus, initialize=dict(enumerate(-injected.real)))
        model.q_net = pyo.Expression(model.bus, initialize=dict(enumerate(-injected.imag)))
        add_branch_flow(model, network, np.full(network.n_branch, 9.0), 0.9, 1.1, angles=False)
        put(model.w, w)
        put(model.P, np.append(state.s_series[k].real, 0.0))
        put(model.Q, np.append(state.s_series[k].imag, 0.0))
        put(model.ell, np.append(state.ell[k], 0.0))
        if free:
            put(model.u, [y[b] * w[bus] for b, bus in CHARGED_ENDS])
            assert min(row.slack() for row in model.product.values()) > -1e-12
        else:
            assert not model.u

        np.testing.assert_allclose(
            residuals(model, "active_balance", "reactive_balance"), 0, **CLOSE
        )
        for b in np.flatnonzero(network.closed).tolist():
            assert pyo.value(model.drop_above[b].body) == pytest.approx(0, abs=1e-12)
            assert pyo.value(model.cone[b].body) == pytest.approx(0, abs=1e-12)
            if free:
                assert pyo.value(model.drop_below[b].body) == pytest.approx(0, abs=1e-12)


def test_the_lossless_walk_solves_the_linear_form(network):
    bare = {
        name: np.zeros(5) for name in ("g_from", "b_from", "g_to", "b_to", "g_shunt", "b_shunt")
    }
    network = network.with_changes(**bare, v_min=np.full(5, 0.5), v_max=np.full(5, 1.5))
    rng = np.random.default_rng(1)
    p_load, q_load = rng.uniform(-0.5, 0.5, (2, POINTS, network.n_bus))
    p_load[:, 0] = q_load[:, 0] = 0.0
    flow = lossless_flow(read_periods(network, p_load, q_load), feeding_tree(network))
    model = build_distflow_opf(network, "linear", p_load=p_load, q_load=q_load)
    put(model.w, flow.w)
    put(model.P, flow.p[:, network.closed])
    put(model.Q, flow.q[:, network.closed])
    put(model.p_substation, p_load.sum(axis=1))
    put(model.q_substation, q_load.sum(axis=1))

    np.testing.assert_allclose(residuals(model, *LINEAR), 0, **CLOSE)


def test_the_sensitivities_of_the_safety_qp_solve_its_equations(network):
    """The equations are linear: `pyomo.value` gives their matrix, one unknown at a time."""
    batteries = Batteries([2, 4], 0.3, 2.0, name=("a", "b"))
    model, matrices = build_safety_qp(network, batteries), safety_matrices(network, batteries)
    unknown = [
        v
        for part in (model.P, model.Q, model.w, model.p_substation, model.q_substation)
        for v in part.values()
        if not v.fixed
    ]
    rng = np.random.default_rng(2)
    for _ in range(POINTS):
        p, q = rng.uniform(-0.5, 0.5, (2, network.n_bus))
        action = rng.uniform(-1, 1, len(batteries))
        set_state(model, p_net=p, q_net=q)
        put(model.p_battery, action * batteries.p_max)
        at = []
        for k in range(-1, len(unknown)):
            for place, variable in enumerate(unknown):
                variable.set_value(float(place == k), skip_validation=True)
            at.append(residuals(model, *LINEAR))
        solved = np.linalg.solve((np.array(at[1:]) - at[0]).T, -at[0])
        w = [x for v, x in zip(unknown, solved, strict=True) if v.parent_component() is model.w]
        got = matrices.lossless(p[None], q[None])[0] + action @ matrices.columns
        np.testing.assert_allclose(got, w, **CLOSE)


def test_the_equations_of_the_safety_qp_are_those_of_the_linear_form(network, state):
    model = build_safety_qp(network, Batteries([2], 0.3, 2.0, name=("a",)))
    fed = np.arange(network.n_bus) > 0  # the supply of the substation is a variable
    for k in range(POINTS):
        linear = opf_at(network, ac_state(network, state.v[k : k + 1]), "linear")
        set_state(model, p_net=-state.injected[k].real * fed, q_net=-state.injected[k].imag * fed)
        put(model.p_battery, [0.0])
        for name in ("P", "Q", "w", "p_substation", "q_substation"):
            put(model.find_component(name), [v.value for v in linear.find_component(name).values()])

        np.testing.assert_allclose(residuals(model, *LINEAR), residuals(linear, *LINEAR), **CLOSE)
