"""DistFlow OPF against hand calculations, the AC power flow, and the order of its forms.

A day with batteries is in test_distflow_opf_day.py.
"""

from functools import cache

import numpy as np
import pyomo.environ as pyo
import pytest

import feeders
from feederguard.data.networks import list_networks, load_network
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import (
    FORMS,
    build_distflow_opf,
    cone_gap,
    start_from,
)
from feederguard.models.network import Network, NetworkError
from feederguard.models.opf_objectives import energy_price
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.solver import NEAR_START, solve

TIGHT = {"tol": 1e-10}  # Ipopt's default leaves a relative 1e-8 of the barrier in the objective


def row(r: list[float], p_load: list[float], **changes) -> Network:
    """0 --1-- 1 --2-- 2 ... of resistances r, substation at 1 pu, 1 MVA, a wide band."""
    given = {"r": r, "x": 0.0, "p_load": [0.0, *p_load], "v_min": 0.8, "v_max": 1.3}
    return feeders.row(len(r) + 1, **given | changes)


def exporting(**changes) -> Network:
    """A generator of up to 1 MW behind r = 0.1, with nothing to feed but the grid above."""
    return row(
        [0.1],
        [0.0],
        gen_name=("g",),
        gen_bus=[1],
        gen_p_min=[0],
        gen_p_max=[1.0],
        gen_q_min=[0],
        gen_q_max=[0],
        **changes,
    )


def solved(network, form, solver="auto", **arguments):
    model = build_distflow_opf(network, form, **arguments)
    solve(model, solver, options=TIGHT if form != "linear" and solver == "auto" else None)
    return model


def values(variable):
    return np.array([pyo.value(v) for v in variable.values()])


def voltage(model):
    return np.sqrt(values(model.w)).reshape(len(model.time), -1)


class TestByHand:
    @pytest.mark.parametrize("form", ["exact", "soc"])
    def test_two_buses(self, form):
        """0.5 pu of current through r = 0.1: 0.95 pu at the end.

        0.475 is delivered, 0.025 lost, 0.5 sent.
        """
        model = solved(row([0.1], [0.475]), form)

        assert values(model.w) == pytest.approx([1.0, 0.9025])
        assert (model.P[0, 0].value, model.ell[0, 0].value) == pytest.approx((0.5, 0.25))
        assert pyo.value(model.P_to[0, 0]) == pytest.approx(-0.475)
        assert model.p_substation[0, 0].value == pytest.approx(0.5)
        assert pyo.value(model.objective) == pytest.approx(0.025)

    def test_two_buses_linear(self):
        """Lossless: w = 1 - 2 * 0.1 * 0.475; a load lowers the voltage."""
        model = solved(row([0.1], [0.475]), "linear")
        assert values(model.w) == pytest.approx([1.0, 0.905])
        assert model.p_substation[0, 0].value == pytest.approx(0.475)
        assert pyo.value(model.objective) == pytest.approx(0.1 * 0.475**2)

    @pytest.mark.parametrize("form", FORMS)
    def test_a_branch_drawn_towards_the_substation(self, form):
        forward = solved(row([0.1], [0.475]), form)
        backward = solved(row([0.1], [0.475], from_bus=[1], to_bus=[0]), form)

        assert values(backward.w) == pytest.approx(values(forward.w))
        assert backward.P[0, 0].value == pytest.approx(-0.475)
        assert backward.p_substation[0, 0].value == pytest.approx(forward.p_substation[0, 0].value)

    @pytest.mark.parametrize("form", ["exact", "soc"])
    def test_three_buses(self, form):
        """Currents 0.5 and 0.2: 0.95 and 0.93 pu.

        0.3 * 0.95 and 0.2 * 0.93 are delivered, and 0.1 (0.25 + 0.04) is lost.
        """
        model = solved(row([0.1, 0.1], [0.285, 0.186]), form)
        assert voltage(model)[0] == pytest.approx([1.0, 0.95, 0.93])
        assert pyo.value(model.objective) == pytest.approx(0.029)

    def test_generation_raises_the_voltage(self):
        """0.2 pu back through r = 0.1: 1.02 pu, and 0.204 produced.

        The lossless w = 1 + 2 * 0.1 * 0.204 is above 1.02^2.
        """
        network = row([0.1], [0.0], p_gen=[0.0, 0.204])
        assert voltage(solved(network, "exact"))[0, 1] == pytest.approx(1.02)
        assert values(solved(network, "linear").w)[1] == pytest.approx(1.0408)

    @pytest.mark.parametrize("form", ["exact", "soc"])
    def test_a_tap(self, form):
        """1 / 0.8 = 1.25 pu behind it; 0.5 pu of current leaves 1.2 and delivers 0.6.

        The grid gives 0.5 / 0.8.
        """
        model = solved(row([0.1], [0.6], tap=[0.8]), form)
        assert voltage(model)[0] == pytest.approx([1.0, 1.2])
        assert model.p_substation[0, 0].value == pytest.approx(0.625)

    @pytest.mark.parametrize("form", ["exact", "soc"])
    def test_a_current_rating(self, form):
        """0.2 pu at most: 1.02 pu at the generator, which sells 0.2 * 1.02 less 0.1 * 0.04."""
        model = solved(exporting(rating=[0.2]), form, objective=lambda m: energy_price(m, 10.0))
        assert model.p_gen[0, 0].value == pytest.approx(0.204, abs=1e-6)
        assert model.p_substation[0, 0].value == pytest.approx(-0.2, abs=1e-6)

    def test_a_current_rating_as_a_polygon(self):
        """At the held substation |V| is exactly 1; its side lies at cos(pi / 32) of the circle."""
        network = exporting(rating=[0.2], v_min=[0.8, 1.0], v_max=[1.3, 1.03])
        model = solved(network, "linear", objective=lambda m: energy_price(m, 10.0))
        assert model.p_gen[0, 0].value == pytest.approx(0.2 * np.cos(np.pi / 32))

    @pytest.mark.parametrize(
        ("form", "share"), [("exact", 1.0), ("soc", 1.0), ("linear", np.cos(np.pi / 32))]
    )
    def test_an_apparent_power_limit_holds_at_the_sending_end(self, form, share):
        model = solved(exporting(s_max=[0.2]), form, objective=lambda m: energy_price(m, 10.0))
        assert model.p_gen[0, 0].value == pytest.approx(0.2 * share, abs=1e-6)

    @pytest.mark.parametrize("form", ["exact", "linear"])
    def test_an_angle_limit(self, form):
        """The generator's bus may lead by 0.02 rad over r = x = 0.1, which limits its power."""
        network = exporting(x=[0.1], angle_min=[-0.02])
        model = solved(network, form, objective=lambda m: energy_price(m, 10.0))
        p = network.p_load - np.array([0.0, model.p_gen[0, 0].value])
        lead = np.angle(solve_power_flow(network, p).voltage)[1]
        assert 0.1 < model.p_gen[0, 0].value < 0.9
        assert lead == pytest.approx(0.02, abs=1e-7 if form == "exact" else 3e-5)

    def test_a_voltage_limit_curtails(self):
        """1.02 pu at most: 0.204 of 1 MW."""
        model = solved(
            exporting(v_max=[1.3, 1.02]), "exact", objective=lambda m: energy_price(m, 10.0)
        )
        assert model.p_gen[0, 0].value == pytest.approx(0.204, abs=1e-6)

    def test_a_rating_counts_charging_at_the_end_where_it_flows(self):
        """With 0.1 of charging at the to end, the AC end current meets the rating."""
        network = exporting(rating=[0.2], b_to=[0.1], x=[0.05])
        model = solved(network, "exact", objective=lambda m: energy_price(m, 10.0))
        flow = solve_power_flow(network, -np.array([0.0, model.p_gen[0, 0].value]))
        assert flow.loading[0] == pytest.approx(1.0, abs=1e-6)


@cache
def with_everything() -> Network:
    """ieee33 with taps, shifts, charging, conductance and shunts; half the lines are reversed.

    A tie hangs from either end.
    """
    feeder = load_network("ieee33")
    rng = np.random.default_rng(5)
    m, n = feeder.n_branch, feeder.n_bus
    turned = rng.random(m) < 0.5
    hanging = np.zeros(m, dtype=np.int64)
    hanging[np.flatnonzero(feeder.is_tie)[:2]] = [1, 2]
    return feeder.with_changes(
        from_bus=np.where(turned, feeder.to_bus, feeder.from_bus),
        to_bus=np.where(turned, feeder.from_bus, feeder.to_bus),
        tap=rng.uniform(0.99, 1.01, m),
        shift=rng.uniform(-0.1, 0.1, m),
        g_from=rng.uniform(0, 0.002, m),
        b_from=rng.uniform(0, 0.01, m),
        g_to=rng.uniform(0, 0.002, m),
        b_to=rng.uniform(0, 0.01, m),
        g_shunt=rng.uniform(0, 0.002, n),
        b_shunt=rng.uniform(-0.01, 0.01, n),
        open_end=hanging,
        p_gen=np.where(rng.random(n) < 0.2, 0.01, 0.0),
        v_min=np.full(n, 0.7),
        v_max=np.full(n, 1.3),
    )


def test_exact_is_the_ac_power_flow_with_taps_shunts_and_charging():
    network = with_everything()
    model, flow = solved(network, "exact"), solve_power_flow(network)

    np.testing.assert_allclose(voltage(model)[0], np.abs(flow.voltage), atol=1e-9)
    np.testing.assert_allclose(values(model.P), flow.s_from.real[network.closed], atol=1e-8)
    np.testing.assert_allclose(values(model.Q), flow.s_from.imag[network.closed], atol=1e-8)
    np.testing.assert_allclose(values(model.P_to), flow.s_to.real[network.closed], atol=1e-8)
    np.testing.assert_allclose(values(model.Q_to), flow.s_to.imag[network.closed], atol=1e-8)
    assert network.base_mva * model.p_substation[0, 0].value == pytest.approx(
        flow.p_substation_mw[0], abs=1e-7
    )
    assert pyo.value(model.objective) == pytest.approx(flow.loss_mw, abs=1e-7)


@pytest.mark.parametrize("name", list_networks())
def test_the_cone_is_tight_on_passive_feeders(name):
    """The relaxed optimum of losses is the AC loss; cones of a resistance are equations."""
    network = load_network(name)
    network = network.with_changes(v_min=np.full(network.n_bus, 0.8), p_gen=np.zeros(network.n_bus))
    model, flow = solved(network, "soc", "ipopt"), solve_power_flow(network)

    assert pyo.value(model.objective) == pytest.approx(float(flow.loss_mw), abs=1e-6)
    np.testing.assert_allclose(voltage(model)[0], np.abs(flow.voltage), atol=1e-7)
    assert np.abs(cone_gap(model)).max() < 1e-5

    solve(model, "ipopt", options={"tol": 1e-10, "bound_relax_factor": 0.0})
    assert np.abs(cone_gap(model)).max() < 1e-7
    assert pyo.value(model.objective) == pytest.approx(float(flow.loss_mw), abs=2e-8)


def test_the_gap_says_nothing_of_a_branch_without_resistance():
    """The first branch of cigre_lv18 holds current in excess that loses nothing."""
    network = load_network("cigre_lv18")
    network = network.with_changes(v_min=np.full(network.n_bus, 0.8), p_gen=np.zeros(network.n_bus))
    model = solved(network, "soc")
    (b,) = np.flatnonzero(network.closed & (network.r == 0))

    assert -pyo.value(model.cone[0, b].body) > 1e-4
    assert cone_gap(model)[0, b] == 0.0


@pytest.mark.parametrize(
    "name", ["ieee33", "bus69", "cigre_lv18", "caracas141", "mantovani136", "kraftringen533"]
)
def test_linear_voltages_are_never_below_ac_ones_on_passive_feeders(name):
    network = load_network(name)
    network = network.with_changes(
        v_min=np.full(network.n_bus, 0.5),
        p_gen=np.zeros(network.n_bus),
        rating=np.full(network.n_branch, np.inf),
    )
    model = build_distflow_opf(
        network, "linear", p_load=1.2 * network.p_load, objective=lambda m: energy_price(m, 1.0)
    )
    solve(model, "highs")
    flow = solve_power_flow(network, 1.2 * network.p_load)
    assert (voltage(model)[0] >= np.abs(flow.voltage) - 1e-9).all()


def test_ipopt_and_scip_agree_on_the_cone():
    network = load_network("ieee33")
    network = network.with_changes(v_min=np.full(network.n_bus, 0.8))
    losses = [pyo.value(solved(network, "soc", solver).objective) for solver in ("ipopt", "scip")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def dispatched() -> Network:
    """ieee33 within 0.95..1.05 pu: a priced substation and two generators that compete with it."""
    feeder = load_network("ieee33")
    return feeder.with_changes(
        v_min=np.full(33, 0.95), v_max=np.full(33, 1.05), gen_name=("slack", "g18", "g33"), gen_bus=[0, 17, 32],
        gen_is_grid=[True, False, False],
        gen_p_min=[0, 0, 0], gen_p_max=[1.0, 0.1, 0.15], gen_q_min=[-1, -0.05, -0.05], gen_q_max=[1, 0.05, 0.05],
        gen_cost=[[0.5, 30, 0], [2.0, 30, 1], [3.0, 28, 1]], s_max=np.full(feeder.n_branch, 0.4),
    )  # fmt: skip


def test_a_relaxation_costs_no_more_and_the_power_flow_confirms_the_dispatch():
    network = dispatched()
    exact, soc = solved(network, "exact"), solved(network, "soc")
    p, q = network.p_load.copy(), network.q_load.copy()
    for g, bus in enumerate(network.gen_bus[1:], start=1):
        p[bus] -= exact.p_gen[0, g].value
        q[bus] -= exact.q_gen[0, g].value
    held = network.with_changes(v_substation=voltage(exact)[0, :1].astype(complex))
    flow = solve_power_flow(held, p, q)

    assert pyo.value(soc.objective) <= pyo.value(exact.objective) + 1e-6
    assert cone_gap(soc).max() < 1e-6  # hence equal here
    assert pyo.value(soc.objective) == pytest.approx(pyo.value(exact.objective), rel=1e-7)
    np.testing.assert_allclose(np.abs(flow.voltage), voltage(exact)[0], atol=1e-8)
    assert flow.s_from[0].real == pytest.approx(exact.p_gen[0, 0].value, abs=1e-7)
    assert np.abs(flow.voltage).min() > 0.95 - 1e-6 and np.abs(flow.voltage).max() < 1.05 + 1e-6
    assert np.maximum(np.abs(flow.s_from), np.abs(flow.s_to)).max() < 0.4 + 1e-6


def test_excess_current_shows_where_losing_pays():
    """At 1.02 pu and a negative price, soc burns in its cone what exact cannot."""
    price = {"objective": lambda m: energy_price(m, -10.0)}
    network = exporting(v_max=[1.3, 1.02])
    soc, exact = (
        build_distflow_opf(network.with_changes(gen_p_min=[0.1]), form, **price)
        for form in ("soc", "exact")
    )
    assert solve(soc).objective < solve(exact).objective - 1e-3
    assert cone_gap(soc).max() > 1e-3
    assert cone_gap(exact).max() < 1e-7


@pytest.mark.parametrize("form", FORMS)
def test_names_are_the_same_in_every_form(form):
    model = build_distflow_opf(dispatched(), form)
    for name in (
        "time",
        "bus",
        "branch",
        "gen",
        "substation",
        "battery",
        "p_gen",
        "q_gen",
        "p_substation",
        "q_substation",
        "w",
        "P",
        "Q",
        "P_to",
        "Q_to",
        "ell",
        "loss",
        "p_charge",
        "p_discharge",
        "soc",
        "active_balance",
        "reactive_balance",
        "voltage_drop",
        "current_limit",
        "power_limit",
        "angle_limit",
        "soc_balance",
        "soc_final",
        "battery_power",
        "objective",
    ):
        assert model.find_component(name) is not None, name


@pytest.mark.parametrize("form", FORMS)
def test_a_user_adds_a_constraint(form):
    """The substation may give no more than 2 MW, less than it would: generators give the rest."""
    model = build_distflow_opf(dispatched(), form)
    model.import_limit = pyo.Constraint(expr=model.p_gen[0, 0] <= 0.2)
    solve(model, "ipopt")
    assert model.p_gen[0, 0].value == pytest.approx(0.2, abs=1e-6)


def test_substations_each_hold_their_tree():
    """Two rows of two buses, the second at 1.02 pu."""
    network = row(
        [0.1, 0.1, 0.1],
        [0.475, 0.0, 0.0],
        substation=[0, 3],
        v_substation=[1.0, 1.02],
        closed=[1, 0, 1],
    )
    model = solved(network, "exact")
    assert voltage(model)[0] == pytest.approx([1.0, 0.95, 1.02, 1.02])
    assert values(model.p_substation) == pytest.approx([0.5, 0.0], abs=1e-7)


def test_the_exact_form_starts_from_the_relaxed_answer():
    network = dispatched()
    soc, exact = solved(network, "soc"), build_distflow_opf(network, "exact")
    start_from(exact, soc)
    assert values(exact.ell) == pytest.approx(values(soc.ell))
    assert solve(exact, options=NEAR_START).objective == pytest.approx(
        pyo.value(soc.objective), rel=1e-6
    )

    batteries = Batteries.at(network, ["18"], p_max_mw=0.1, energy_mwh=0.2)
    with pytest.raises(ValueError, match=r"p_charge\[0,0\] has no value in .*give a solved model"):
        start_from(build_distflow_opf(network, "exact", batteries=batteries), soc)


def test_exact_agrees_with_the_polar_ac_opf():
    network = dispatched()
    polar = build_ac_opf(network, "polar")
    assert solve(polar).objective == pytest.approx(
        pyo.value(solved(network, "exact").objective), rel=1e-7
    )


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(
        ValueError, match="unknown form 'cone' of DistFlow; use one of exact, soc, linear"
    ):
        build_distflow_opf(row([0.1], [0.1]), "cone")
    feeder = load_network("ieee33")
    with pytest.raises(NetworkError, match="closed branch '33' closes a loop"):
        build_distflow_opf(feeder.with_changes(closed=np.ones(feeder.n_branch, dtype=bool)))
