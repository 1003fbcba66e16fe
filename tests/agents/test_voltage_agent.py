"""Learned voltage regulation on a toy of three buses.

Tested are what it learns and stores, its seed, its file, and what it refuses.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

import feeders
from feederguard.agents.environments.voltage_observation import observe, read_observations
from feederguard.agents.learning.checkpoint import CheckpointError, save_checkpoint
from feederguard.agents.learning.td3 import TD3Config
from feederguard.agents.safety_layer import SafetyLayer
from feederguard.agents.voltage_agent import (
    EXCESS_SCALE,
    VoltageAgent,
    VoltageAgentConfig,
    append_excess,
)
from feederguard.baselines.voltage.no_control import NoControl
from feederguard.baselines.voltage.optimum import VoltageOpf
from feederguard.models.battery import Batteries
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safe_powers.answers import STATUSES
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageDays, VoltageState, simulate
from feederguard.models.voltage_regulation.demand import battery_demand

QUICK = VoltageAgentConfig(
    TD3Config(
        hidden=(32, 32), batch=64, warmup=64, actor_rate=3e-3, critic_rate=3e-3, tau=0.05, gamma=0.0, noise=0.05,
        target_noise=0.0, marked_share=0.5,
    ),
    num_envs=32, episodes=640, learn_steps=4,
)  # fmt: skip


def feeder():
    """0 --r = 0.05-- 1 --r = 0.05-- 2, and 0.6 of sunshine at both ends.

    Where half of it shines the voltage at the end is some 1.045 pu.
    """
    sunny = {"v_min": 0.95, "v_max": 1.05, "p_gen": [0, 0.6, 0.6]}
    return feeders.feeder("a:0-1 b:1-2", name="toy", r=0.05, x=0.0, **sunny)


def batteries():
    """At both buses, and so large that no day fills them: what they took in they may keep."""
    return Batteries([1, 2], 0.5, 50.0, soc_start=0.1, name=("one", "two"))


def days(n=40, seed=0):
    """Four steps of an hour, sunshine between 0.3 and 1: too high in most steps."""
    sun = np.random.default_rng(seed).uniform(0.3, 1.0, (n, 4, 1)) * np.array([0.0, 0.6, 0.6])
    return VoltageDays(0 * sun, 0 * sun, sun, 1.0, np.datetime64("2016-01-01") + np.arange(n))


@pytest.fixture(scope="module")
def trained():
    network, stores = feeder(), batteries()
    layer = SafetyLayer(network, stores, 1.0)
    return layer, *VoltageAgent.train(network, stores, days(), layer, QUICK)


class Idle:
    name = "idle"

    def __init__(self, layer):
        self.layer = layer

    def decide(self, state):
        return self.layer.correct(state, np.zeros((len(state), 2))).p


def test_df_srl_is_safe_all_the_time_and_learns_where_power_counts(trained):
    """The nearest safe action burdens both batteries; the least power is that of the far one."""
    layer, agent, record = trained
    network, stores, unseen = layer.network, layer.batteries, days(30, seed=1)
    assert agent.name == "df_srl" and record.steps == 640 * 4 and len(record.reward) == 640
    assert record.n_violation_steps.sum() == 0 and record.worst_excess_pu.max() <= 1e-5
    found = simulate(network, stores, unseen, agent)
    best = simulate(
        network, stores, unseen, VoltageOpf(network, stores, "ac_opf")
    ).regulation_mwh.sum()
    assert found.n_violation_steps.sum() == 0
    assert best <= found.regulation_mwh.sum() + 1e-6
    assert found.regulation_mwh.sum() < 1.05 * best
    assert simulate(network, stores, unseen, Idle(layer)).regulation_mwh.sum() > 1.15 * best


def test_td3_without_a_layer_breaks_the_band_while_it_learns():
    network, stores = feeder(), batteries()
    wild = replace(QUICK.learner, noise=0.2, redraw=0.1)
    agent, record = VoltageAgent.train(
        network,
        stores,
        days(),
        None,
        VoltageAgentConfig.unsafe(learner=wild, num_envs=32, episodes=640),
    )
    assert agent.name == "td3"
    assert record.n_violation_steps[:32].sum() > 32
    idle = simulate(network, stores, days(30, seed=1), NoControl())
    assert simulate(network, stores, days(30, seed=1), agent).reward.sum() > 0.5 * idle.reward.sum()


def test_the_record_says_what_the_layer_did(trained):
    """Each step of each day has a status.

    Most sunny steps are corrected, and none is without an answer.
    """
    _, _, record = trained
    assert record.statuses == STATUSES and (record.n_steps == 4).all()
    assert (record.status_steps.sum(axis=1) == record.n_steps).all()
    counts = record.status_counts
    assert counts["corrected"] > 640 and counts["as_proposed"] > 0
    assert counts["tube_left"] == counts["slack_used"] == counts["failed"] == 0 == record.fallbacks


def test_days_that_end_early_count_their_own_steps():
    """5 pu behind 0.1 of resistance has no solution: every other day ends in its third step."""
    network, stores = feeder(), batteries()
    load = np.zeros((2, 4, 3))
    load[1, 2, 2] = 5.0
    pool = VoltageDays(load, 0 * load, 0 * load, 1.0, np.datetime64("2016-01-01") + np.arange(2))
    short = replace(QUICK, num_envs=4, episodes=32)
    _, record = VoltageAgent.train(network, stores, pool, None, short)
    assert record.n_steps.sum() == record.steps == 32 * 4
    ended = record.n_steps[:-4]
    assert set(ended) == {3, 4} and (record.n_violation_steps[:-4][ended == 3] == 1).all()
    assert record.statuses == () and record.status_steps.shape == (len(record.reward), 0)


def test_without_a_layer_the_actor_learns_from_what_the_limits_leave():
    """An empty battery cannot discharge, and a cut-off action has no gradient.

    0.5 stands for no power.
    """
    network, stores = feeder(), batteries()
    agent, _ = VoltageAgent.train(
        network, stores, days(), None, replace(QUICK, num_envs=4, episodes=4)
    )
    soc = np.array([[0.0, 0.5], [1.0, 1.0 - 0.0095 * 0.5]])
    state = VoltageState(
        np.zeros((2, 3)), np.zeros((2, 3)), np.ones((2, 3)), soc, np.zeros(2, np.int64)
    )
    seen = torch.from_numpy(append_excess(network, stores, observe(network, stores, state, 4)))
    actions = torch.tensor([[0.1, 0.1], [0.9, 0.9]], requires_grad=True)
    done = agent.learner._project(seen, actions)
    done.sum().backward()
    # The room of the last one, 0.0095 / 2 of 50, is filled by 0.25 at an efficiency of 0.95: half
    # of p_max.
    assert done.detach().numpy() == pytest.approx(np.array([[0.5, 0.11], [0.5, 0.75]]), abs=1e-5)
    np.testing.assert_array_equal(actions.grad.numpy(), [[0.0, 1.0], [0.0, 0.0]])


def test_what_is_stored_is_what_the_grid_received(trained):
    """Every stored action, carried out in the state stored beside it, is inside the band."""
    layer, agent, _ = trained
    network, stores = layer.network, layer.batteries
    kept = agent.learner.memory.sample(500)
    state = read_observations(network, stores, kept.observations[:, :-2], 4)
    power = (2.0 * kept.actions - 1.0) * stores.p_max
    v = np.abs(
        solve_power_flow(
            network, state.p_net + battery_demand(network, stores, power), state.q_net
        ).voltage
    )
    assert v.min() > 0.95 - 1.1e-5 and v.max() < 1.05 + 1.1e-5
    np.testing.assert_allclose(kept.rewards, -np.abs(power).sum(axis=1), atol=2e-3)


@pytest.mark.newest
def test_one_seed_gives_the_same_numbers_twice():
    network, stores = feeder(), batteries()
    layer, short = SafetyLayer(network, stores, 1.0), replace(QUICK, episodes=64)
    (one, first), (two, second) = (
        VoltageAgent.train(network, stores, days(), layer, short) for _ in range(2)
    )
    np.testing.assert_array_equal(first.reward, second.reward)
    np.testing.assert_array_equal(first.regulation_kwh, second.regulation_kwh)
    unseen = days(3, seed=2)
    np.testing.assert_array_equal(
        simulate(network, stores, unseen, one).p_battery,
        simulate(network, stores, unseen, two).p_battery,
    )
    other = replace(short, learner=replace(short.learner, seed=1))
    assert (
        VoltageAgent.train(network, stores, days(), layer, other)[1].reward != first.reward
    ).any()


def test_the_policy_sees_how_far_the_idle_feeder_is_outside():
    """0.94 pu is 0.01 below a band of 0.05 either way: a fifth of it."""
    network, stores = feeder(), batteries()
    v = np.array([[1.0, 0.97, 0.94], [1.0, 1.0, 1.06]])
    state = VoltageState(
        np.zeros((2, 3)), np.zeros((2, 3)), v, np.full((2, 2), 0.5), np.zeros(2, np.int64)
    )
    observations = observe(network, stores, state, 4)
    seen = append_excess(network, stores, observations)
    np.testing.assert_array_equal(seen[:, :-2], observations)
    np.testing.assert_allclose(
        seen[:, -2:], [[0.0, -0.2 * EXCESS_SCALE], [0.0, 0.2 * EXCESS_SCALE]], atol=1e-5
    )


def test_a_saved_agent_decides_the_same(trained, tmp_path):
    layer, agent, _ = trained
    agent.save(tmp_path / "agent.safetensors")
    again = VoltageAgent.load(tmp_path / "agent.safetensors", layer.network, layer.batteries, layer)
    unseen = days(3, seed=3)
    outcomes = [
        simulate(layer.network, layer.batteries, unseen, one).p_battery for one in (agent, again)
    ]
    np.testing.assert_array_equal(*outcomes)
    assert again.name == "df_srl"


def test_an_agent_of_something_else_is_refused(trained, tmp_path):
    layer, agent, _ = trained
    path = tmp_path / "agent.safetensors"
    agent.save(path)
    with pytest.raises(
        CheckpointError, match="df_srl was trained behind a safety layer; load it with one"
    ):
        VoltageAgent.load(path, layer.network, layer.batteries)
    with pytest.raises(
        CheckpointError, match="trained for setting .*; train an agent for this setting"
    ):
        VoltageAgent.load(path, layer.network, Batteries([1, 2], 0.4, 50.0))
    with pytest.raises(
        CheckpointError, match="trained on feeder 'toy', which differs from this 'toy'"
    ):
        VoltageAgent.load(path, feeder().with_changes(r=[0.05, 0.06]), layer.batteries)
    with pytest.raises(
        ValueError,
        match="toy: the safety layer was made for toy with 2 batteries; make it for the same",
    ):
        VoltageAgent.train(feeder(), layer.batteries, days(), layer, QUICK)


def quarters(n=2, n_step=4):
    """Days of quarters of an hour."""
    zero = np.zeros((n, n_step, 3))
    return VoltageDays(zero, zero, zero, 0.25, np.datetime64("2016-01-01") + np.arange(n))


def test_steps_of_another_length_are_refused(trained, tmp_path):
    layer, agent, _ = trained
    network, stores, path = layer.network, layer.batteries, tmp_path / "agent.safetensors"
    of_quarters = SafetyLayer(network, stores, 0.25)
    with pytest.raises(
        ValueError,
        match="the safety layer was made for steps of 0.25 h, and the agent is of steps of 1 h",
    ):
        VoltageAgent.train(network, stores, days(), of_quarters, QUICK)
    with pytest.raises(
        ValueError,
        match="the safety layer was made for steps of 0.25 h, and the agent is of steps of 1 h",
    ):
        agent.with_layer(of_quarters, "other")
    agent.save(path)
    with pytest.raises(
        CheckpointError,
        match="agent.safetensors: toy: the safety layer was made for steps of 0.25 h",
    ):
        VoltageAgent.load(path, network, stores, of_quarters)
    alone = agent.with_layer(None, "alone")
    with pytest.raises(
        ValueError, match="toy: alone was made for steps of 1 h, and the days have steps of 0.25 h"
    ):
        simulate(network, stores, quarters(), alone)
    longer = days(2)
    doubled = [np.tile(getattr(longer, name), (1, 2, 1)) for name in ("p_load", "q_load", "p_gen")]
    with pytest.raises(
        ValueError,
        match="toy: alone was made for days of 4 steps, and these have 8; make it for days",
    ):
        simulate(network, stores, VoltageDays(*doubled, 1.0, longer.date), alone)


def test_an_agent_trained_inside_a_tube_is_loaded_inside_it(tmp_path):
    network, stores, path = feeder(), batteries(), tmp_path / "agent.safetensors"
    tubes = [SocTube(np.full((5, 2), low), np.ones((5, 2))) for low in (0.0, 0.05)]
    inside, other = (SafetyLayer(network, stores, 1.0, tube) for tube in tubes)
    outside = SafetyLayer(network, stores, 1.0)
    agent, _ = VoltageAgent.train(
        network, stores, days(), inside, replace(QUICK, num_envs=4, episodes=4)
    )
    # Taken off deliberately it is still known what the policy was trained in.
    agent.with_layer(outside, "df_srl").save(path)
    assert VoltageAgent.load(path, network, stores, inside).tube == agent.tube != ""
    for layer, what in ((outside, "none"), (other, "another")):
        with pytest.raises(
            CheckpointError,
            match=f"df_srl was trained inside a SOC tube and its layer has {what}; load it",
        ):
            VoltageAgent.load(path, network, stores, layer)
    taken_off = VoltageAgent.load(path, network, stores, inside).with_layer(
        outside, "df_srl_no_tube"
    )
    assert taken_off.layer is outside
    short = SafetyLayer(network, stores, 1.0, SocTube(np.zeros((4, 2)), np.ones((4, 2))))
    with pytest.raises(
        ValueError,
        match="has a SOC tube of 3 steps, and the agent's days have 4; compute the tube with",
    ):
        VoltageAgent.train(network, stores, days(), short, QUICK)


def test_a_file_that_does_not_say_its_tube_is_loaded_as_before(trained, tmp_path):
    """As agents were written before they said so."""
    layer, agent, _ = trained
    agent.save(tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", "pt") as kept:
        words = {
            name: text
            for name, text in kept.metadata().items()
            if name not in ("soc_tube", "tensors")
        }
    save_checkpoint(tmp_path / "old.safetensors", agent.learner.tensors(), words)
    tubed = SafetyLayer(
        layer.network, layer.batteries, 1.0, SocTube(np.zeros((5, 2)), np.ones((5, 2)))
    )
    for one in (layer, tubed):
        assert (
            VoltageAgent.load(
                tmp_path / "old.safetensors", layer.network, layer.batteries, one
            ).tube
            == ""
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "VoltageAgentConfig: episodes is 0; it must be at least 1"),
        ({"reward_scale": 0.0}, "VoltageAgentConfig: reward_scale is 0.0; it must be positive"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        VoltageAgentConfig(**changes)
