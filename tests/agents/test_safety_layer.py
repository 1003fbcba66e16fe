"""The safety layer: nearest, safe by the AC flow, honest where it cannot be; and its gradient."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch

from feederguard.agents import safety_layer
from feederguard.agents.safety_layer import SafetyLayer
from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import power_interval
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safe_powers.answers import STATUSES
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.safety_qp.projection import FAILED, SLACK, project
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.rules import band_excess
from feederguard.studies.benchmarks.safety_layer import (
    REFERENCE_RHO,
    SAG_LOADS,
    SAG_PROPOSALS,
    active,
    benchmark_feeder,
    deep_sag,
    draw_items,
    solve_by_daqp,
    solve_by_highs,
    time_decisions,
)


@pytest.fixture(scope="module")
def layer():
    return SafetyLayer(*benchmark_feeder())


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
        """From the answer, no short way towards the proposal is safe; and 300 random safe actions
        are all farther.
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

    def test_few_items_have_the_flows_of_many(self, layer):
        """The short way to the kernel is the same kernel, to the last bit, with the same limits; no
        solution is NaN.
        """
        state, power = drawn(layer, 5)
        p = state.p_net + power @ layer._drawn / layer.batteries.p_max[0]
        p[4] *= 1e3
        found = layer._voltages(p, state.q_net)
        np.testing.assert_array_equal(
            found, solve_power_flow(layer.network, p, state.q_net).voltage
        )
        assert np.isnan(found[4]).all() and np.isfinite(found[:4]).all()
        known = inspect.signature(solve_power_flow).parameters
        assert known["tolerance_mva"].default == safety_layer.FLOW_TOLERANCE_MVA
        assert known["max_iterations"].default == safety_layer.FLOW_ITERATIONS

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
    """The margin is that of the idle feeder: enough for small powers, not for the losses that
    charging adds.
    """
    sag = deep_sag(load, SAG_PROPOSALS[name])
    assert sag.layer_excess_pu <= 1e-5 and sag.layer_certified
    if name != "charging":
        assert sag.derived_excess_pu <= 1e-5
    elif load <= 1.0:
        assert sag.derived_excess_pu > 1e-3 and sag.published_excess_pu > 1e-3


def test_decisions_say_whose_they_are(tmp_path, monkeypatch):
    """Over all states and over those outside; a folder without the trained agent gives an untrained
    one that says so.
    """
    from feederguard.studies.benchmarks import safety_layer as benchmark_safety_layer

    real = benchmark_safety_layer.load_voltage_case

    def few(feeder, weeks):
        case = real(feeder, weeks)
        return replace(case, days=case.days[:: 130 if weeks == "train" else 45])

    monkeypatch.setattr(benchmark_safety_layer, "load_voltage_case", few)
    whole, outside = time_decisions("cigre_lv18", tmp_path / "none")
    assert "all test states" in whole[0] and "idle feeder outside" in outside[0]
    for _, value, note in (whole, outside):
        assert "median" in value and "p99" in value
        assert (
            note.startswith(f"UNTRAINED: no df_srl in {tmp_path / 'none'}")
            and "100% certified" in note
        )
    assert (
        int(whole[2].split("; ")[1].split()[0])
        == 3 * 96
        > int(outside[2].split("; ")[1].split()[0])
        > 0
    )
    assert not (tmp_path / "none").exists()


class TestProject:
    def test_gradcheck(self, layer):
        state, power = drawn(layer, 20, seed=4)
        proposed = torch.tensor(power, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda x: layer.project(state, x), (proposed,), eps=1e-8, atol=1e-5
        )

    def test_torch_and_numpy_agree_and_keep_the_kind(self, layer):
        state, power = drawn(layer, 20)
        answer, status = layer.project_batch(state, power)
        single = layer.project(state, torch.tensor(power, dtype=torch.float32))

        assert single.dtype == torch.float32
        assert single.numpy() == pytest.approx(answer, abs=1e-8)
        assert (status < 3).all()

    def test_at_the_ac_state_it_follows_what_is_carried_out(self, layer):
        """To second order in the correction: within a hundredth of p_max where one linearisation is
        not the last word.
        """
        state, power = drawn(layer, 100, seed=2)
        found = layer.project_ac(state, torch.tensor(power)).numpy()
        done = layer.correct(state, power)
        assert (done.words == "corrected").mean() > 0.3
        assert np.abs(found - done.p).max() < 1e-2 * layer.batteries.p_max[0]
        linear = layer.project(state, torch.tensor(power)).numpy()
        assert np.abs(found - done.p).mean() < 0.1 * np.abs(linear - done.p).mean()

    @pytest.mark.parametrize(("seed", "least_correlation"), [(5, 0.999), (6, 0.999), (7, 0.998)])
    def test_its_gradient_at_the_ac_state_is_that_of_finite_differences(
        self, layer, seed, least_correlation
    ):
        """But for what the linearisation itself moves: a few thousandths in the middle, 0.22 to
        0.40 of the mean at most.
        """
        state, power = drawn(layer, 60, seed)
        rng = np.random.default_rng(0)
        along, weight = rng.normal(size=power.shape), torch.tensor(rng.normal(size=power.shape))
        proposed = torch.tensor(power, requires_grad=True)
        (layer.project_ac(state, proposed) * weight).sum().backward()
        by_gradient = (proposed.grad.numpy() * along).sum(axis=1)
        step = 1e-6 * layer.batteries.p_max[0]
        up, down = (layer.project_ac(state, torch.tensor(power + s * along)) for s in (step, -step))
        by_difference = ((up - down) * weight).sum(dim=1).numpy() / (2 * step)
        moved = (layer.correct(state, power).words == "corrected").mean()
        assert moved > 0.3
        assert np.corrcoef(by_gradient, by_difference)[0, 1] > least_correlation
        error, scale = np.abs(by_gradient - by_difference), np.abs(by_difference).mean()
        assert np.median(error) < 0.005 * scale
        assert np.quantile(error, 0.9) < 0.05 * scale and error.max() < 0.5 * scale

    def test_without_an_ac_solution_it_answers_as_correct_does_and_counts(self):
        """The first item has no AC flow whatever its batteries do, the second is one that is merely
        corrected.
        """
        network = load_network("ieee33")
        batteries = Batteries.at(network, ["18", "33"], 2.0, 8.0)
        layer = SafetyLayer(network, batteries)
        scale = np.array([[5.0], [1.3]])
        p, q = scale * network.p_load, scale * network.q_load
        v = np.abs(solve_power_flow(network, p, q).voltage)
        state = VoltageState(p, q, v, np.full((2, 2), 0.5), np.zeros(2, dtype=np.int64))
        proposed = torch.zeros((2, 2), dtype=torch.float64, requires_grad=True)
        found = layer.project_ac(state, proposed)
        found.sum().backward()
        done = layer.correct(state, np.zeros((2, 2)))

        assert layer.fallbacks == 1
        assert list(done.certified) == [False, True] and done.words[1] == "corrected"
        assert found[0].detach().numpy() == pytest.approx(done.p[0], abs=1e-12)
        assert (
            np.isfinite(found.detach().numpy()).all() and np.isfinite(proposed.grad.numpy()).all()
        )
        alone = layer.project_ac(state[1:], torch.zeros((1, 2), dtype=torch.float64))
        assert torch.equal(found[1], alone[0]) and layer.fallbacks == 1

    def test_where_the_cut_proposal_is_less_unsafe_its_gradient_is_that_of_the_cut(
        self, layer, monkeypatch
    ):
        """A projection that fails, as none of these do, leaves the proposal: 1 where uncut, 0 where
        cut.
        """
        state, power = drawn(layer, 40, seed=3)
        lost = np.flatnonzero(layer.correct(state, power).words == "corrected")[:3]
        real = safety_layer.project

        def failing(*arguments):
            answer = real(*arguments)
            answer.a[:] = np.nan
            answer.status[:] = FAILED
            return answer

        monkeypatch.setattr(safety_layer, "project", failing)
        fresh = SafetyLayer(layer.network, layer.batteries)
        wide = 40.0 * power[lost]
        proposed = torch.tensor(wide, requires_grad=True)
        answer = fresh.project_ac(state[lost], proposed)
        answer.sum().backward()
        low, high = power_interval(layer.batteries, state.soc[lost], 0.25)
        assert fresh.fallbacks == 3
        np.testing.assert_allclose(answer.detach().numpy(), np.clip(wide, low, high), rtol=1e-12)
        np.testing.assert_array_equal(
            proposed.grad.numpy(), ((wide > low) & (wide < high)).astype(float)
        )
        assert proposed.grad.any() and (proposed.grad == 0).any()

    def test_the_gradient_is_zero_where_the_tube_cuts(self, layer):
        """A tube that asks for charging makes the projection constant: proposals to discharge
        change nothing.
        """
        n = len(layer.batteries)
        tube = SocTube(np.full((97, n), 0.9), np.ones((97, n)))
        state, power = drawn(layer, 5)
        proposed = torch.tensor(-np.abs(power), requires_grad=True)
        tubed = SafetyLayer(layer.network, layer.batteries, 0.25, tube)
        tubed.project(state, proposed).sum().backward()
        answer, status = tubed.project_batch(state, -np.abs(power))
        cut = (status == 0)[:, None] & (answer > -np.abs(power))
        assert cut.any()
        assert (proposed.grad.numpy()[cut] == 0.0).all()


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
            SafetyLayer(layer.network, layer.batteries, rounds=-1)
        with pytest.raises(ValueError, match="tube is of 2 batteries"):
            SafetyLayer(
                layer.network, layer.batteries, tube=SocTube(np.zeros((3, 2)), np.ones((3, 2)))
            )

    def test_a_step_outside_the_tube(self, layer):
        n = len(layer.batteries)
        short = SafetyLayer(
            layer.network, layer.batteries, tube=SocTube(np.zeros((3, n)), np.ones((3, n)))
        )
        state, power = drawn(layer, 3)
        late = VoltageState(state.p_net, state.q_net, state.v_idle, state.soc, np.array([0, 1, 2]))
        with pytest.raises(ValueError, match="step 2 lies outside the 2 steps"):
            short.correct(late, power)

    def test_without_an_idle_solution_the_layer_still_answers(self):
        network = load_network("ieee33")
        batteries = Batteries.at(network, ["18", "33"], 2.0, 8.0)
        layer = SafetyLayer(network, batteries)
        p, q = 5.0 * network.p_load[None], 5.0 * network.q_load[None]
        v = np.abs(solve_power_flow(network, p, q).voltage)
        state = VoltageState(p, q, v, np.full((1, 2), 0.5), np.zeros(1, dtype=np.int64))
        answer = layer.correct(state, np.zeros((1, 2)))

        assert not answer.certified[0] and np.isfinite(answer.p).all()
        assert answer.words[0] in ("slack_used", "failed")


def test_what_the_layer_answers_to_states_is_what_highs_answers_on_the_pyomo_model():
    """States in, some of which no action holds: limits, margin and intervals are the layer's own;
    its price is HiGHS's.
    """
    network, batteries = benchmark_feeder()
    # (7) of `safety_qp.py` the other way round: the tolerance whose price HiGHS stands.
    layer = SafetyLayer(
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
    """HiGHS on the Pyomo model where it answers, DAQP on the feasible ones: 1e-7; a third active,
    some infeasible.
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
