"""Batteries that charge and discharge at once: netted, excluded, or named in a warning."""

import warnings

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.baselines.opf import one_way as opf_one_way
from feederguard.baselines.opf import solve_opf
from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.equations.battery import forbid_simultaneous_by_products
from feederguard.models.opf_objectives import energy_price, losses_mw, regulation_power
from feederguard.models.solver import NotSolvedError, Solution


def feeder():
    return load_network("ieee33")


SHAPE = np.array([0.5, 0.7, 1.0, 0.8])
PAID = {
    "p_load": np.outer(SHAPE, feeder().p_load),
    "q_load": np.outer(SHAPE, feeder().q_load),
    "step_h": 2.0,
    "batteries": Batteries.at(feeder(), ["18", "33"], p_max_mw=0.3, energy_mwh=1.0),
    "objective": lambda m: energy_price(m, [-40, -60, -120, -80]),
}


@pytest.mark.parametrize("method", ["ac_opf", "distflow_opf", "lindistflow_opf"])
def test_where_burning_energy_pays_batteries_still_go_one_way(method):
    with pytest.warns(
        UserWarning,
        match=rf"{method} has battery '\d+' charge .* at once .*; solved again with that forbidden",
    ):
        result = solve_opf(feeder(), method, **PAID)

    assert result.check.n_simultaneous == 0 and result.solution.solver.endswith(
        ", one way at a time"
    )
    both = result.battery[["p_charge_mw", "p_discharge_mw"]].min(axis=1)
    assert both.max() < 1e-6
    assert result.solution.objective == pytest.approx(pyo.value(result.model.objective), rel=1e-12)
    if method != "lindistflow_opf":
        assert result.solution.objective == pytest.approx(-2094.753, abs=0.01)


@pytest.mark.parametrize("method", ["ac_opf", "lindistflow_opf"])
def test_where_going_one_way_cannot_be_solved_the_answer_is_left_and_that_is_said(
    monkeypatch, method
):
    def stop(model, engine, time_limit_s, **settings):
        stopped = Solution("none", "time_limit", 0.0, 0.0, 0.0, engine, "m")
        raise NotSolvedError("m: stopped with time_limit", stopped)

    monkeypatch.setattr(opf_one_way, "solve", stop)
    with pytest.warns(
        UserWarning,
        match=r"it is left so, as it could not be solved with that forbidden \(m: stopped with",
    ):
        result = solve_opf(feeder(), method, **PAID)

    assert result.check.n_simultaneous > 0
    assert (
        result.model.find_component("one_way") is None
        and result.model.find_component("charges") is None
    )
    assert result.solution.objective == pytest.approx(pyo.value(result.model.objective), rel=1e-14)


@pytest.mark.parametrize("method", ["ac_opf_soc", "distflow_opf_soc"])
def test_a_relaxation_stays_the_bound_that_it_is(method):
    with pytest.warns(
        UserWarning, match=f"{method} has battery '\\d+' .* step 0 .*; a relaxation is a bound"
    ):
        result = solve_opf(feeder(), method, **PAID)

    assert result.check.n_simultaneous > 0 and result.solution.objective < -2094.753


def test_what_the_products_of_the_users_own_leave_is_netted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = solve_opf(feeder(), "ac_opf", change=forbid_simultaneous_by_products, **PAID)

    assert result.check.n_simultaneous == 0
    assert result.solution.objective == pytest.approx(-2094.753, abs=0.01)


def test_netting_undoes_no_constraint_of_the_users_own():
    """A constraint asks for both powers of a battery; netted they would violate it."""

    def ask(model):
        model.own = pyo.Constraint(expr=model.p_charge[0, 0] + model.p_discharge[0, 0] >= 0.02)

    price = {"objective": lambda m: energy_price(m, [80, 80, 80, 80]) + losses_mw(m)}
    with pytest.warns(UserWarning, match="solved again with that forbidden"):
        result = solve_opf(feeder(), "distflow_opf", change=ask, **PAID | price)

    assert pyo.value(result.model.own.body) >= 0.02 - 1e-6
    assert result.check.n_simultaneous == 0 and result.check.limits_held


def test_the_objective_is_that_of_the_answer_as_it_is_returned():
    """Every MW of use earns 5 $ and loses nothing, so using both ways would earn more."""
    batteries = Batteries.at(
        feeder(), ["18", "33"], 0.3, 1.0, efficiency_charge=1.0, efficiency_discharge=1.0
    )
    reward = {"objective": lambda m: energy_price(m, [40, 60, 120, 80]) - 5 * regulation_power(m)}

    with pytest.warns(UserWarning, match="solved again with that forbidden"):
        result = solve_opf(feeder(), "distflow_opf", **PAID | reward | {"batteries": batteries})

    used = result.battery[["p_charge_mw", "p_discharge_mw"]].to_numpy()
    grid = result.generator.pivot(index="step", columns="generator", values="p_mw")["1"].to_numpy()
    assert result.solution.objective == pytest.approx(
        2 * grid @ [40, 60, 120, 80] - 5 * used.sum(), rel=1e-9
    )
    assert used.min(axis=1).max() == 0.0
