"""The learned method: a toy feeder solved through the environment, correction, seed, file."""

from dataclasses import replace

import numpy as np
import pytest

from feederguard.agents.ddpg_transfer import CURVE_BLOCKS, DdpgTransfer, DdpgTransferConfig, _curve
from feederguard.agents.learning.checkpoint import CheckpointError
from feederguard.agents.learning.td3 import TD3Config
from feederguard.models.load_transfer import Decisions, Setting, judge, make_scenarios
from feeders import feeder

# A few seconds of training: enough for one fault and two ties.
QUICK = DdpgTransferConfig(
    TD3Config.ddpg(hidden=(32, 32), batch=64, warmup=64, actor_rate=3e-3, critic_rate=3e-3, noise=0.3, redraw=0.2),
    steps=150, num_envs=64, learn_steps=2,
)  # fmt: skip
MESHED = Setting("meshed", False, 0.90, 1.10, active_limit_mw=2.0)
RADIAL = Setting("radial", True, 0.90, 1.05)


def toy(**changes):
    """A substation 0 that feeds 1 and 3; behind 1 lies 2, fed after a fault by one of two ties.

    Branch 3 is a short tie from 3 to 2. Branch 4, from 0 to 2, is so long that closing it breaks
    the lower limit. Nobody has to shed, so the best decision of the meshed setting is to close
    branch 3 alone: N = 1, cost 3.
    """
    values = {
        "name": "toy",
        "p_load": [0, 0.1, 0.3, 0.1],
        "r": [0.01, 0.01, 0.01, 0.01, 0.5],
        "x": [0.01, 0.01, 0.01, 0.01, 0.5],
        "rating": 5.0,
    }
    return feeder("0-1 1-2 0-3 3-2:3~2 0-2:0~2", **values | changes)


def pool(network, count=200, seed=0):
    """The second line fails, at demands between half and the nominal one."""
    level = np.random.default_rng(seed).uniform(0.5, 1.0, (count, 1))
    return make_scenarios(
        network, np.full(count, 1), level * network.p_load, level * network.q_load
    )


@pytest.fixture(scope="module")
def trained():
    network = toy()
    return network, DdpgTransfer.train(network, MESHED, pool(network), QUICK)


def test_learns_which_tie_to_close_and_to_shed_little(trained):
    """Closing nothing costs 22 (0.3 / 0.1)^2 = 198 at nominal demand; the best decision costs 3."""
    network, method = trained
    scenarios = pool(network, 100, seed=1)
    decisions = method.decide(scenarios)
    outcome = judge(network, scenarios, decisions, MESHED)
    assert outcome.safe.all()
    assert (decisions.closed[:, 3] & ~decisions.closed[:, 4]).all()
    assert outcome.cost.mean() < 5.0


def test_learns_the_keys_of_a_tree():
    """Radial: closing 3 and opening nothing else is the only cheap tree that keeps the voltage."""
    network = toy()
    method = DdpgTransfer.train(network, RADIAL, pool(network), QUICK)
    outcome = judge(
        network, pool(network, 100, seed=1), method.decide(pool(network, 100, seed=1)), RADIAL
    )
    assert outcome.safe.all()
    assert outcome.cost.mean() < 6.0


@pytest.mark.newest
def test_one_seed_gives_the_same_numbers_twice():
    network, short = toy(), replace(QUICK, steps=8)
    scenarios = pool(network, 20)
    first, second = (
        DdpgTransfer.train(network, MESHED, scenarios, short).learner.tensors() for _ in range(2)
    )
    other_seed = replace(short, learner=replace(short.learner, seed=1))
    third = DdpgTransfer.train(network, MESHED, scenarios, other_seed).learner.tensors()
    assert all((first[name] == second[name]).all() for name in first)
    assert any((first[name] != third[name]).any() for name in first)


class ShedHalf:
    """A correction that leaves switches alone and sheds at least half everywhere."""

    def correct(self, scenarios, decisions):
        return Decisions(decisions.closed, np.maximum(decisions.shed, 0.5))


@pytest.mark.parametrize("setting", [MESHED, RADIAL], ids=["meshed", "radial"])
def test_with_a_correction_memory_and_decisions_hold_the_corrected_action(setting):
    network = toy()
    method = DdpgTransfer.train(
        network, setting, pool(network), replace(QUICK, steps=5), ShedHalf()
    )
    remembered = method.learner.memory.sample(300).actions
    assert method.name == "ddpg_corrected"
    assert remembered[:, :3].min() == 0.5
    # A tie that follows its own number is 0 or 1; keys of a tree that nobody touched stay as sent.
    assert np.isin(remembered[:, 3:], (0.0, 1.0)).all() == (not setting.radial)
    assert method.decide(pool(network, 10)).shed[:, 1:].min() == 0.5


class CloseOtherTie:
    """A correction that replaces every tree by the one through branch 4."""

    def correct(self, scenarios, decisions):
        return Decisions(
            np.tile([True, False, True, False, True], (len(decisions), 1)), decisions.shed
        )


def test_a_tree_that_was_replaced_is_remembered_as_what_was_closed():
    network = toy()
    method = DdpgTransfer.train(
        network, RADIAL, pool(network), replace(QUICK, steps=5), CloseOtherTie()
    )
    switches = method.learner.memory.sample(300).actions[:, 3:]
    replaced = np.isin(switches, (0.0, 1.0)).all(axis=1)
    np.testing.assert_array_equal(
        np.unique(switches[replaced], axis=0), [[1.0, 0.0, 1.0, 0.0, 1.0]]
    )
    # Where the policy itself sent that tree its keys are kept: the dead branch 1 aside, key 4 above
    # key 3.
    assert (switches[~replaced, 4] >= switches[~replaced, 3]).all()


def test_rewards_reach_the_learner_between_nothing_and_the_best(trained):
    """(a): 0 for a broken limit, log((1 + 3)^-1 / (1 + 22 * 5^2)^-1) for the best.

    0.5 pu shed on 0.1 MVA costs 550.
    """
    _, method = trained
    rewards = method.learner.memory.sample(5000).rewards
    assert rewards.min() == 0.0
    assert rewards.max() <= np.log(551.0 / 4.0) + 1e-5
    assert rewards.max() > 3.0


def test_training_leaves_a_learning_curve(trained):
    """What was tried becomes cheaper and safer; an agent that was read from a file has none."""
    network, method = trained
    curve = method.curve
    assert curve.decisions == tuple(64 * 3 * (k + 1) for k in range(CURVE_BLOCKS))
    assert np.mean(curve.cost[-10:]) < 0.25 * np.mean(curve.cost[:5])
    assert np.mean(curve.safe_pct[-10:]) > 90
    assert np.mean(curve.learned_reward) == pytest.approx(
        method.learner.memory.sample(20000).rewards.mean(), rel=0.02
    )
    fresh = DdpgTransfer(network, MESHED, method.learner)
    assert fresh.curve is None


def test_a_curve_is_the_mean_over_blocks_the_last_of_which_may_be_short():
    by_step = np.stack([np.arange(101.0), np.full(101, 50.0), np.arange(101.0) ** 2], axis=1)
    curve = _curve(by_step, 8)
    # 101 steps in at most 50 blocks: 33 of three steps and one of two.
    assert len(curve.decisions) == 34 and curve.decisions[0] == 24 and curve.decisions[-1] == 808
    assert curve.learned_reward[:2] == pytest.approx((1.0, 4.0)) and curve.learned_reward[
        -1
    ] == pytest.approx(99.5)
    assert set(curve.safe_pct) == {50.0}
    assert curve.cost[0] == pytest.approx(5 / 3) and curve.cost[-1] == pytest.approx(
        (99**2 + 100**2) / 2
    )


def test_progress_is_told():
    told = []
    config = replace(QUICK, steps=3)
    DdpgTransfer.train(
        toy(),
        MESHED,
        pool(toy(), 10),
        config,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_saved_agent_decides_alike(trained, tmp_path):
    network, method = trained
    method.save(tmp_path / "agent.safetensors")
    again = DdpgTransfer.load(tmp_path / "agent.safetensors", network)
    scenarios = pool(network, 10, seed=2)
    np.testing.assert_array_equal(again.decide(scenarios).shed, method.decide(scenarios).shed)
    assert (again.name, again.setting) == ("ddpg", MESHED)


def test_loading_refuses_another_feeder_setting_or_kind(trained, tmp_path):
    network, method = trained
    path = tmp_path / "agent.safetensors"
    method.save(path)
    with pytest.raises(
        CheckpointError, match="trained on feeder 'toy', which differs from this 'other'"
    ):
        DdpgTransfer.load(path, toy(name="other", r=[0.02, 0.01, 0.01, 0.01, 0.5]))
    with pytest.raises(CheckpointError, match="trained for setting .*meshed.*, expected .*radial"):
        DdpgTransfer.load(path, network, setting=RADIAL)
    with pytest.raises(CheckpointError, match="holds a 'ddpg' agent, expected 'ddpg_corrected'"):
        DdpgTransfer.load(path, network, correction=ShedHalf())


def test_scenarios_of_another_feeder_are_refused(trained):
    _, method = trained
    larger = make_scenarios(toy(), 1)
    wide = replace(larger, p_load=np.zeros((1, 7)))
    with pytest.raises(
        ValueError, match=r"observe: p_load has shape \(1, 7\); expected \(1, 4\) on toy"
    ):
        method.decide(wide)
    with pytest.raises(ValueError, match="observe: p_load of bus '2' in scenario 0 is"):
        method.decide(replace(larger, p_load=np.array([[0.0, 0.1, np.nan, 0.1]])))
