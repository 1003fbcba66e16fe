"""The nearest safe powers: safe by the AC flow, and honest where none are.

answers.py is tested here, and so is search.py.
"""

from dataclasses import replace

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import power_interval
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safe_powers import STATUSES, SafePowers
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.safety_qp.projection import SLACK, project
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.rules import band_excess
from feederguard.studies.benchmarks.deep_sag import SAG_LOADS, SAG_PROPOSALS, deep_sag
from feederguard.studies.benchmarks.safety_items import (
    REFERENCE_RHO,
    active,
    benchmark_feeder,
    draw_items,
    solve_by_daqp,
    solve_by_highs,
)


@pytest.fixture(scope="module")
def layer():
    return SafePowers(*benchmark_feeder())


def drawn(layer, n_item=200, seed=0, heavy=1.0):
    items = draw_items(layer.network, layer.batteries, layer.matrices, n_item, seed, heavy)
    return items.state, items.proposal * layer.batteries.p_max


def flow_excess(layer, state, power):
    p = state.p_net.copy()
    for k, bus in enumerate(layer.batteries.bus):
        p[:, bus] += power[:, k]
    return band_excess(
        layer.network, np.abs(solve_power_flow(layer.network, p, state.q_net).voltage)
    )


class TestCorrect:
    def test_every_answer_is_safe_by_an_independent_flow(self, layer):
        state, power = drawn(layer)
        answer = layer.correct(state, power)

        assert answer.certified.all()
        assert (flow_excess(layer, state, power) > 1e-5).mean() > 0.3  # the proposals were not
        assert flow_excess(layer, state, answer.p).max() <= 1e-5
        assert set(answer.words) == {"as_proposed", "corrected"}
        assert (answer.slack_pu == 0).all()

    def test_a_safe_proposal_stays_as_it_is(self, layer):
        state, power = drawn(layer)
        answer = layer.correct(state, power)
        safe = flow_excess(layer, state, power) <= 1e-5

        assert safe.any()
        assert answer.p[safe] == pytest.approx(power[safe], abs=1e-12)
        assert (answer.status[safe] == STATUSES.index("as_proposed")).all()

    def test_it_is_the_nearest_safe_action(self, layer):
        """From the answer, no short step towards the proposal is safe.

        300 random safe actions are all farther.
        """
        state, power = drawn(layer, 60)
        answer = layer.correct(state, power)
        moved = np.flatnonzero(answer.words == "corrected")
        part, wanted, got = state[moved], power[moved], answer.p[moved]
        nearer = got + 0.02 * (wanted - got)
        far_enough = np.abs(wanted - got).max(axis=1) > 1e-3 * layer.batteries.p_max[0]
        assert (flow_excess(layer, part, nearer)[far_enough] > 0).all()

        rng = np.random.default_rng(0)
        distance = ((got - wanted) ** 2).sum(axis=1)
        for _ in range(300):
            other = got + rng.normal(0, 0.02, got.shape) * layer.batteries.p_max * rng.choice(
                [0.1, 1.0]
            )
            other = np.clip(other, -layer.batteries.p_max, layer.batteries.p_max)
            closer = ((other - wanted) ** 2).sum(axis=1) < distance - 1e-5 * layer.batteries.p_max[
                0
            ] ** 2
            assert (flow_excess(layer, part, other)[closer] > -1e-6).all()

    def test_soc_limits_are_kept(self, layer):
        state, power = drawn(layer, 50)
        empty = VoltageState(
            state.p_net, state.q_net, state.v_idle, np.zeros_like(state.soc), state.step
        )
        assert (layer.correct(empty, power).p >= 0).all()

    def test_what_nothing_can_hold_is_said(self, layer):
        state, power = drawn(layer, 30, heavy=6.0)
        answer = layer.correct(state, power)
        lost = ~answer.certified

        assert lost.any()
        assert set(answer.words[lost]) <= {"slack_used", "failed"}
        assert (answer.slack_pu[answer.words == "slack_used"] > 0).all()
        assert np.isfinite(answer.p).all()
        excess = flow_excess(layer, state, answer.p)
        assert ((excess <= 1e-5) == answer.certified).all()

    def test_a_batch_is_its_items(self, layer):
        state, power = drawn(layer, 12)
        whole = layer.correct(state, power)
        for k in range(12):
            one = layer.correct(state[k : k + 1], power[k : k + 1])
            assert one.p[0] == pytest.approx(whole.p[k], abs=1e-9)
            assert one.status[0] == whole.status[k]


def test_the_published_margin_fails_at_deep_sag_and_ours_does_not():
    sag = deep_sag()
    assert sag.lindistflow_error_pu > 0.002
    assert sag.published_excess_pu > 1e-3
    assert sag.derived_excess_pu <= 1e-5  # one projection against one, with the margin derived
    assert sag.layer_excess_pu <= 1e-5 and sag.layer_certified


@pytest.mark.parametrize("load", SAG_LOADS)
@pytest.mark.parametrize("name", SAG_PROPOSALS)
def test_the_layer_holds_the_band_where_charging_breaks_the_derived_margin(load, name):
    """The margin is that of the idle feeder.

    It is enough for small powers, but not for the losses that charging adds.
    """
    sag = deep_sag(load, SAG_PROPOSALS[name])
    assert sag.layer_excess_pu <= 1e-5 and sag.layer_certified
    if name != "charging":
        assert sag.derived_excess_pu <= 1e-5
    elif load <= 1.0:
        assert sag.derived_excess_pu > 1e-3 and sag.published_excess_pu > 1e-3


class TestBadInput:
    def test_named(self, layer):
        state, power = drawn(layer, 3)
        broken = power.copy()
        broken[1, 2] = np.nan
        with pytest.raises(ValueError, match="p_proposed of battery 'R3' in item 1 is nan"):
            layer.correct(state, broken)
        with pytest.raises(ValueError, match="p_proposed has shape"):
            layer.correct(state, power[:, :4])
        with pytest.raises(ValueError, match="rounds of the safety layer is -1"):
            SafePowers(layer.network, layer.batteries, rounds=-1)
        with pytest.raises(ValueError, match="tube is of 2 batteries"):
            SafePowers(
                layer.network, layer.batteries, tube=SocTube(np.zeros((3, 2)), np.ones((3, 2)))
            )

    def test_a_step_outside_the_tube(self, layer):
        n = len(layer.batteries)
        short = SafePowers(
            layer.network, layer.batteries, tube=SocTube(np.zeros((3, n)), np.ones((3, n)))
        )
        state, power = drawn(layer, 3)
        late = VoltageState(state.p_net, state.q_net, state.v_idle, state.soc, np.array([0, 1, 2]))
        with pytest.raises(ValueError, match="step 2 lies outside the 2 steps"):
            short.correct(late, power)

    def test_without_an_idle_solution_the_layer_still_answers(self):
        network = load_network("ieee33")
        batteries = Batteries.at(network, ["18", "33"], 2.0, 8.0)
        layer = SafePowers(network, batteries)
        p, q = 5.0 * network.p_load[None], 5.0 * network.q_load[None]
        v = np.abs(solve_power_flow(network, p, q).voltage)
        state = VoltageState(p, q, v, np.full((1, 2), 0.5), np.zeros(1, dtype=np.int64))
        answer = layer.correct(state, np.zeros((1, 2)))

        assert not answer.certified[0] and np.isfinite(answer.p).all()
        assert answer.words[0] in ("slack_used", "failed")


def test_what_the_layer_answers_to_states_is_what_highs_answers_on_the_pyomo_model():
    """Limits, margin and intervals are the layer's own, and the objective is that of HiGHS.

    No action holds some of the states.
    """
    network, batteries = benchmark_feeder()
    # (7) of `safety_qp/statement.py` the other way round: the tolerance whose price HiGHS stands.
    layer = SafePowers(
        network,
        batteries,
        tolerance_pu=4 * len(batteries) / (2 * network.v_min.min() * REFERENCE_RHO),
    )
    assert layer.matrices.rho == pytest.approx(REFERENCE_RHO)
    items = draw_items(network, batteries, layer.matrices, 60, seed=1, heavy=2.5)
    found, status = layer.project_batch(items.state, items.proposal * batteries.p_max)
    low, high = power_interval(batteries, items.state.soc, 0.25)
    asked = replace(items, lo=low / batteries.p_max, hi=high / batteries.p_max)
    by_highs = {k: solve_by_highs(network, batteries, asked, k) for k in range(60)}
    answered = [k for k, a in by_highs.items() if a is not None]

    assert (
        len(answered) > 50
        and (status[answered] == SLACK).sum() > 5
        and (status[answered] != SLACK).sum() > 5
    )
    for k in answered:
        assert np.abs(by_highs[k] - found[k] / batteries.p_max).max() < 1e-7


@pytest.mark.slow
def test_two_thousand_projections_equal_independent_solvers():
    """The solvers are HiGHS on the Pyomo model where it answers, and DAQP on the feasible items.

    They agree to 1e-7. A third of the projections are active, and some infeasible.
    """
    daqp = pytest.importorskip("daqp")
    assert daqp is not None
    network, batteries = benchmark_feeder()
    matrices = safety_matrices(network, batteries, rho=REFERENCE_RHO)
    items = draw_items(network, batteries, matrices, 2000, seed=1, heavy=2.5)
    answer = project(
        items.proposal,
        items.lo,
        items.hi,
        matrices.columns,
        items.low,
        items.high,
        0.5 * matrices.rho,
    )
    assert (
        active(answer).mean() >= 0.3 and (answer.status == SLACK).any() and not answer.failed.any()
    )
    answered = slack_by_highs = 0
    for k in range(2000):
        by_highs = solve_by_highs(network, batteries, items, k)
        slack_by_highs += by_highs is not None and answer.status[k] == SLACK
        for reference in (
            by_highs,
            None if answer.status[k] == SLACK else solve_by_daqp(items, k, matrices),
        ):
            if reference is not None:
                answered += 1
                assert np.abs(reference - answer.a[k]).max() < 1e-7
    assert answered > 2500
    assert slack_by_highs > 0.5 * (answer.status == SLACK).sum() > 50
