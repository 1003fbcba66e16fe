"""The safety layer in torch: its projections, their gradients, and its decisions timed.

What it answers is tested in tests/models/safe_powers/test_nearest.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import power_interval
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safe_powers import nearest
from feederguard.models.safety_qp.projection import FAILED
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.rules import band_excess
from feederguard.studies.benchmarks.safety_items import benchmark_feeder, draw_items
from feederguard.studies.benchmarks.safety_layer import time_decisions


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


def test_decisions_say_whose_they_are(tmp_path, monkeypatch):
    """Decisions are timed over all states and over those outside the limits.

    A folder without the trained agent gives an untrained one that says so.
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
        """It follows to second order in the correction.

        Where one linearisation is not enough, the difference is below a hundredth of p_max.
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
        """The difference is what the linearisation itself moves.

        That is a few thousandths in the middle, and at most 0.22 to 0.40 of the mean.
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
        """The first item has no AC flow whatever its batteries do; the second is only corrected."""
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
        """A projection that fails leaves the proposal: gradient 1 where uncut, 0 where cut.

        None of these fails by itself, so the test makes them fail.
        """
        state, power = drawn(layer, 40, seed=3)
        lost = np.flatnonzero(layer.correct(state, power).words == "corrected")[:3]
        real = nearest.project

        def failing(*arguments):
            answer = real(*arguments)
            answer.a[:] = np.nan
            answer.status[:] = FAILED
            return answer

        monkeypatch.setattr(nearest, "project", failing)
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
        """A tube that asks for charging makes the projection constant.

        Proposals to discharge then change nothing.
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
