"""The optimum of voltage regulation: two buses by hand, Ipopt, other methods, impossible days."""

import numpy as np
import pytest

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.baselines.opf import solve_opf
from feederguard.baselines.voltage.droop import Droop
from feederguard.baselines.voltage.optimum import VoltageOpf, VoltageOptimumError
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.opf_objectives import regulation_power
from feederguard.models.voltage_regulation import PlannedMethod, VoltageDays, simulate
from feeders import battery, demand_days, pair


def energy(net, name="ac_opf", **changes):
    """The judge's outcome of the optimum on the two buses."""
    return simulate(
        pair(rating=0.01),
        battery(**changes),
        demand_days(net),
        VoltageOpf(pair(rating=0.01), battery(**changes), name),
    )


class IdleUnderLayer:
    name = "idle under the layer"

    def __init__(self, case):
        self.layer = SafetyLayer(case.network, case.batteries, case.days.step_h)

    def decide(self, state):
        return self.layer.correct(state, np.zeros(state.soc.shape)).p


def test_least_energy_by_arithmetic():
    """0.6 is 0.125 too much: 0.125 / 0.5 leaves the store; 0.25 / 0.8 is drawn to put it back."""
    outcome = energy([0.2, 0.6, 0.2, 0.2])

    assert outcome.p_battery[0, 1, 0] == pytest.approx(-0.125, abs=1e-5)
    assert outcome.regulation_mwh[0] == pytest.approx(0.125 + 0.3125, abs=3e-5)
    assert outcome.n_violation_steps[0] == 0 and outcome.worst_excess_pu[0] < 2e-6
    assert outcome.soc_short_mwh[0] == 0.0


def test_least_energy_as_lindistflow_sees_it_and_what_the_judge_says():
    """Lossless, 0.95^2 = 1 - 0.2 P is reached at 0.4875 only."""
    outcome = energy([0.2, 0.6, 0.2, 0.2], "lindistflow_opf")

    assert outcome.regulation_mwh[0] == pytest.approx(0.1125 * (1 + 1 / 0.5 / 0.8), abs=1e-5)
    assert outcome.n_violation_steps[0] >= 1 and outcome.worst_excess_pu[0] > 1e-3


def test_surplus_is_stored_and_need_not_be_given_back():
    outcome = energy([0.2, -0.6, 0.2, 0.2])

    np.testing.assert_allclose(outcome.p_battery[0, :, 0], [0, 0.075, 0, 0], atol=1e-5)
    assert outcome.soc[0, -1, 0] == pytest.approx(0.5 + 0.06, abs=1e-5)


def test_a_full_battery_makes_room_beforehand():
    """0.075 stores 0.06, which 0.03 at the bus makes room for."""
    outcome = energy([0.2, 0.2, -0.6, 0.2], soc_start=1.0)

    assert outcome.regulation_mwh[0] == pytest.approx(0.105, abs=2e-5)
    assert outcome.p_battery[0, :2].sum() == pytest.approx(-0.03, abs=1e-5)
    assert outcome.n_violation_steps[0] == 0


def test_burning_energy_is_not_a_plan():
    """A full battery could take the first surplus only by charging and discharging at once."""
    with pytest.raises(
        VoltageOptimumError,
        match=r"pair: ac_opf found no plan for 2016-02-01 that holds bus '1' at step 0: 1.0",
    ):
        energy([-0.6, 0.2, 0.2, 0.2], soc_start=1.0)


def test_a_quiet_day_needs_nothing_and_a_low_start_is_filled():
    network, quiet = pair(rating=0.01), demand_days([[0.2, 0.3, 0.2, 0.2], [0.2, -0.3, 0.2, 0.2]])

    outcome = simulate(network, battery(), quiet, VoltageOpf(network, battery()))
    assert not outcome.p_battery.any()
    low = simulate(
        network, battery(), quiet, VoltageOpf(network, battery()), soc_start=[[0.5], [0.42]]
    )
    np.testing.assert_allclose(low.regulation_mwh, [0.0, 0.1], atol=1e-7)
    assert low.soc_short_mwh.max() == 0.0


def test_an_end_that_is_asked_for():
    outcome = energy([0.2, 0.3, 0.2, 0.2], soc_end=[0.7])

    assert (
        outcome.regulation_mwh[0] == pytest.approx(0.2 / 0.8, abs=1e-6)
        and outcome.soc_short_mwh[0] == 0.0
    )


def test_it_is_what_ipopt_finds_on_the_whole_model():
    """Three batteries and 12 two-hour steps on 33 buses, against the multi-period AC equations."""
    case = load_voltage_case("ieee33", "train")
    picked = case.days[[20]]
    every = slice(0, None, 8)
    day = VoltageDays(
        picked.p_load[:, every], picked.q_load[:, every], picked.p_gen[:, every], 2.0, picked.date
    )
    free = case.network.with_changes(rating=np.full(case.network.n_branch, np.inf))

    outcome = simulate(case.network, case.batteries, day, VoltageOpf(case.network, case.batteries))
    ipopt = solve_opf(
        free,
        "distflow_opf",
        p_load=day.p_load[0],
        q_load=day.q_load[0],
        p_gen=day.p_gen[0],
        step_h=2.0,
        batteries=case.batteries,
        objective=regulation_power,
    )

    assert outcome.regulation_mwh[0] > 0.1 and outcome.n_violation_steps[0] == 0
    assert outcome.regulation_mwh[0] == pytest.approx(2.0 * ipopt.solution.objective, rel=1e-4)


def test_lindistflow_is_the_linear_program_of_the_opf():
    case = load_voltage_case("ieee33", "train")
    day = case.days[[20]]
    free = case.network.with_changes(rating=np.full(case.network.n_branch, np.inf))

    plan = VoltageOpf(case.network, case.batteries, "lindistflow_opf").plan(
        day, case.batteries.soc_start[None]
    )
    linear = solve_opf(
        free,
        "lindistflow_opf",
        p_load=day.p_load[0],
        q_load=day.q_load[0],
        p_gen=day.p_gen[0],
        step_h=day.step_h,
        batteries=case.batteries,
        objective=regulation_power,
    )

    assert case.network.base_mva * np.abs(plan).sum() == pytest.approx(
        linear.solution.objective, rel=1e-5
    )


def test_no_method_that_holds_a_day_moves_less():
    case = load_voltage_case("cigre_lv18", "train")
    some = case.days[np.arange(0, len(case.days), 25)]

    best = simulate(case.network, case.batteries, some, VoltageOpf(case.network, case.batteries))
    assert (
        best.n_violation_steps.sum() == 0
        and best.worst_excess_pu.max() <= 2e-6
        and best.soc_short_mwh.max() <= 1e-9
    )
    compared = 0
    for method in (IdleUnderLayer(case), Droop(case.network, case.batteries)):
        other = simulate(case.network, case.batteries, some, method)
        fair = (other.n_violation_steps == 0) & (other.soc_short_mwh <= 1e-9)
        compared += int((fair & (other.regulation_mwh > 0)).sum())
        assert (best.regulation_mwh[fair] <= other.regulation_mwh[fair] * (1 + 1e-3) + 1e-6).all()
    assert compared >= 3


@pytest.mark.slow
def test_workers_give_the_same_figures():
    network, several = (
        pair(rating=0.01),
        demand_days([[0.2, 0.6, 0.2, 0.2], [0.1, 0.2, -0.6, 0.6], [0.5, 0.1, 0.2, 0.3]]),
    )
    start = np.full((3, 1), 0.5)

    alone = VoltageOpf(network, battery()).plan(several, start)
    together = VoltageOpf(network, battery(), n_worker=2).plan(several, start)

    assert np.array_equal(alone, together) and alone[2].any()
    assert isinstance(VoltageOpf(network, battery()), PlannedMethod)


def test_errors_name_what_is_wrong():
    method = VoltageOpf(pair(rating=0.01), battery(p_max=0.01))

    with pytest.raises(
        ValueError, match="unknown voltage optimum 'dc_opf'; use one of ac_opf, lindistflow_opf"
    ):
        VoltageOpf(pair(rating=0.01), battery(), "dc_opf")
    with pytest.raises(ValueError, match="n_worker is 0; use at least one process"):
        VoltageOpf(pair(rating=0.01), battery(), n_worker=0)
    with pytest.raises(ValueError, match="battery 'b' is at bus 7"):
        VoltageOpf(pair(rating=0.01), battery(bus=[7]))
    with pytest.raises(ValueError, match=r"soc_start has shape \(1,\); expected \(1, 1\)"):
        method.plan(demand_days([0.2]), np.array([0.5]))
    with pytest.raises(
        ValueError, match="soc_start of battery 'b' on day 0 is 1.5; it must lie between soc_min 0"
    ):
        method.plan(demand_days([0.2]), np.array([[1.5]]))
    with pytest.raises(
        VoltageOptimumError,
        match="found no plan for 2016-02-01 that holds bus '1' at step 1: 0.93.*raise power",
    ):
        method.plan(demand_days([0.2, 0.6, 0.2]), np.array([[0.5]]))
    with pytest.raises(
        VoltageOptimumError,
        match="on 2016-02-01 battery 'b' cannot go from SOC 0.200 to 0.500 by the end",
    ):
        method.plan(demand_days([0.2, 0.3, 0.2]), np.array([[0.2]]))


@pytest.mark.slow
def test_every_bundled_day_has_an_optimum():
    """All days of the year on the job's feeder, and the test days of the others."""
    for feeder, weeks in (
        ("cigre_lv18", "all"),
        ("ieee33", "test"),
        ("bus69", "test"),
        ("caracas141", "test"),
    ):
        case = load_voltage_case(feeder, weeks)
        outcome = simulate(
            case.network, case.batteries, case.days, VoltageOpf(case.network, case.batteries)
        )
        assert outcome.n_violation_steps.sum() == 0 and outcome.worst_excess_pu.max() <= 2e-6
        assert outcome.soc_short_mwh.max() <= 1e-9


def test_a_substation_of_free_voltage_is_refused():
    network = pair(
        rating=0.01,
        gen_name=("grid",),
        gen_bus=[0],
        gen_p_min=[-5.0],
        gen_p_max=[5.0],
        gen_q_min=[-5.0],
        gen_q_max=[5.0],
        gen_is_grid=[True],
    )
    with pytest.raises(
        ValueError, match="pair: the voltage of substation '0' is free, .* use baselines.opf"
    ):
        simulate(network, battery(), demand_days([0.6, 0.0]), VoltageOpf(network, battery()))
