"""What optimal power flows share: steps, generators, substations, and refused data."""

import inspect

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.equations.periods import OpfData, read_periods, start_opf
from feederguard.models.network import Network
from feederguard.models.network.pi_model import held_substations
from feederguard.models.opf_objectives import set_objective


@pytest.fixture(scope="module")
def network() -> Network:
    """ieee33 with generator g1 at bus 18, at most 0.2 pu, and g2, which is the grid above."""
    feeder = load_network("ieee33")
    return feeder.with_changes(
        gen_name=("g1", "g2"), gen_bus=np.array([17, 0]), gen_p_min=np.array([0.0, -np.inf]),
        gen_p_max=np.array([0.2, np.inf]), gen_q_min=np.array([-0.1, -np.inf]), gen_q_max=np.array([0.1, np.inf]),
        gen_cost=np.array([[0.0, 0.0, 0.0], [0.0, 20.0, 0.0]]), gen_is_grid=[False, True],
    )  # fmt: skip


def test_rows_without_steps_stand_in_every_step(network):
    load = np.outer([0.5, 1.0, 0.2], network.p_load)
    periods = read_periods(network, p_load=load, step_h=0.25)

    assert periods.n_step == 3
    np.testing.assert_array_equal(periods.p_load, load)
    np.testing.assert_array_equal(periods.q_load, np.tile(network.q_load, (3, 1)))
    assert periods.gen_p_max.shape == (3, 2)
    assert len(periods.batteries) == 0


def test_one_period_is_one_step(network):
    assert read_periods(network).p_load.shape == (1, network.n_bus)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"p_load": np.zeros(3)},
            r"p_load has shape \(3,\); give \(33,\) or \(T, 33\), one per bus",
        ),
        ({"p_gen": np.zeros((0, 33))}, r"p_gen has shape \(0, 33\)"),
        (
            {"gen_p_max": 1.0},
            r"gen_p_max has shape \(\); give \(2,\) or \(T, 2\), one per generator",
        ),
        (
            {"p_load": np.zeros((4, 33)), "p_gen": np.zeros((3, 33))},
            "steps disagree: p_load has 4, p_gen has 3",
        ),
        ({"q_load": np.full(33, np.nan)}, "q_load of bus '1' is nan; give a finite number in pu"),
        (
            {"p_load": np.outer([1, 1], [0.0] * 5 + [np.inf] + [0.0] * 27)},
            "p_load of bus '6' at step 0 is (inf|nan)",
        ),
        ({"gen_p_max": [np.nan, 1.0]}, "gen_p_max of generator 'g1' is nan; give a finite number"),
        ({"p_load": "high"}, "p_load is 'high'; give numbers in pu, one per bus"),
        ({"step_h": "1"}, "step_h is '1'; it must be a positive number of hours"),
        ({"batteries": ["18"]}, r"batteries is a list; give Batteries.at\(network, bus_names"),
        ({"step_h": 0.0}, "step_h is 0.0; it must be a positive number of hours"),
        (
            {"gen_p_max": [-0.1, 1.0]},
            "gen_p_max of generator 'g1' at step 0 is -0.1 pu, below its gen_p_min 0",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(network, changes, message):
    with pytest.raises(ValueError, match=message):
        read_periods(network, **changes)


def test_a_substation_is_held_unless_a_generator_stands_for_the_grid_above(network):
    assert not held_substations(network).any()
    assert held_substations(network.with_changes(gen_is_grid=[False, False])).all(), (
        "any other generator there is one more"
    )
    assert held_substations(load_network("ieee33")).all()


def test_limits_of_generators_become_bounds_by_step(network):
    model = start_opf("test", read_periods(network, gen_p_max=[[0.1, 1.0], [0.0, 1.0]]))

    assert [model.p_gen[t, 0].bounds for t in (0, 1)] == [(0.0, 0.1), (0.0, 0.0)]
    assert model.p_gen[0, 1].bounds == (None, 1.0)
    assert model.q_gen[1, 0].bounds == (-0.1, 0.1)
    assert list(model.substation) == []


def test_injections_add_up(network):
    """At bus 18 on 10 MVA: demand 0.009 + 0.004j, and g1 gives 0.05.

    Fixed generation is 0.03, and the battery feeds 0.005 - 0.02.
    """
    gen = np.zeros(33)
    gen[17] = 0.03
    batteries = Batteries.at(network, ["18"], p_max_mw=1.0, energy_mwh=2.0)
    model = start_opf("test", read_periods(network, p_gen=gen, batteries=batteries))
    model.p_gen[0, 0].set_value(0.05)
    model.q_gen[0, 0].set_value(0.01)
    model.p_charge[0, 0].set_value(0.02)
    model.p_discharge[0, 0].set_value(0.005)

    assert pyo.value(model.p_injected[0, 17]) == pytest.approx(0.05 + 0.03 - 0.009 - 0.015)
    assert pyo.value(model.q_injected[0, 17]) == pytest.approx(0.01 - 0.004)
    assert pyo.value(model.p_injected[0, 5]) == -network.p_load[5]


def test_the_grid_above_supplies_a_substation_without_a_generator():
    model = start_opf("test", read_periods(load_network("ieee33")))
    model.p_substation[0, 0].set_value(3.0)
    assert pyo.value(model.p_injected[0, 0]) == 3.0


def test_open_branches_are_no_members_of_branch(network):
    model = start_opf("test", read_periods(network))
    assert list(model.branch) == np.flatnonzero(network.closed).tolist()


def test_the_default_objective_is_cost_where_there_is_a_cost(network):
    for feeder, expected in ((network, 20.0 * 30.0), (load_network("ieee33"), 7.0)):
        model = start_opf("test", read_periods(feeder))
        model.loss = pyo.Expression(model.time, initialize=0.7)
        model.p_gen[:, :].set_value(3.0, skip_validation=True)
        set_objective(model, None)
        assert pyo.value(model.objective) == pytest.approx(expected)


def test_a_free_grid_above_beside_generators_that_cost_is_warned_of(network):
    model = start_opf("test", read_periods(network.with_changes(gen_is_grid=[False, False])))
    with pytest.warns(
        UserWarning,
        match="ieee33: the default objective .* energy from the grid above is free; .*energy_price",
    ):
        set_objective(model, None)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (3.0, "objective is 3.0; give a function of the model"),
        (lambda model: None, "objective returned nothing; return"),
    ],
)
def test_an_objective_that_is_none_is_refused(network, objective, message):
    with pytest.raises(ValueError, match=message):
        set_objective(start_opf("test", read_periods(network)), objective)


def test_the_data_of_an_opf_are_the_arguments_of_read_periods():
    _, *arguments = inspect.signature(read_periods).parameters
    assert list(OpfData.__annotations__) == arguments


def test_a_misspelt_argument_is_refused(network):
    with pytest.raises(TypeError, match="unexpected keyword argument 'p_laod'"):
        build_distflow_opf(network, p_laod=network.p_load)
