"""The load-transfer environments: spaces by hand, one against thousands, hours, corrections.

load_transfer_actions.py and bundled_load_transfer.py are tested here.
"""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import feederguard.agents.registration  # noqa: F401
from feederguard.agents.environments.bundled_load_transfer import make_env, sample_episodes
from feederguard.agents.environments.load_transfer import LoadTransferEnv, LoadTransferVectorEnv
from feederguard.agents.environments.load_transfer_actions import (
    decode_actions,
    encode_decisions,
    observe,
)
from feederguard.data.networks import load_network
from feederguard.data.profiles import bus_series, load_profiles
from feederguard.data.sampling import sample_scenarios
from feederguard.models.load_transfer import (
    Decisions,
    Outcomes,
    Scenarios,
    Setting,
    judge,
    make_scenarios,
)
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.graph import energised_buses
from feeders import feeder

SETTINGS = ("paper", "radial")
OUTCOMES = [name for name in Outcomes.__dataclass_fields__ if name != "reward"]


def ring(**changes: Any) -> Network:
    """Losing `head` leaves nothing to feed; the ties t and u make good the loss of a ring's line.

    0 --head-- 1 --a-- 2 . . t . . 3          loads 0.1, 0.3, 0.2 at buses 1, 2, 3 (none at 4)
               |                   |
               +--------b----------+ . . u . . 4 --c-- 1
    """
    network = feeder(
        "head:0-1 a:1-2 b:1-3 t:2~3 u:3~4 c:4-1",
        name="ring",
        p_load=[0.0, 0.1, 0.3, 0.2, 0.0],
        q_load=[0.0, 0.05, 0.1, 0.0, 0.0],
        r=0.001,
        x=0.001,
        rating=10.0,
        paper_limit_mw=5.0,
    )
    return network.with_changes(**changes) if changes else network


@pytest.fixture(scope="module")
def ieee33() -> Network:
    return load_network("ieee33")


@pytest.fixture(scope="module")
def pool(ieee33: Network) -> Scenarios:
    return sample_scenarios(ieee33, load_profiles(), 60, seed=0, weeks="train").scenarios


def closed_names(network: Network, decisions: Decisions) -> list[set[str]]:
    return [{network.branch_name[b] for b in np.flatnonzero(row)} for row in decisions.closed]


def test_the_observation_by_hand() -> None:
    # Mean load of the three loaded buses: 0.2 pu.
    scenarios = make_scenarios(
        ring(), ["a", "head"], [0.0, 0.1, 0.4, 0.0, 0.0], p_gen=[0.0, 0.0, 0.0, 0.0, 0.3]
    )
    found = observe(ring(), scenarios)
    assert found.dtype == np.float32
    demand = [0, 0.5, 2, 0, 0, 0, 0.25, 0.5, 0, 0, 0, 0, 0, 0, 1.5]
    assert found == pytest.approx(
        np.array([[0, 1, 0, 0, 0, 0, *demand], [1, 0, 0, 0, 0, 0, *demand]])
    )


def test_a_meshed_action_by_hand() -> None:
    # Sheds of buses 1, 2, 3, then the ties t and u.
    scenarios = make_scenarios(ring(), ["a", "t"])
    found = decode_actions(
        ring(), "paper", scenarios, [[0.0, 0.25, 1.0, 0.5, 0.49], [0.5, 0.0, 0.0, 0.9, 0.9]]
    )
    assert closed_names(ring(), found) == [{"head", "b", "c", "t"}, {"head", "a", "b", "c", "u"}]
    assert found.shed.tolist() == [[0.0, 0.0, 0.25, 1.0, 0.0], [0.0, 0.5, 0.0, 0.0, 0.0]]


def test_a_radial_action_closes_high_keys_first() -> None:
    # Switchable: a, b, t, u, c. After a, bus 2 hangs from t; of the loop b-u-c the lowest key stays
    # open.
    scenarios = make_scenarios(ring(), ["a", "a", "u"])
    keys = [[0.0, 0.9, 0.0, 0.8, 0.1], [0.0, 0.1, 0.2, 0.8, 0.9], [0.9, 0.1, 0.5, 1.0, 0.0]]
    found = decode_actions(
        ring(), "radial", scenarios, np.concatenate([np.zeros((3, 3)), keys], axis=1)
    )
    assert closed_names(ring(), found) == [
        {"head", "t", "b", "u"},
        {"head", "t", "u", "c"},
        {"head", "a", "t", "c"},
    ]


def test_what_nobody_can_feed_is_not_switched() -> None:
    found = decode_actions(
        ring(), "radial", make_scenarios(ring(), "head"), [[0, 0, 0, 0, 0, 1, 1, 0]]
    )
    assert closed_names(ring(), found) == [{"a", "b", "c"}]
    assert judge(ring(), make_scenarios(ring(), "head"), found, "radial").n_operations[0] == 0


def test_every_radial_action_is_a_spanning_tree_and_legal(ieee33: Network, pool: Scenarios) -> None:
    actions = np.random.default_rng(1).random((len(pool), 32 + 36))
    decisions = decode_actions(ieee33, "radial", pool, actions)
    outcome = judge(ieee33, pool, decisions, "radial")
    assert outcome.connected.all()
    live = energised_buses(ieee33, decisions.closed)
    assert (decisions.closed.sum(axis=1) == live.sum(axis=1) - 1).all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_encoding_is_the_inverse_of_decoding(
    ieee33: Network, pool: Scenarios, setting: str
) -> None:
    size = 32 + (5 if setting == "paper" else 36)
    actions = np.random.default_rng(2).random((len(pool), size), dtype=np.float32)
    decisions = decode_actions(ieee33, setting, pool, actions)
    code = encode_decisions(ieee33, setting, decisions)
    assert code.dtype == np.float32
    assert np.array_equal(code[:, :32], actions[:, :32])
    again = decode_actions(ieee33, setting, pool, code)
    assert np.array_equal(again.closed, decisions.closed)
    assert np.array_equal(again.shed, decisions.shed)


def test_numbers_outside_are_clipped() -> None:
    found = decode_actions(
        ring(), "paper", make_scenarios(ring(), "a"), [[-0.5, 1.5, np.inf, 7.0, -np.inf]]
    )
    assert found.shed[0].tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]
    assert closed_names(ring(), found) == [{"head", "b", "c", "t"}]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.newest
def test_gymnasium_accepts_the_environment_without_a_warning(setting: str, horizon: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(
            "feederguard/LoadTransfer-v0", setting=setting, horizon=horizon, pool_size=30
        )
        check_env(env.unwrapped)
    assert env.observation_space.shape == (
        37 + 3 * 33 + (0 if horizon == 1 else 1 + (5 if setting == "paper" else 36)),
    )


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("horizon", [1, 3])
def test_a_batch_steps_as_its_environments_alone(
    ieee33: Network, pool: Scenarios, setting: str, horizon: int
) -> None:
    pool = pool[np.arange(60) // horizon * horizon]  # the hours of an episode are alike
    batch = LoadTransferVectorEnv(ieee33, pool, setting, horizon, num_envs=5)
    alone = LoadTransferEnv(ieee33, pool, setting, horizon)
    shown, info = batch.reset(seed=4)
    episodes = info["pool_row"] // horizon
    assert len(set(episodes.tolist())) > 1
    rng = np.random.default_rng(0)
    actions = rng.random((horizon, *batch.action_space.shape), dtype=np.float32)
    steps = [batch.step(action) for action in actions]
    for k, episode in enumerate(episodes):
        observation, info = alone.reset(options={"episode": int(episode)})
        assert np.array_equal(observation, shown[k])
        assert info["pool_row"] == episode * horizon
        for hour, (together, rewards, terminated, truncated, infos) in enumerate(steps):
            last = hour == horizon - 1
            observation, reward, ended, cut, info = alone.step(actions[hour, k])
            assert np.array_equal(observation, (infos["final_obs"] if last else together)[k])
            assert (ended, cut) == (last, False) == (terminated[k], truncated[k])
            assert reward == pytest.approx(rewards[k], rel=1e-9)
            assert np.array_equal(info["applied_action"], infos["applied_action"][k])
            for name in (*OUTCOMES, "pool_row"):
                assert info[name] == pytest.approx(infos[name][k], rel=1e-6, nan_ok=True), name


def test_the_same_seed_draws_the_same_in_both(ieee33: Network, pool: Scenarios) -> None:
    batch, alone = LoadTransferVectorEnv(ieee33, pool, num_envs=1), LoadTransferEnv(ieee33, pool)
    rows = [(batch.reset(seed=9)[1]["pool_row"][0], alone.reset(seed=9)[1]["pool_row"])]
    for _ in range(5):
        rows.append((batch.reset()[1]["pool_row"][0], alone.reset()[1]["pool_row"]))
    assert all(a == b for a, b in rows)
    assert len(set(rows)) > 2
    assert np.array_equal(batch.reset(seed=3)[0], batch.reset(seed=3)[0])


def test_the_vector_environment_resets_in_the_step_that_ends(
    ieee33: Network, pool: Scenarios
) -> None:
    env = LoadTransferVectorEnv(ieee33, pool, num_envs=8)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    shown, _ = env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    following, rewards, terminated, truncated, info = env.step(action)
    assert terminated.all() and not truncated.any()
    assert np.array_equal(info["final_obs"], shown) and info["_final_obs"].all()
    assert not np.array_equal(following, shown)
    assert following in env.observation_space
    # What was drawn for `following` is what the next step judges.
    rows = env.step(action)[4]["pool_row"]
    assert np.array_equal(observe(ieee33, pool[rows]), following)


def test_a_fault_of_three_hours_by_hand() -> None:
    network = ring()
    level = np.array([[1.0], [0.5], [1.5]])
    pool = make_scenarios(network, ["a"] * 3, level * network.p_load, level * network.q_load)
    env = LoadTransferEnv(network, pool, "paper", horizon=3)
    observation, _ = env.reset(seed=0)
    # t, u open; all of the horizon left. Loads in units of 0.2 pu.
    assert observation[-3:].tolist() == [0.0, 0.0, 1.0]
    assert observation[6:11] == pytest.approx([0, 0.5, 1.5, 1, 0])
    close_t = np.array([0, 0, 0, 1, 0], np.float32)
    observation, reward, terminated, _, info = env.step(close_t)
    assert (info["n_operations"], info["cost"], terminated) == (1, pytest.approx(3.0), False)
    assert reward == pytest.approx(1 / 4)
    assert observation[-3:] == pytest.approx([1, 0, 2 / 3])
    assert observation[6:11] == pytest.approx([0, 0.25, 0.75, 0.5, 0])
    # The tie is closed already: nothing is operated.
    observation, reward, terminated, _, info = env.step(close_t)
    assert (info["n_operations"], reward, terminated) == (0, pytest.approx(1.0), False)
    # Opening it again counts, and darkens 1.5 * 0.3 pu: 22 * 4.5^2 + 3.
    observation, _, terminated, truncated, info = env.step(np.zeros(5, np.float32))
    assert info["n_operations"] == 1
    assert info["cost"] == pytest.approx(22 * 4.5**2 + 3)
    assert terminated and not truncated
    assert observation[-3:].tolist() == [0.0, 0.0, 0.0]
    assert info["pool_row"] == 2
    with pytest.raises(
        ResetNeeded, match=r"the episode has ended, or none has begun; call reset\(\) before step"
    ):
        env.step(close_t)


def shed_all_of_bus_2(scenarios: Scenarios, decisions: Decisions) -> Decisions:
    shed = decisions.shed.copy()
    shed[:, 2] = 1.0
    return Decisions(decisions.closed, shed)


@pytest.mark.parametrize("correct", [shed_all_of_bus_2, None])
def test_a_correction_is_applied_and_charged_by_21(
    correct: Callable[..., Decisions] | None,
) -> None:
    pool = make_scenarios(ring(), ["a"])
    env = LoadTransferEnv(ring(), pool, "paper", correct=correct)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([0, 0.5, 0, 0.7, 0.2], np.float32))
    if correct is None:
        # 0.15 pu shed of 0.1 MVA units, one tie.
        assert reward == pytest.approx(1 / (22 * 1.5**2 + 3 + 1))
        assert info["applied_action"] == pytest.approx([0, 0.5, 0, 1, 0])
    else:
        assert reward == pytest.approx(1 / (2 * 22 * 3**2 - 22 * 1.5**2 + 3 + 1))
        assert info["cost"] == pytest.approx(22 * 3**2 + 3)
        assert info["applied_action"] == pytest.approx([0, 1, 0, 1, 0])


def test_the_name_alone_is_enough_in_a_fresh_process() -> None:
    name = "feederguard.agents.registration:feederguard/LoadTransfer-v0"
    code = f"import gymnasium; print(gymnasium.make({name!r}, pool_size=4).spec.id)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "feederguard/LoadTransfer-v0", ran.stderr


def test_gymnasium_makes_both_kinds_with_their_arguments() -> None:
    asked = {
        "feeder": "bus69",
        "setting": "radial",
        "weeks": "test",
        "pool_size": 8,
        "seed": 5,
        "horizon": 2,
    }
    alone = gym.make("feederguard/LoadTransfer-v0", **asked)
    batch = gym.make_vec("feederguard/LoadTransfer-v0", num_envs=3, **asked)
    assert isinstance(alone.unwrapped, LoadTransferEnv) and isinstance(
        batch.unwrapped, LoadTransferVectorEnv
    )
    assert batch.num_envs == 3 and len(batch.unwrapped.episodes.pool) == 16
    assert batch.single_observation_space == alone.observation_space
    assert batch.single_action_space == alone.action_space
    observations, _ = batch.reset(seed=1)
    assert observations in batch.observation_space
    rewards = batch.step(np.zeros(batch.action_space.shape, np.float32))[1]
    assert rewards.shape == (3,) and np.isfinite(rewards).all()


def test_the_pool_is_drawn_from_the_weeks_and_seed_asked(ieee33: Network) -> None:
    sampled = sample_scenarios(ieee33, load_profiles(), 20, seed=3, weeks="test").scenarios
    pool = make_env(pool_size=20, seed=3, weeks="test").episodes.pool
    assert np.array_equal(pool.fault, sampled.fault) and np.array_equal(pool.p_load, sampled.p_load)


@pytest.mark.parametrize("weeks", ["train", "test"])
def test_an_episode_is_consecutive_hours_of_the_bundled_year(ieee33: Network, weeks: str) -> None:
    horizon = 24
    pool = sample_episodes(ieee33, 12, 1, weeks, horizon)
    assert len(pool) == 12 * horizon
    year = load_profiles().resample(60)
    series, _ = bus_series(year, ieee33)
    by_bus = np.where(series >= 0, year.load[:, series], 0.0) * ieee33.p_load
    by_bus *= ieee33.p_load.sum() / by_bus.sum(axis=1).max()
    allowed = year.test_steps if weeks == "test" else year.train_steps
    for k in range(12):
        rows = np.arange(k * horizon, (k + 1) * horizon)
        assert (pool.fault[rows] == pool.fault[rows[0]]).all()
        (start,) = np.flatnonzero(np.isclose(by_bus, pool.p_load[rows[0]], rtol=1e-9).all(axis=1))
        np.testing.assert_allclose(pool.p_load[rows], by_bus[start : start + horizon], rtol=1e-9)
        assert np.isin(np.arange(start, start + horizon), allowed).all()
    # Night and day: sunshine moves with the hours.
    sun = pool.p_gen.sum(axis=1).reshape(12, horizon)
    assert (sun.min(axis=1) == 0).all() and (sun.max(axis=1) > 0).all()


def test_actions_that_are_none_are_refused() -> None:
    scenarios = make_scenarios(ring(), ["a", "b"])
    message = (
        r"ring: actions have shape \(2, 4\); expected \(2, 5\), one shed fraction for each of 3 "
        "loads, then one number"
    )
    with pytest.raises(ValueError, match=message):
        decode_actions(ring(), "paper", scenarios, np.zeros((2, 4)))
    actions = np.zeros((2, 5))
    actions[1, 3] = np.nan
    with pytest.raises(
        ValueError, match="ring: action 1 holds NaN at place 3; give numbers between 0 and 1"
    ):
        decode_actions(ring(), "paper", scenarios, actions)
    env = LoadTransferEnv(ring(), scenarios)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"ring: action has shape \(1, 5\); expected \(5,\)"):
        env.step(np.zeros((1, 5), np.float32))
    many = LoadTransferVectorEnv(ring(), scenarios, num_envs=2)
    many.reset(seed=0)
    with pytest.raises(ValueError, match=r"ring: actions have shape \(3, 5\); expected \(2, 5\)"):
        many.step(np.zeros((3, 5), np.float32))


def test_a_pool_that_makes_no_episodes_is_refused(ieee33: Network) -> None:
    scenarios = make_scenarios(ring(), ["a", "a", "b", "a"])
    with pytest.raises(ValueError, match="ring: the pool of scenarios is empty; give at least one"):
        LoadTransferEnv(ring(), scenarios[:0])
    with pytest.raises(
        ValueError,
        match=r"environment: p_load has shape \(4, 5\); expected \(4, 33\) on ieee33",
    ):
        LoadTransferVectorEnv(ieee33, scenarios)
    with pytest.raises(
        ValueError,
        match="a pool of 4 scenarios does not divide into episodes of 3 hours; give a mult",
    ):
        LoadTransferEnv(ring(), scenarios, horizon=3)
    with pytest.raises(
        ValueError,
        match="scenarios 2 to 3 make one episode of 2 hours but not all have the same fault",
    ):
        LoadTransferEnv(ring(), scenarios, horizon=2)
    with pytest.raises(
        ValueError, match="horizon is 0; a fault lasts a whole number of hours, at least 1"
    ):
        LoadTransferEnv(ring(), scenarios, horizon=0)
    with pytest.raises(ValueError, match="num_envs is 0; step at least one environment"):
        LoadTransferVectorEnv(ring(), scenarios, num_envs=0)
    with pytest.raises(ValueError, match="horizon is 25; a fault lasts 1 to 24 whole hours"):
        make_env(horizon=25)


def test_scenarios_of_another_feeder_or_without_numbers_are_refused() -> None:
    scenarios = make_scenarios(ring(), ["a", "a"])
    scenarios.p_load.setflags(write=True)
    scenarios.p_load[1, 3] = np.nan
    with pytest.raises(
        ValueError,
        match="environment: p_load of bus '3' in scenario 1 is nan; give a finite number",
    ):
        LoadTransferEnv(ring(), scenarios)
    with pytest.raises(
        ValueError,
        match="observe: p_load of bus '3' in scenario 1 is nan; give a finite number",
    ):
        observe(ring(), scenarios)
    elsewhere = Scenarios(np.array([0, 9]), scenarios.q_load, scenarios.q_load, scenarios.p_gen)
    with pytest.raises(
        ValueError,
        match="observe: scenario 1 has its fault at branch 9; branches are numbered 0 to 5 on ring",
    ):
        observe(ring(), elsewhere)


def test_an_episode_that_the_pool_lacks_is_refused() -> None:
    env = LoadTransferVectorEnv(ring(), make_scenarios(ring(), ["a", "b"]), num_envs=3)
    for asked in (2, -1, [0, 1], 0.5):
        with pytest.raises(
            ValueError, match="give one number or 3 of them, from 0 to 1, the episodes of the pool"
        ):
            env.reset(options={"episode": asked})
    with pytest.raises(ValueError, match="options: 'row' is unknown; use episode"):
        env.reset(options={"row": 1})
    assert env.reset(options={"episode": [1, 0, 1]})[1]["pool_row"].tolist() == [1, 0, 1]


def test_a_feeder_that_cannot_be_an_environment_is_refused() -> None:
    idle = ring(p_load=np.zeros(5))
    with pytest.raises(
        ValueError,
        match="ring: no bus has a nominal load, so there is none to transfer; give p_load",
    ):
        observe(idle, make_scenarios(idle, "a"))
    looped = ring(closed=np.ones(6, dtype=bool))
    stuck = Setting("stuck", True, 0.9, 1.1, switchable=("a",))
    with pytest.raises(NetworkError, match="branches that cannot be switched form a loop"):
        LoadTransferEnv(looped, make_scenarios(looped, "a"), stuck)
