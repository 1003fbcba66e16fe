"""The AC equations: every use of the law against complex arithmetic and `pyomo.value`, at random.

Uses: the Pyomo equations in polar form and as a cone, and the nonlinear terms that Ipopt is given.
The one exception is the judge's Newton flow: it is arithmetic, and solves the Pyomo equations.
"""

import casadi
import numpy as np
import pyomo.environ as pyo
import pytest
from ac_reference import ac_state, put, random_voltages, residuals

from feederguard.models.ac_opf import FORMS, build_ac_opf
from feederguard.models.compiled.terms import read_terms
from feederguard.models.equations.ac import branch_coefficients
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver.ipopt_functions import build_nlp_functions
from feeders import feeder

POINTS = 5
BALANCES = ("active_balance", "reactive_balance")
FLOWS = ("P_flow", "Q_flow", "P_to_flow", "Q_to_flow")
CLOSE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture(scope="module")
def network():
    """A ring with two parallel branches, one of them drawn backwards.

    A cable hangs from bus 4, and bus 3 has reactive demand only.
    """
    return feeder(
        "a:0-1 b:1-2 c:2-1 d:2-3 e:0-3 t:3~4 f:1-4",
        p_load=[0, 0.2, 0.3, 0, 0.4],
        q_load=[0, 0.1, 0.1, 0.2, 0.1],
        r=[0.02, 0.05, 0.04, 0.03, 0.05, 0.04, 0.02],
        x=[0.06, 0.03, 0.05, 0.02, 0.03, 0.05, 0.02],
        tap=[1.03, 1.0, 1.0, 0.98, 1.0, 1.0, 1.0],
        shift=[0.02, 0.0, 0.0, 0.0, 0.02, 0.0, 0.03],
        g_from=[0.004, 0.0, 0.003, 0.0, 0.0, 0.002, 0.0],
        b_from=[0.01, 0.0, 0.02, 0.0, 0.0, 0.03, 0.01],
        g_to=[0.002, 0.001, 0.0, 0.0, 0.0, 0.001, 0.0],
        b_to=[0.01, 0.02, 0.0, 0.0, 0.01, 0.04, 0.0],
        g_shunt=[0.0, 0.002, 0.0, 0.001, 0.0],
        b_shunt=[0.0, 0.01, 0.0, -0.02, 0.0],
        open_end=[0, 0, 0, 0, 0, 1, 0],
    )


@pytest.fixture(scope="module")
def state(network):
    return ac_state(network, random_voltages(network, POINTS))


def opf_at(network, state, form):
    """The OPF with a step per point, whose demand is what the point's voltages leave."""
    p_load, q_load = -state.injected.real, -state.injected.imag
    p_load[:, 0] = q_load[:, 0] = 0.0
    model = build_ac_opf(network, form, p_load=p_load, q_load=q_load)
    put_voltages(model, network, state.v)
    for name, values in (
        ("P", state.s_from.real),
        ("Q", state.s_from.imag),
        ("P_to", state.s_to.real),
        ("Q_to", state.s_to.imag),
        ("p_substation", state.injected[:, 0].real),
        ("q_substation", state.injected[:, 0].imag),
    ):
        put(model.find_component(name), values)
    return model


def put_voltages(model, network, v):
    if model.find_component("theta") is not None:
        put(model.v, np.abs(v))
        put(model.theta, np.angle(v))
        return
    near, far = np.array(branch_coefficients(network).pair).T
    product = v[:, near] * v[:, far].conj()
    put(model.w, np.abs(v) ** 2)
    put(model.c, product.real)
    put(model.s, product.imag)


@pytest.mark.parametrize("form", FORMS)
def test_pyomo_is_complex_arithmetic(network, state, form):
    model = opf_at(network, state, form)
    np.testing.assert_allclose(residuals(model, *FLOWS, *BALANCES), 0, **CLOSE)
    np.testing.assert_allclose(
        [pyo.value(x) for x in model.ell.values()], state.ell.ravel(), **CLOSE
    )
    shunts = (network.g_shunt * np.abs(state.v) ** 2).sum(axis=1)
    loss = [pyo.value(model.loss[t]) for t in model.time]
    np.testing.assert_allclose(loss, state.injected.real.sum(axis=1) - shunts, **CLOSE)


def test_the_cone_contains_the_ac_equations_on_its_edge(network, state):
    model = opf_at(network, state, "soc")
    edge = [pyo.value(cone.body) - pyo.value(cone.upper) for cone in model.cone.values()]
    np.testing.assert_allclose(edge, 0, **CLOSE)


@pytest.mark.parametrize("form", FORMS)
def test_the_compiled_terms_are_the_pyomo_equations(network, state, form):
    """At points that solve nothing: the rows that Ipopt is given, against `pyomo.value`."""
    model = opf_at(network, state, form)
    terms = read_terms(model)
    nlp, _ = build_nlp_functions(terms)
    rows = casadi.Function("rows", [nlp["x"]], [nlp["g"]])
    rng = np.random.default_rng(3)
    for _ in range(POINTS):
        for variable in terms.variables:
            variable.set_value(float(rng.uniform(0.8, 1.2)), skip_validation=True)
        x = [variable.value for variable in terms.variables]
        got = np.array(rows(x)).ravel() - terms.upper
        wanted = [pyo.value(row.body) - pyo.value(row.upper) for row in terms.constraints]
        np.testing.assert_allclose(got, wanted, **CLOSE)


@pytest.mark.parametrize("form", FORMS)
def test_the_newton_flow_of_the_judge_solves_the_pyomo_equations(network, form):
    rng = np.random.default_rng(4)
    p = network.p_load * rng.uniform(0, 2, (POINTS, network.n_bus))
    q = network.q_load * rng.uniform(0, 2, (POINTS, network.n_bus))
    flow = solve_power_flow(network, p, q)
    assert flow.converged.all()
    model = build_ac_opf(network, form, p_load=p, q_load=q)
    put_voltages(model, network, flow.voltage)
    s_from, s_to = flow.s_from[:, network.closed], flow.s_to[:, network.closed]
    supply = ac_state(network, flow.voltage).injected[:, 0]
    for name, values in (
        ("P", s_from.real),
        ("Q", s_from.imag),
        ("P_to", s_to.real),
        ("Q_to", s_to.imag),
        ("p_substation", supply.real),
        ("q_substation", supply.imag),
    ):
        put(model.find_component(name), values)

    np.testing.assert_allclose(residuals(model, *FLOWS), 0, **CLOSE)
    mismatch = 2 * flow.mismatch_mva.max() + 1e-12
    assert mismatch < 1e-7
    np.testing.assert_allclose(residuals(model, *BALANCES), 0, rtol=0, atol=mismatch)
