"""A compiled model says what Pyomo says of the same point."""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.data.networks import load_network
from feederguard.models.compiled import CompileError, compile_model
from feederguard.models.load_transfer import make_scenarios
from feederguard.models.reconfiguration import build_load_transfer, build_loss_reconfiguration


def hand_made():
    """3 + 2 x0 - x1 + 4 x0 x1 + x1^2 + 0.5 d, one limit of each kind, d held at 2."""
    model = pyo.ConcreteModel("hand")
    model.x = pyo.Var(range(2))
    model.d = pyo.Var(initialize=2.0)
    model.d.fix()
    x, d = model.x, model.d
    model.objective = pyo.Objective(
        expr=3 + 2 * x[0] - x[1] + 4 * x[0] * x[1] + x[1] ** 2 + 0.5 * d
    )
    model.upper = pyo.Constraint(expr=x[0] + d * x[1] <= 4)
    model.lower = pyo.Constraint(expr=x[0] ** 2 + x[1] ** 2 >= 1)
    model.between = pyo.Constraint(expr=(-1, x[0] - x[1] + 1, 1))
    model.equal = pyo.Constraint(expr=x[0] * x[1] == 2)
    return model


def test_objective_and_violations_by_hand():
    compiled = compile_model(hand_made())

    points = compiled.point(x=[[1.0, 2.0], [0.0, 0.0], [-3.0, 1.0]])

    assert compiled.limit_name == ("upper", "lower", "between", "equal")
    np.testing.assert_array_equal(compiled.lower, [-np.inf, 1, -1, 2])
    np.testing.assert_array_equal(compiled.upper, [4, np.inf, 1, 2])
    np.testing.assert_allclose(
        compiled.objective(points), [3 + 2 - 2 + 8 + 4 + 1, 4, 3 - 6 - 1 - 12 + 1 + 1]
    )
    expected = [[1, 0, 0, 0], [0, 1, 0, 2], [0, 0, 2, 5]]
    np.testing.assert_allclose(compiled.violations(points), expected)
    np.testing.assert_allclose(compiled.worst_violation(points), [1, 2, 5])


def test_a_fixed_variable_is_a_constant_unless_it_is_an_input():
    model = hand_made()

    constant, data = compile_model(model), compile_model(model, inputs=["d"])

    assert list(constant.columns) == ["x"] and list(data.columns) == ["x", "d"]
    assert model.d.fixed and model.d.value == 2.0
    points = data.point(x=[1.0, 2.0], d=[[2.0], [3.0]])
    np.testing.assert_allclose(data.objective(points), [16.0, 16.5])
    np.testing.assert_allclose(data.violations(points)[:, 0], [1.0, 3.0])
    np.testing.assert_allclose(constant.objective(constant.point(x=[1.0, 2.0])), [16.0])


def test_the_sign_of_a_maximisation_is_kept():
    model = pyo.ConcreteModel("most")
    model.x = pyo.Var()
    model.objective = pyo.Objective(expr=3 * model.x, sense=pyo.maximize)

    compiled = compile_model(model)

    assert compiled.objective(compiled.point(x=2.0)) == 6.0
    assert compiled.violations(compiled.point(x=2.0)).shape == (1, 0)
    assert compiled.worst_violation(compiled.point(x=2.0)) == 0.0


def test_another_objective_and_some_constraints_can_be_chosen():
    model = hand_made()
    model.other = pyo.Expression(expr=model.x[0] - 7)

    compiled = compile_model(model, objective=model.other, constraints=["between", "upper"])

    assert compiled.limit_name == ("between", "upper")
    assert compiled.objective(compiled.point(x=[9.0, 0.0])) == 2.0
    assert compile_model(model, objective=0.0).objective(compiled.point(x=[9.0, 0.0])) == 0.0


def test_an_inactive_constraint_is_left_out():
    model = hand_made()
    model.upper.deactivate()

    assert compile_model(model).limit_name == ("lower", "between", "equal")


def summed():
    """total = x0 + x1 + x2 and twice = 2 total + 1 follow from x."""
    model = pyo.ConcreteModel("sums")
    model.x = pyo.Var(range(3))
    model.total = pyo.Var()
    model.twice = pyo.Var()
    model.is_sum = pyo.Constraint(expr=3 * sum(model.x[k] for k in range(3)) == 3 * model.total)
    model.is_double = pyo.Constraint(expr=model.twice - 2 * model.total == 1)
    model.objective = pyo.Objective(expr=model.total**2 + model.twice)
    return model


def test_defined_variables_follow_from_the_others():
    compiled = compile_model(summed(), defined={"total": "is_sum", "twice": "is_double"})

    points = compiled.point(x=[[1.0, 2.0, 3.0], [0.0, 0.0, -1.0]])
    given = points.copy()

    np.testing.assert_allclose(compiled.objective(points), [36 + 13, 1 - 1])
    np.testing.assert_allclose(compiled.column_of(points, "total"), [[6], [-1]])
    np.testing.assert_allclose(compiled.violations(points), 0, atol=1e-12)
    np.testing.assert_array_equal(points, given)


def test_the_order_of_definitions_does_not_matter():
    compiled = compile_model(summed(), defined={"twice": "is_double", "total": "is_sum"})

    np.testing.assert_allclose(compiled.objective(compiled.point(x=[1.0, 2.0, 3.0])), [49])


def test_a_defined_variable_that_nothing_uses_is_allowed():
    model = summed()

    compiled = compile_model(
        model, objective=model.x[0], constraints=[], defined={"total": "is_sum"}
    )

    assert compiled.objective(compiled.point(x=[5.0, 0.0, 0.0])) == 5.0


@pytest.mark.parametrize(
    ("defined", "message"),
    [
        ({"mean": "is_sum"}, "sums: no Var 'mean'; there are x, total, twice"),
        ({"total": "is_mean"}, "sums: no Constraint 'is_mean'; there are is_sum, is_double"),
        ({"twice": "is_sum"}, "sums: is_sum is not a linear equality that determines twice"),
        ({"x": "is_sum"}, "sums: is_sum is not a linear equality that determines x"),
    ],
)
def test_a_definition_that_defines_nothing_is_refused(defined, message):
    with pytest.raises(CompileError, match=message):
        compile_model(summed(), defined=defined)


def test_what_is_not_quadratic_is_refused_by_name():
    model = hand_made()
    model.wave = pyo.Constraint(expr=pyo.sin(model.x[0]) <= 1)

    with pytest.raises(
        CompileError,
        match="wave is not linear or quadratic; compile the quadratic part of the model",
    ):
        compile_model(model)
    assert model.d.fixed
    with pytest.raises(CompileError, match="the objective is not linear or quadratic"):
        compile_model(model, objective=model.x[0] ** 3, constraints=[], inputs=["d"])
    assert model.d.fixed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"constraints": ["uper"]},
            "hand: no Constraint 'uper'; there are upper, lower, between, equal",
        ),
        ({"constraints": ["x"]}, "hand: no Constraint 'x'"),
        ({"inputs": ["e"]}, "hand: no Var 'e'; there are x, d"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(CompileError, match=message):
        compile_model(hand_made(), **arguments)


def test_a_model_without_a_single_objective_asks_which():
    model = hand_made()
    model.second = pyo.Objective(expr=model.x[0])

    with pytest.raises(
        CompileError, match="hand: 2 active objectives; pass the one to evaluate as objective="
    ):
        compile_model(model)
    assert compile_model(model, objective=model.second).objective(np.array([[4.0, 0.0]])) == 4.0


def test_points_that_do_not_fit_are_refused():
    compiled = compile_model(hand_made(), inputs=["d"])

    with pytest.raises(CompileError, match=r"hand: point\(\) needs a value for d"):
        compiled.point(x=[1.0, 2.0])
    with pytest.raises(CompileError, match="hand: no variable 'z'; there are x, d"):
        compiled.point(x=[1.0, 2.0], d=1.0, z=0.0)
    with pytest.raises(
        CompileError, match=r"hand: x has shape \(3,\); expected \(2,\) or \(B, 2\)"
    ):
        compiled.point(x=[1.0, 2.0, 3.0], d=1.0)
    with pytest.raises(CompileError, match=r"hand: points have shape \(1, 2\); expected \(B, 3\)"):
        compiled.objective(np.zeros((1, 2)))


def test_batches_of_different_sizes_are_refused():
    compiled = compile_model(hand_made(), inputs=["d"])

    with pytest.raises(CompileError, match="hand: .*d"):
        compiled.point(x=np.zeros((3, 2)), d=np.zeros((5, 1)))


def test_a_nan_stays_a_nan_and_spoils_no_other_row():
    compiled = compile_model(hand_made())

    points = compiled.point(x=[[np.nan, 1.0], [1.0, 2.0]])

    assert np.isnan(compiled.objective(points)[0]) and compiled.objective(points)[1] == 16
    assert np.isnan(compiled.violations(points)[0]).all()
    np.testing.assert_array_equal(compiled.worst_violation(points), [np.nan, 1])


@pytest.fixture(scope="module")
def feeder():
    return load_network("ieee33")


def load_transfer(network, setting):
    scenario = make_scenarios(network, "7", p_gen=0.1 * network.p_load[::-1])
    return build_load_transfer(network, scenario, setting)


# How to build each model, and which of its fixed variables are data.
BUILDERS = {
    "loss": (build_loss_reconfiguration, ()),
    "paper": (lambda network: load_transfer(network, "paper"), ()),
    "radial": (lambda network: load_transfer(network, "radial"), ("failed",)),
}


def pyomo_says(model, row, columns, inputs):
    """Pyomo's objective, cost, bodies and violations at one row of columns.

    Fixed variables keep their values.
    """
    for name, places in columns.items():
        for data, value in zip(
            model.find_component(name).values(), row[places].tolist(), strict=True
        ):
            if not data.fixed or name in inputs:
                data.set_value(value, skip_validation=True)
    constraints = list(model.component_data_objects(pyo.Constraint, active=True))
    body = np.array([pyo.value(c.body) for c in constraints])
    lower = np.array([-np.inf if c.lb is None else c.lb for c in constraints])
    upper = np.array([np.inf if c.ub is None else c.ub for c in constraints])
    cost = pyo.value(model.cost) if model.find_component("cost") is not None else None
    return (
        pyo.value(model.objective),
        cost,
        body,
        np.maximum(np.maximum(lower - body, body - upper), 0),
    )


@pytest.mark.parametrize("name", BUILDERS)
def test_the_exact_models_equal_pyomo_on_random_points(feeder, name):
    build, inputs = BUILDERS[name]
    model = build(feeder)
    compiled = compile_model(model, inputs=inputs)
    assert compiled.limit_name == tuple(
        c.name for c in model.component_data_objects(pyo.Constraint, active=True)
    )
    rows = np.random.default_rng(1).normal(size=(100, compiled.n_column))

    objective, violations = compiled.objective(rows), compiled.violations(rows)
    cost = (
        compile_model(model, objective=model.cost, inputs=inputs).objective(rows)
        if name != "loss"
        else None
    )

    for k in range(100):
        expected, expected_cost, body, violation = pyomo_says(
            model, rows[k], compiled.columns, inputs
        )
        assert objective[k] == pytest.approx(expected, rel=1e-9)
        assert (abs(violations[k] - violation) <= 1e-9 * np.maximum(1, abs(body))).all()
        if cost is not None:
            assert cost[k] == pytest.approx(expected_cost, rel=1e-9)
    assert (violations > 0).mean() > 0.1


def test_defined_totals_of_a_load_transfer_equal_pyomo(feeder):
    model = load_transfer(feeder, "paper")
    defined = {"total_shed": "define_total_shed", "n_operations": "define_n_operations"}
    compiled = compile_model(
        model,
        objective=model.cost,
        constraints=list(defined.values()),
        inputs=["failed"],
        defined=defined,
    )
    rng = np.random.default_rng(3)
    y, shed = rng.integers(0, 2, (20, feeder.n_branch)), rng.random((20, feeder.n_bus))

    failed = np.eye(feeder.n_branch)[rng.integers(0, 32, 20)]

    points = compiled.point(y=y, shed=shed, failed=failed, curtailed=0.0)

    # Branch 7 is fixed open in this model, and only ties can be closed: the others count by their
    # constant state.
    fixed = np.array([model.y[b].fixed for b in model.branch])
    state = np.where(fixed, [model.y[b].value or 0 for b in model.branch], y)
    operations = np.where(feeder.is_tie, state, 1 - state - failed).sum(axis=1)
    np.testing.assert_allclose(compiled.column_of(points, "n_operations")[:, 0], operations)
    np.testing.assert_allclose(compiled.column_of(points, "total_shed")[:, 0], shed.sum(axis=1))
    per_base = feeder.base_mva / 0.1
    np.testing.assert_allclose(
        compiled.objective(points),
        22 * (per_base * shed.sum(axis=1)) ** 2 + 3 * operations**2,
        rtol=1e-12,
    )
    np.testing.assert_allclose(compiled.violations(points), 0, atol=1e-9)
