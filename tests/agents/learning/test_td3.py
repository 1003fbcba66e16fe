"""The learner: a toy it must solve, the update rules by hand, bounds, seed, and refusals."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from feederguard.agents.learning.td3 import Td3, TD3Config, _Bounded

SMALL = {"hidden": (32, 32), "batch": 64, "warmup": 64, "actor_rate": 3e-3, "critic_rate": 3e-3}


def track_target(config, target, steps=150, project=None):
    """Train on one-step episodes with reward -|a - target(s)|^2; return the mean distance."""
    rng = np.random.default_rng(1)
    agent = Td3(2, 2, config, project=project)
    for _ in range(steps):
        seen = rng.random((32, 2), dtype=np.float32)
        actions = agent.act(seen, explore=True)
        rewards = -((actions - target(seen)) ** 2).sum(axis=1)
        agent.remember(seen, actions, rewards, seen, np.ones(32))
        agent.learn(2)
    seen = rng.random((500, 2), dtype=np.float32)
    return agent, np.abs(agent.act(seen) - target(seen)).mean()


def swapped(seen):
    return seen[:, ::-1]


@pytest.mark.parametrize(
    "config", [TD3Config.ddpg(**SMALL), TD3Config(**SMALL)], ids=["ddpg", "td3"]
)
@pytest.mark.newest
def test_tracks_a_target(config):
    """A constant answer of 1/2 is 0.25 away on average."""
    _, distance = track_target(config, swapped)
    assert distance < 0.08


def test_rests_exactly_at_a_bound():
    """Reward (s_0 - 1/2) a: the best action is 0 or 1 and nothing between."""
    rng = np.random.default_rng(1)
    agent = Td3(1, 1, TD3Config.ddpg(**SMALL))
    for _ in range(100):
        seen = rng.random((32, 1), dtype=np.float32)
        actions = agent.act(seen, explore=True)
        agent.remember(seen, actions, ((seen - 0.5) * actions)[:, 0], seen, np.ones(32))
        agent.learn(2)
    low, high = (
        agent.act(np.linspace(0.0, 0.2, 50)[:, None]),
        agent.act(np.linspace(0.8, 1.0, 50)[:, None]),
    )
    assert (low == 0.0).mean() > 0.8
    assert (high == 1.0).mean() > 0.8


def test_ddpg_is_td3_without_its_three_additions():
    plain, full = asdict(TD3Config.ddpg()), asdict(TD3Config())
    assert {name for name in full if full[name] != plain[name]} == {
        "twin",
        "policy_delay",
        "target_noise",
    }
    assert (plain["twin"], plain["policy_delay"], plain["target_noise"]) == (False, 1, 0.0)
    assert (plain["tau"], plain["gamma"]) == (0.1, 0.9)
    assert len(Td3(1, 1, TD3Config.ddpg()).critics) == 1
    assert len(Td3(1, 1, TD3Config()).critics) == 2


def constant_critics(agent, *values):
    for critic, value in zip(agent.target_critics, values, strict=True):
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.zero_()
            critic[-1].bias.fill_(value)


@pytest.mark.parametrize(
    ("config", "values", "expected"),
    [
        # r + gamma Q' = 1 + 0.9 * 10 where the episode goes on, r alone where it ended.
        (TD3Config.ddpg(**SMALL), (10.0,), [10.0, 2.0]),
        # The lower of the two: 1 + 0.9 * 4.
        (TD3Config(**SMALL), (10.0, 4.0), [4.6, 2.0]),
        (TD3Config.ddpg(**SMALL | {"gamma": 0.5}), (10.0,), [6.0, 2.0]),
    ],
    ids=["ddpg", "td3", "gamma"],
)
def test_bootstrapping_stops_at_terminated(config, values, expected):
    agent = Td3(3, 2, config)
    constant_critics(agent, *values)
    targets = agent.targets(torch.tensor([1.0, 2.0]), torch.zeros(2, 3), torch.tensor([0.0, 1.0]))
    assert targets.numpy() == pytest.approx(expected)


def test_values_reach_back_through_time():
    """One action for ever brings 1 a step: worth 1 / (1 - 0.9) = 10; terminated, it is worth 1."""
    agent = Td3(1, 1, TD3Config.ddpg(**SMALL | {"actor_rate": 0.0}))
    goes_on = np.arange(128)[:, None] % 2
    agent.remember(
        goes_on, np.full((128, 1), 0.5), np.ones(128), np.ones((128, 1)), 1 - goes_on[:, 0]
    )
    agent.learn(600)
    with torch.no_grad():
        ended, lasting = agent.critics[0](torch.tensor([[0.0, 0.5], [1.0, 0.5]]))[:, 0].tolist()
    assert ended == pytest.approx(1.0, abs=0.1)
    assert lasting == pytest.approx(10.0, rel=0.15)


def test_targets_follow_by_tau():
    agent = Td3(2, 1, TD3Config.ddpg(**SMALL | {"tau": 0.25}))
    rng = np.random.default_rng(0)
    agent.remember(
        rng.random((64, 2)), rng.random((64, 1)), rng.random(64), rng.random((64, 2)), np.zeros(64)
    )
    before = {name: value.clone() for name, value in agent.tensors().items()}
    agent.learn(1)
    after = agent.tensors()
    for name in before:
        if name.startswith("target_"):
            own = after[name.removeprefix("target_")]
            torch.testing.assert_close(after[name], 0.25 * own + 0.75 * before[name])
    assert any(
        (after[name] != before[name]).any() for name in before if name.startswith("target_actor")
    )


def test_td3_moves_its_actor_at_every_second_step():
    agent = Td3(2, 1, TD3Config(**SMALL))
    rng = np.random.default_rng(0)
    agent.remember(
        rng.random((64, 2)), rng.random((64, 1)), rng.random(64), rng.random((64, 2)), np.zeros(64)
    )
    moved = []
    for _ in range(4):
        before = agent.actor[0].weight.detach().clone()
        agent.learn(1)
        moved.append(bool((agent.actor[0].weight != before).any()))
    assert moved == [False, True, False, True]


def test_gradient_passes_a_bound_inwards_and_turns_round_outwards():
    raw = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5], requires_grad=True)
    bounded = _Bounded.apply(raw)
    assert bounded.tolist() == [0.0, 0.0, 0.25, 1.0, 1.0]
    # A loss that grows with the action pushes it down: further out at -0.5, so half of it comes
    # back reversed.
    down = torch.autograd.grad(bounded.sum(), raw, retain_graph=True)[0]
    up = torch.autograd.grad(-bounded.sum(), raw)[0]
    assert down.tolist() == [-0.5, 1.0, 1.0, 1.0, 1.0]
    assert up.tolist() == [-1.0, -1.0, -1.0, -1.0, 0.5]


def test_a_projection_acts_and_is_learned_through():
    """Actions are halved before they are carried out: target 0.4 asks the actor for 0.8."""
    agent, distance = track_target(
        TD3Config.ddpg(**SMALL),
        lambda seen: np.full((len(seen), 2), 0.4, np.float32),
        project=lambda observations, actions: 0.5 * actions,
        steps=250,
    )
    seen = torch.rand(100, 2, generator=torch.Generator().manual_seed(0))
    assert distance < 0.06
    assert agent.actor(seen).mean().item() == pytest.approx(0.8, abs=0.12)
    assert agent.act(seen.numpy(), explore=True).max() <= 0.5


def test_one_seed_gives_the_same_numbers_twice_whatever_else_draws():
    first, _ = track_target(TD3Config(**SMALL, redraw=0.1, seed=5), swapped, steps=20)
    torch.rand(7)
    second, _ = track_target(TD3Config(**SMALL, redraw=0.1, seed=5), swapped, steps=20)
    other, _ = track_target(TD3Config(**SMALL, redraw=0.1, seed=6), swapped, steps=20)
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name
    assert not torch.equal(first.actor[0].weight, other.actor[0].weight)


def test_building_and_learning_leave_the_callers_generator_and_threads_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    track_target(TD3Config(**SMALL), swapped, steps=3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_nothing_is_learned_before_the_warmup():
    agent = Td3(2, 1, TD3Config.ddpg(**SMALL))
    before = {name: value.clone() for name, value in agent.tensors().items()}
    assert np.isnan(agent.learn(3))
    assert all(torch.equal(value, before[name]) for name, value in agent.tensors().items())


def test_the_untrained_policy_starts_where_it_is_told():
    agent = Td3(2, 3, TD3Config.ddpg(**SMALL), start=[0.1, 0.5, 0.9])
    actions = agent.act(np.random.default_rng(0).random((200, 2)))
    assert actions.mean(axis=0) == pytest.approx([0.1, 0.5, 0.9], abs=0.05)


def test_tensors_carry_a_policy_to_another_agent():
    agent, _ = track_target(TD3Config(**SMALL), swapped, steps=10)
    copy = Td3(2, 2, TD3Config(**SMALL, seed=9))
    copy.load_tensors(agent.tensors())
    seen = np.random.default_rng(0).random((5, 2))
    np.testing.assert_array_equal(copy.act(seen), agent.act(seen))
    with pytest.raises(
        ValueError, match=r"actor.0.weight has shape \(32, 2\); this agent has \(32, 3\)"
    ):
        Td3(3, 2, TD3Config(**SMALL)).load_tensors(agent.tensors())


def test_what_it_refuses():
    agent = Td3(3, 2, TD3Config.ddpg(**SMALL))
    with pytest.raises(ValueError, match=r"observations have shape \(5, 4\); expected \(B, 3\)"):
        agent.act(np.zeros((5, 4)))
    with pytest.raises(ValueError, match=r"observations have shape \(3,\); expected \(B, 3\)"):
        agent.act(np.zeros(3))
    with pytest.raises(
        ValueError, match="an observation holds a value that is not finite; check the demand"
    ):
        agent.act(np.array([[0.0, np.nan, 0.0]]))
    with pytest.raises(ValueError, match="policy_delay is 0; it must be at least 1"):
        TD3Config(policy_delay=0)
    with pytest.raises(ValueError, match="gamma is 1.5; it must lie between 0 and 1"):
        TD3Config.ddpg(gamma=1.5)


class TestKnownReward:
    """k(s, a) = -|a_0 - 0.3| - |a_1 - 0.7|, and nothing else in the reward."""

    @staticmethod
    def known(seen, actions):
        return -(actions - torch.tensor([0.3, 0.7])).abs().sum(dim=1)

    def test_targets_count_it_for_the_next_action_and_leave_it_out_of_this_one(self):
        config = TD3Config(**SMALL, gamma=0.5, target_noise=0.0)
        agent = Td3(2, 2, config, start=0.5, known_reward=self.known)
        constant_critics(agent, 4.0, 3.0)
        with torch.no_grad():
            for parameter in agent.target_actor[-1].parameters():
                parameter.zero_()
            agent.target_actor[-1].bias.fill_(0.5)
        seen = torch.zeros((2, 2))
        found = agent.targets(torch.tensor([1.0, 1.0]), seen, torch.tensor([0.0, 1.0]))
        # k of the action (0.5, 0.5) that follows is -0.4.
        np.testing.assert_allclose(found, [1.0 + 0.5 * (3.0 - 0.4), 1.0], rtol=1e-6)

    def test_its_gradient_reaches_the_kink_that_a_network_blurs(self):
        rng = np.random.default_rng(1)
        agent = Td3(2, 2, TD3Config(**SMALL, gamma=0.0, noise=0.02), known_reward=self.known)
        for step in range(150):
            seen = rng.random((32, 2), dtype=np.float32)
            actions = agent.act(seen, explore=True)
            agent.remember(
                seen, actions, self.known(None, torch.from_numpy(actions)), seen, np.zeros(32)
            )
            agent.learn(2, rate_share=1.0 - step / 150)
        found = agent.act(rng.random((100, 2), dtype=np.float32))
        assert np.abs(found - [0.3, 0.7]).mean() < 0.01


def test_proposals_are_not_projected():
    agent = Td3(2, 2, TD3Config(**SMALL), project=lambda seen, actions: 0.0 * actions)
    seen = np.ones((3, 2), dtype=np.float32)
    assert (agent.act(seen) == 0.0).all()
    assert (agent.propose(seen) != 0.0).all()
