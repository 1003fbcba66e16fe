"""HiGHS in rounds of outer approximation: known optima, SCIP's optima, and what it must refuse."""

import math

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import make_scenarios
from feederguard.models.reconfiguration import build_load_transfer
from feederguard.models.solver import NotSolvedError, solve
from feederguard.models.solver import outer_approximation as module
from feederguard.models.solver.highs import silent_highs
from feederguard.models.solver.outer_approximation import outer_approximation

ENGINE = "highs_outer_approximation"
NAME = "primal_feasibility_tolerance"


def model_of(name, **variables):
    model = pyo.ConcreteModel(name)
    for key, (domain, bounds) in variables.items():
        model.add_component(key, pyo.Var(domain=domain, bounds=bounds))
    return model


def whole(low, high):
    return pyo.Integers, (low, high)


def real(low, high):
    return pyo.Reals, (low, high)


def broken(model):
    """Largest violation of any constraint at the loaded point."""
    return max(
        (-c.slack() for c in model.component_data_objects(pyo.Constraint, active=True)), default=0.0
    )


def cone():
    """p^2 + q^2 <= w ell with p = 3, q = 4, w = 5: ell = 5.

    k >= ell / 2 is whole: 3. The cost ell + k is 8.
    """
    model = model_of(
        "cone", p=real(-9, 9), q=real(-9, 9), w=real(0, 5), ell=real(0, 99), k=whole(0, 20)
    )
    model.cone = pyo.Constraint(expr=model.p**2 + model.q**2 <= model.w * model.ell)
    model.p_is = pyo.Constraint(expr=model.p == 3)
    model.q_is = pyo.Constraint(expr=model.q == 4)
    model.stairs = pyo.Constraint(expr=2 * model.k >= model.ell)
    model.objective = pyo.Objective(expr=model.ell + model.k)
    return model


def disc():
    """Whole i, j in the disc of radius 2.9: -i - 1.1 j is least at (2, 2), -4.2."""
    model = model_of("disc", i=whole(0, 3), j=whole(0, 3))
    model.disc = pyo.Constraint(expr=model.i**2 + model.j**2 <= 8.41)
    model.objective = pyo.Objective(expr=-model.i - 1.1 * model.j)
    return model


def square_cost():
    """min (i - 1.4)^2 + (x - i)^2 + 2 with whole i and x >= 1.5.

    It is 2.36 at i = x = 2, before 2.41 at i = 1.
    """
    model = model_of("square cost", i=whole(0, 5), x=real(1.5, 9))
    model.objective = pyo.Objective(expr=(model.i - 1.4) ** 2 + (model.x - model.i) ** 2 + 2)
    return model


def concave_gain():
    """max 10 - (i - 2.2)^2 + i / 10 with whole i: 10.16 at 2."""
    model = model_of("concave gain", i=whole(0, 5))
    model.objective = pyo.Objective(
        expr=10 - (model.i - 2.2) ** 2 + 0.1 * model.i, sense=pyo.maximize
    )
    return model


def concave_floor():
    """A limit from below on a concave body is convex too: 9 - i^2 - x^2 >= 1.

    max i + x with whole i is 4 at (2, 2).
    """
    model = model_of("concave floor", i=whole(-5, 5), x=real(-5, 5))
    model.floor = pyo.Constraint(expr=9 - model.i**2 - model.x**2 >= 1)
    model.objective = pyo.Objective(expr=model.i + model.x, sense=pyo.maximize)
    return model


KNOWN = [
    pytest.param(cone, 8.0, id="cone"),
    pytest.param(disc, -4.2, id="disc"),
    pytest.param(concave_floor, 4.0, id="concave floor"),
    pytest.param(square_cost, 2.36, id="square cost"),
    pytest.param(concave_gain, 10.16, id="concave gain"),
]


@pytest.mark.parametrize(("build", "optimum"), KNOWN)
def test_known_optima_and_scips(build, optimum):
    model = build()

    solution = solve(model, ENGINE)

    assert (solution.status, solution.reason, solution.solver) == ("optimal", "converged", ENGINE)
    assert solution.objective == pytest.approx(optimum, rel=2e-4)
    assert solution.objective == pytest.approx(solve(build(), "scip").objective, rel=2e-4)
    assert solution.gap <= 1e-4 and broken(model) < 1e-5


@pytest.mark.parametrize("build", [cone, concave_floor])
def test_the_loaded_point_has_the_reported_objective_and_the_bound_is_beyond(build):
    model = build()

    solution = solve(model, ENGINE)

    assert pyo.value(model.objective) == pytest.approx(solution.objective, rel=1e-6)
    beyond = (
        solution.objective - solution.bound
        if build is cone
        else solution.bound - solution.objective
    )
    assert beyond >= -1e-6


def test_integers_are_loaded_whole_and_fixed_variables_kept():
    model = disc()
    model.j.fix(1)

    solution = solve(model, ENGINE)

    assert solution.objective == pytest.approx(-3.1)
    assert model.i.value == 2 and model.j.value == 1 and model.j.fixed


def test_a_linear_model_needs_no_cut():
    model = model_of("linear", i=whole(0, 9))
    model.limit = pyo.Constraint(expr=3 * model.i <= 10)
    model.objective = pyo.Objective(expr=-model.i)

    assert solve(model, ENGINE).objective == -3


@pytest.mark.parametrize("fault", ["7", "20"])
def test_a_load_transfer_agrees_with_scip(fault):
    network = load_network("ieee33")
    scenario = make_scenarios(network, fault)
    model = build_load_transfer(
        network, scenario, "radial", switchable=["7", "10", "14", "33", "34", "35", "36", "37"]
    )

    by_rounds = solve(model, ENGINE, time_limit_s=3600.0)
    broken_by = broken(model)

    assert by_rounds.objective == pytest.approx(solve(model, "scip").objective, rel=1e-3)
    assert broken_by < 1e-4


def test_infeasible_by_linear_rows_is_reported():
    model = disc()
    model.more = pyo.Constraint(expr=model.i + model.j >= 7)

    with pytest.raises(
        NotSolvedError, match="disc: highs_outer_approximation stopped with infeasible .* relax"
    ):
        solve(model, ENGINE)


def test_infeasible_by_a_convex_set_alone_is_reported():
    model = disc()
    model.more = pyo.Constraint(expr=model.i + model.j >= 4.5)

    result = outer_approximation(model, 10.0, 1e-4, {})

    assert (result.status, result.reason) == ("none", "infeasible")
    assert math.isnan(result.objective)


NONCONVEX = {
    "ring": lambda m: m.i**2 + m.x**2 >= 1,
    "shell": lambda m: m.i**2 + m.x**2 == 1,
    "product": lambda m: m.i * m.x <= 1,
    "saddle": lambda m: m.i**2 - m.x**2 + m.x <= 1,
}


@pytest.mark.parametrize("name", NONCONVEX)
def test_a_nonconvex_constraint_is_refused_by_name(name):
    model = model_of("bent", i=whole(-3, 3), x=real(-3, 3))
    model.add_component(name, pyo.Constraint(expr=NONCONVEX[name](model)))
    model.objective = pyo.Objective(expr=model.i + model.x)

    with pytest.raises(ValueError, match=f"{name} is not a convex set, .* use solver='scip'"):
        solve(model, ENGINE)


def test_a_nonconvex_objective_is_refused_by_name():
    model = model_of("bent", i=whole(-3, 3))
    model.objective = pyo.Objective(expr=-(model.i**2))

    with pytest.raises(ValueError, match="the objective is not a convex set"):
        solve(model, ENGINE)


def test_a_whole_point_that_no_continuous_one_completes_is_not_the_end():
    """The relaxation's first whole point lies outside the disc about (1.5, 1.5).

    (2, 2) inside it is optimal.
    """
    model = model_of("off centre", i=whole(0, 4), j=whole(0, 4))
    model.disc = pyo.Constraint(expr=(model.i - 1.5) ** 2 + (model.j - 1.5) ** 2 <= 2)
    model.objective = pyo.Objective(expr=-model.i - 2 * model.j)

    assert solve(model, ENGINE).objective == pytest.approx(-6.0)


def random_convex(seed):
    """Three whole numbers and a real one in two random ellipsoids."""
    rng = np.random.default_rng(seed)
    model = model_of("ellipsoids", i=whole(0, 4), j=whole(0, 4), k=whole(0, 4), x=real(-3, 3))
    point = [model.i, model.j, model.k, model.x]
    model.inside = pyo.ConstraintList()
    for _ in range(2):
        a, centre = rng.normal(size=(4, 4)), rng.uniform(0, 3, 4) - [0, 0, 0, 1.5]
        q = a.T @ a + 0.05 * np.eye(4)
        v = [p - c for p, c in zip(point, centre.tolist(), strict=True)]
        body = sum(float(q[m, n]) * v[m] * v[n] for m in range(4) for n in range(4))
        model.inside.add(body <= float(rng.uniform(1, 4)))
    model.objective = pyo.Objective(
        expr=sum(float(w) * p for w, p in zip(rng.normal(size=4), point, strict=True))
    )
    return model


def outcome(model, engine):
    try:
        return solve(model, engine).objective
    except NotSolvedError as error:
        return error.solution.reason


def test_random_convex_models_end_as_scip_says():
    for seed in range(30):
        expected, found = outcome(random_convex(seed), "scip"), outcome(random_convex(seed), ENGINE)
        assert found == (
            expected if isinstance(expected, str) else pytest.approx(expected, rel=2e-4, abs=1e-4)
        ), seed


def test_a_point_outside_a_convex_set_is_never_called_optimal():
    """An ellipsoid of ten dimensions takes more rounds of tangents than the loop allows."""
    model = pyo.ConcreteModel("ellipsoid")
    model.x = pyo.Var(range(10), bounds=(-2, 2))
    model.b = pyo.Var(domain=pyo.Binary)
    model.inside = pyo.Constraint(
        expr=sum((k + 1) * model.x[k] ** 2 for k in range(10)) <= 1 + model.b
    )
    gain = sum((1 + 0.37 * (7 * k % 5)) * model.x[k] for k in range(10))
    model.objective = pyo.Objective(expr=gain - 0.1 * model.b, sense=pyo.maximize)

    try:
        solution = solve(model, ENGINE, accept_incumbent=True)
    except NotSolvedError:
        return
    assert broken(model) < 1e-4
    assert solution.status == "feasible" or solution.objective == pytest.approx(3.88630, rel=2e-4)


def test_an_integer_without_an_upper_bound_is_allowed():
    model = model_of("no ceiling", n=(pyo.NonNegativeIntegers, None), x=real(0, 10))
    model.limit = pyo.Constraint(expr=model.x**2 <= model.n)
    model.objective = pyo.Objective(expr=3 * model.n - 5 * model.x)

    assert solve(model, ENGINE).objective == pytest.approx(-2.0)


def test_a_double_cone_is_refused_or_solved_but_not_halved():
    """x^2 <= t^2 with t free to be negative is no convex set; its least t is -5."""
    model = model_of("double cone", t=real(-5, 5), x=real(1, 2), b=whole(0, 1))
    model.double = pyo.Constraint(expr=model.x**2 <= model.t**2)
    model.objective = pyo.Objective(expr=model.t + model.b)

    try:
        solution = solve(model, ENGINE)
    except ValueError as error:
        assert "double" in str(error)
        return
    assert solution.objective == pytest.approx(-5)


def test_a_time_limit_is_a_time_limit():
    """Many whole numbers in a thin slice keep the first mixed-integer solve busy too long."""
    rng = np.random.default_rng(1)
    model = pyo.ConcreteModel("market split")
    model.x = pyo.Var(range(30), domain=pyo.Binary)
    model.s = pyo.Var(range(4), bounds=(0, 1e4))
    model.split = pyo.ConstraintList()
    for k in range(4):
        sizes = rng.integers(0, 100, 30).tolist()
        excess = sum(size * model.x[i] for i, size in enumerate(sizes)) - sum(sizes) // 2
        model.split.add(excess <= model.s[k])
        model.split.add(-excess <= model.s[k])
    model.cap = pyo.Constraint(expr=sum(model.s[k] ** 2 for k in range(4)) <= 1e8)
    model.objective = pyo.Objective(expr=sum(model.s[k] for k in range(4)))

    with pytest.raises(
        NotSolvedError,
        match="market split: .* stopped with time_limit after .* raise time_limit_s=0.5",
    ):
        solve(model, ENGINE, time_limit_s=0.5)


@pytest.mark.parametrize(("options", "held"), [({}, 1e-9), ({NAME: 1e-10}, 1e-10)])
def test_a_caller_s_own_tolerance_is_kept(options, held, monkeypatch):
    opened = []
    monkeypatch.setattr(module, "silent_highs", lambda: opened.append(silent_highs()) or opened[-1])

    assert solve(cone(), ENGINE, options=options).objective == pytest.approx(8.0, rel=2e-4)

    assert [highs.getOptionValue(NAME)[1] for highs in opened] == [held]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({NAME: 1e-6}, f"{NAME} is 1e-06; outer approximation needs at most 1e-08"),
        ({"time_limit": 5.0}, "time_limit is what time_limit_s sets; give that instead"),
        ({"mip_rel_gap": 0.1}, "mip_rel_gap is what rel_gap sets; give that instead"),
        ({"presolv": "off"}, "HiGHS does not take presolv='off'; see its options"),
    ],
)
def test_options_that_would_be_ignored_are_refused(options, message):
    with pytest.raises(ValueError, match=f"options: {message}"):
        solve(cone(), ENGINE, options=options)
