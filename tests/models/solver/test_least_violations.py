"""An infeasible model is told what would have to give, where, and by how much."""

from importlib import import_module

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.data.networks import load_network
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver import NotSolvedError, solve
from feederguard.models.solver.least_violations import (
    LeastViolations,
    Violation,
    find_least_violations,
)

BUILDERS = {
    "polar": lambda network, **data: build_ac_opf(network, "polar", **data),
    "relaxed": lambda network, **data: build_ac_opf(network, "soc", **data),
    "exact": lambda network, **data: build_distflow_opf(network, "exact", **data),
    "soc": lambda network, **data: build_distflow_opf(network, "soc", **data),
}


def feeder(**changes):
    """The 33-bus feeder; its lowest voltage is 0.9131 pu, at bus 18."""
    return load_network("ieee33").with_changes(**changes)


def tight(v_min):
    return feeder(v_min=np.full(33, v_min))


def test_the_least_sum_of_violations_by_hand():
    """x <= 1, y <= 2, x + y >= 5: two are missing, whoever gives; x >= 0 is a sign and does not."""
    model = pyo.ConcreteModel("sum")
    model.x, model.y = pyo.Var(bounds=(0, 1)), pyo.Var(bounds=(0, 2))
    model.need = pyo.Constraint(expr=model.x + model.y >= 5)
    model.objective = pyo.Objective(expr=model.x)

    least = find_least_violations(model)

    assert least.found and least.reason == "converged"
    assert sum(v.amount for v in least.violations) == pytest.approx(2.0, abs=1e-5)
    assert {v.limit for v in least.violations} <= {"x", "y", "need"}
    assert (model.x.bounds, model.x.value) == ((0, 1), None)


def test_a_feasible_model_has_nothing_to_give():
    least = find_least_violations(build_ac_opf(tight(0.9)))

    assert least.found and least.violations == () and least.describe() == ""


@pytest.mark.parametrize("form", BUILDERS)
def test_a_feeder_that_sags_names_its_low_buses_as_the_power_flow_finds_them(form):
    network = tight(0.95)
    sag = np.maximum(0.95 - np.abs(solve_power_flow(network).voltage), 0.0)

    least = find_least_violations(BUILDERS[form](network))

    found = {v.place: v.amount for v in least.violations}
    expected = {f"bus {network.bus_name[i]!r}": sag[i] for i in np.flatnonzero(sag)}
    # The relaxed AC form meets its cones to 1e-8 in products of voltages, which a small impedance
    # enlarges.
    assert found == pytest.approx(expected, abs=1e-5 if form == "relaxed" else 1e-6)
    first = least.violations[0]
    assert (first.limit, first.place, first.side, first.unit, first.step) == (
        "voltage",
        "bus '18'",
        "below",
        "pu",
        None,
    )


@pytest.mark.parametrize("form", [*BUILDERS, "linear"])
def test_the_error_of_solve_names_them(form):
    build = BUILDERS.get(form, lambda network: build_distflow_opf(network, "linear"))

    with pytest.raises(
        NotSolvedError,
        match=r"of ieee33'?: \w+.* stopped with infeasible .*"
        r"the least violation is voltage at bus '18' below its limit by 0\.03\d+ pu, .* "
        r"and \d+ more; relax these limits or the demand$",
    ):
        solve(build(tight(0.95)))


def test_a_branch_limit_is_named_in_mva():
    """Branch 1 carries the whole feeder, 3.9177 + j 2.4351 MVA in the base case: 4.6129 MVA."""
    s_max = np.full(37, np.inf)
    s_max[0] = 4.0 / feeder().base_mva

    for form in ("polar", "exact"):
        least = find_least_violations(BUILDERS[form](feeder(s_max=s_max)))

        assert {(v.limit, v.place, v.unit) for v in least.violations} == {
            ("apparent power", "branch '1'", "MVA")
        }
        assert least.violations[0].amount == pytest.approx(
            4.6129 - 4.0, abs=2e-3
        )  # its from end, the worse one
        assert "apparent power at branch '1' above its limit by 0.61" in least.describe()


def test_a_current_limit_is_named_in_ampere():
    rating = np.full(37, np.inf)
    network = feeder()
    amps = 1.0 / network.base_current_a[0]
    rating[0] = 200 * amps
    flow = solve_power_flow(network)

    least = find_least_violations(build_distflow_opf(feeder(rating=rating)))

    (violation,) = least.violations
    assert (violation.limit, violation.place, violation.unit) == ("current", "branch '1'", "A")
    assert violation.amount == pytest.approx(abs(flow.current_from[0]) / amps - 200, abs=0.5)


@pytest.mark.parametrize("form", [*BUILDERS, "linear"])
@pytest.mark.parametrize(
    ("side", "bound"), [("above", {"angle_max": -0.01}), ("below", {"angle_min": 0.02})]
)
def test_an_angle_limit_is_named_by_its_side(form, side, bound):
    """From bus 2 to bus 3 the angle is -0.0014 rad: neither below -0.01 nor above 0.02."""
    network = feeder()
    v = solve_power_flow(network).voltage
    apart = float(np.angle(v[1] * np.conj(v[2])))
    assert -0.01 < apart < 0.02
    (name, value), width = next(iter(bound.items())), 37
    limits = {"angle_min": np.full(width, -np.inf), "angle_max": np.full(width, np.inf)}
    limits["angle_min"][1], limits["angle_max"][1] = -0.5, 0.5
    limits[name][1] = value
    build = BUILDERS.get(form, lambda network: build_distflow_opf(network, "linear"))

    least = find_least_violations(build(feeder(**limits)))

    (violation,) = least.violations
    assert (violation.limit, violation.place, violation.side) == (
        "angle difference",
        "branch '2'",
        side,
    )
    assert violation.unit == "deg"
    beyond = np.degrees(abs(apart - value))
    if form in ("relaxed", "soc"):  # excess current in a cone may turn it
        assert 0.5 * beyond < violation.amount < 1.0001 * beyond
    else:
        assert violation.amount == pytest.approx(beyond, rel=0.05 if form == "linear" else 1e-4)


def test_steps_are_named_and_gathered_by_their_worst():
    network = tight(0.92)
    p_load = np.outer([0.5, 1.0, 1.1], network.p_load)

    least = find_least_violations(build_distflow_opf(network, p_load=p_load))

    assert {v.step for v in least.violations} == {1, 2}
    assert least.violations[0].step == 2 and least.violations[0].place == "bus '18'"
    assert "voltage at bus '18' below its limit by 0.0" in least.describe()
    assert "in step 2 (the worst of 2 steps)" in least.describe()


def test_demand_that_cannot_be_carried_gives_way_at_its_bus():
    """No voltage within reach delivers twelve times the load, so its balance comes first."""
    network = feeder()

    least = find_least_violations(
        build_distflow_opf(network, p_load=12 * network.p_load, q_load=12 * network.q_load)
    )

    assert least.found and least.unmet
    assert least.describe(1).startswith(
        ("active power balance at bus ", "reactive power balance at bus ")
    )
    first = [v.limit.endswith("power balance") for v in least.violations]
    assert first == sorted(first, reverse=True)
    assert "current at branch '1' above its limit by" in least.describe(
        len(first)
    )  # the whole feeder goes through it
    sides = {v.limit: v.side for v in least.violations}
    assert sides == {
        "current": "above",
        "voltage": "below",
        "active power balance": "off",
        "reactive power balance": "off",
    }


def test_the_error_of_demand_that_cannot_be_met_asks_for_no_other_limits():
    network = feeder()
    with pytest.raises(
        NotSolvedError,
        match="the demand cannot be met, not even outside the limits; .* power balance at bus",
    ):
        solve(build_distflow_opf(network, p_load=12 * network.p_load, q_load=12 * network.q_load))
    assert not find_least_violations(build_distflow_opf(tight(0.95))).unmet


def test_sides_and_ends_of_a_limit_are_one_place():
    """A limit of 1 MVA on the first branch, as polygons of 32 sides at two ends, in two steps."""
    s_max = np.full(37, np.inf)
    s_max[0] = 1.0 / feeder().base_mva
    p_load = np.outer([1.0, 0.9], feeder().p_load)

    least = find_least_violations(build_distflow_opf(feeder(s_max=s_max), "linear", p_load=p_load))

    assert [(v.limit, v.place) for v in least.violations] == [("apparent power", "branch '1'")] * 2
    assert least.describe().endswith(" in step 0 (the worst of 2 steps)")


def test_time_that_runs_out_is_said_with_what_to_raise(monkeypatch):
    model = build_distflow_opf(tight(0.95))
    assert find_least_violations(model, time_limit_s=1e-4).reason == "Maximum_WallTime_Exceeded"
    monkeypatch.setattr(
        import_module("feederguard.models.solver.solve"), "EXPLANATION_TIME_LIMIT_S", 1e-4
    )
    with pytest.raises(
        NotSolvedError, match="was not found within 0.0001 s; raise the time_limit_s of find_least"
    ):
        solve(model)


def test_a_battery_that_cannot_be_filled_is_named():
    network = feeder()
    batteries = Batteries.at(network, ["18"], p_max_mw=0.1, energy_mwh=1.0, soc_start=0.2)
    model = build_distflow_opf(network, batteries=batteries)
    model.full = pyo.Constraint(expr=model.soc[0, 0] >= 0.9)

    least = find_least_violations(model)

    # 0.7 MWh an hour are asked of 0.1 MW, 95 % of which is stored: more power, or less of what was
    # asked.
    by = {v.limit: v for v in least.violations}
    charging = by["charging power"]
    assert (charging.place, charging.side, charging.unit) == ("battery '18'", "above", "MW")
    asked = by["full"].amount if "full" in by else 0.0
    assert 0.95 * (0.1 + charging.amount) + 1.0 * asked == pytest.approx(0.7, rel=1e-3)


def test_a_contradiction_of_equalities_is_found_in_the_second_attempt():
    model = pyo.ConcreteModel("both")
    model.x = pyo.Var(initialize=0.0)
    model.one = pyo.Constraint(expr=model.x == 1)
    model.four = pyo.Constraint(expr=model.x**2 == 4)
    model.objective = pyo.Objective(expr=model.x)

    least = find_least_violations(model)

    # |x - 1| + |x^2 - 4| falls as x grows from 0 to 2: there only the first gives, by 1.
    (violation,) = least.violations
    assert least.found and (violation.limit, violation.place, violation.side) == (
        "one",
        "every point",
        "off",
    )
    assert violation.amount == pytest.approx(1.0, abs=1e-5)


def test_it_stops_at_its_time_limit():
    model = build_ac_opf(tight(0.95), p_load=np.outer(np.ones(24), feeder().p_load))

    least = find_least_violations(model, time_limit_s=1e-3)

    assert not least.found and "Time" in least.reason


def test_what_cannot_be_read_is_no_answer():
    model = pyo.ConcreteModel("odd")
    model.x = pyo.Var(bounds=(0, 1), initialize=0.5)
    model.c = pyo.Constraint(expr=pyo.ceil(model.x) >= 5)
    model.objective = pyo.Objective(expr=model.x)

    least = find_least_violations(model)

    assert not least.found and "odd: c holds the function ceil" in least.reason


def test_a_long_list_is_cut():
    many = tuple(Violation("voltage", f"bus '{k}'", None, "below", 0.01, "pu") for k in range(7))

    assert LeastViolations(True, "converged", many).describe(2) == (
        "voltage at bus '0' below its limit by 0.01 pu, voltage at bus '1' below its limit by 0.01 "
        "pu and 5 more"
    )
