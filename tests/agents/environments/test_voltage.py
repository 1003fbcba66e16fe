"""The voltage-regulation environments: one against many, the end of a day, corrections."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import feederguard.agents.registration  # noqa: F401
from feederguard.agents.environments.voltage import VoltageEnv, VoltageVectorEnv
from feederguard.agents.safety_layer import SafetyLayer
from feederguard.data.voltage_cases import VoltageCase, load_voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.voltage_regulation import VoltageState, carry_year, simulate
from feederguard.models.voltage_regulation.demand import idle_voltages, net_demand
from feeders import battery, demand_days, pair


def generous(**changes: Any) -> Network:
    """`pair` with a nominal load of 0.5 + 0.2j and 2 of generation at bus 1."""
    return pair(**{"p_load": [0, 0.5], "q_load": [0, 0.2], "p_gen": [0, 2.0]} | changes)


BATTERY = battery()


@pytest.fixture(scope="module")
def case() -> VoltageCase:
    return load_voltage_case(weeks="test")


@pytest.mark.parametrize("carry_soc", [False, True])
@pytest.mark.newest
def test_gymnasium_accepts_the_environment_without_a_warning(carry_soc: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("feederguard/VoltageRegulation-v0", weeks="test", carry_soc=carry_soc)
        check_env(env.unwrapped)
    # 18 loads, active and reactive, 19 voltages, 18 batteries, sine and cosine.
    assert env.observation_space.shape == (18 + 18 + 19 + 18 + 2,) and env.action_space.shape == (
        18,
    )


def test_a_day_is_what_the_judge_makes_of_it(case: VoltageCase) -> None:
    actions = np.random.default_rng(3).uniform(-1, 1, (96, 18)).astype(np.float32)

    class Same:
        name = "same"

        def decide(self, state: VoltageState) -> Any:
            return actions[state.step].astype(float) * case.batteries.p_max

    judged = simulate(case.network, case.batteries, case.days[7], Same())
    env = VoltageEnv(case.network, case.batteries, case.days)
    env.reset(seed=0, options={"day": 7})
    rewards, energy, violations = 0.0, 0.0, 0
    for t in range(96):
        _, reward, terminated, truncated, info = env.step(actions[t])
        np.testing.assert_allclose(info["v"], judged.v[0, t], atol=1e-9)
        np.testing.assert_allclose(info["soc"], judged.soc[0, t + 1], atol=1e-12)
        rewards, energy, violations = (
            rewards + reward,
            energy + info["regulation_kwh"],
            violations + (info["n_violations"] > 0),
        )
        assert (terminated, truncated) == (False, t == 95)
    assert rewards == pytest.approx(judged.reward[0])
    assert energy == pytest.approx(1e3 * judged.regulation_mwh[0])
    assert violations == judged.n_violation_steps[0]


def test_what_is_stored_is_what_the_grid_received(case: VoltageCase) -> None:
    """A full battery asked to charge does not.

    The voltages follow from `applied_action` alone, not from what was asked.
    """
    env = VoltageEnv(case.network, case.batteries, case.days)
    env.reset(seed=0, options={"day": 3, "soc": np.full(18, 0.99)})
    p_net, q_net = net_demand(case.network, case.days)
    asked = np.ones(18, np.float32)
    cut = 0
    for t in range(96):
        _, _, _, _, info = env.step(asked)
        p = np.array(p_net[3, t])
        p[case.batteries.bus] += info["applied_action"] * case.batteries.p_max
        np.testing.assert_allclose(
            info["v"], np.abs(solve_power_flow(case.network, p, q_net[3, t]).voltage), atol=1e-7
        )
        cut += int((info["applied_action"] < 0.999).any())
    assert cut == 96 and info["soc"] == pytest.approx(np.ones(18))


def test_wild_actions_never_leave_soc_limits(case: VoltageCase) -> None:
    env = VoltageVectorEnv(case.network, case.batteries, case.days, num_envs=16)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(200):
        info = env.step(rng.normal(scale=4.0, size=(16, 18)).astype(np.float32))[4]
        assert (info["soc"] >= 0).all() and (info["soc"] <= 1).all()
        assert (np.abs(info["applied_action"]) <= 1).all()


@pytest.mark.parametrize("carry_soc", [False, True])
def test_a_batch_steps_as_its_environments_alone(case: VoltageCase, carry_soc: bool) -> None:
    batch = VoltageVectorEnv(case.network, case.batteries, case.days, 4, carry_soc=carry_soc)
    alone = VoltageEnv(case.network, case.batteries, case.days, carry_soc=carry_soc)
    shown, placed = batch.reset(seed=4)
    assert len(set(placed["day"].tolist())) > 1
    actions = np.random.default_rng(0).uniform(-1, 1, (96, 4, 18)).astype(np.float32)
    steps = [batch.step(action) for action in actions]
    for k, day in enumerate(placed["day"]):
        observation, info = alone.reset(options={"day": int(day)})
        assert np.array_equal(observation, shown[k]) and info["day"] == day
        for t, (together, rewards, terminated, truncated, infos) in enumerate(steps):
            observation, reward, ended, cut, info = alone.step(actions[t, k])
            expected = infos["final_obs"][k] if t == 95 else together[k]
            np.testing.assert_allclose(observation, expected, atol=1e-6)
            assert (ended, cut) == (False, t == 95) == (terminated[k], truncated[k])
            assert reward == pytest.approx(rewards[k], rel=1e-6, abs=1e-9)
            for name in (
                "v",
                "soc",
                "applied_action",
                "n_violations",
                "worst_excess_pu",
                "regulation_kwh",
                "day",
                "step",
            ):
                np.testing.assert_allclose(info[name], infos[name][k], atol=1e-6, err_msg=name)


def test_the_same_seed_gives_the_same_numbers(case: VoltageCase) -> None:
    def run() -> list[Any]:
        env = VoltageVectorEnv(case.network, case.batteries, case.days, 3)
        seen = [env.reset(seed=9)[0]]
        rng = np.random.default_rng(1)
        for _ in range(100):
            observation, reward, *_ = env.step(rng.uniform(-1, 1, (3, 18)).astype(np.float32))
            seen += [observation, reward]
        return seen

    assert all(np.array_equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_the_same_seed_draws_the_same_days_in_both(case: VoltageCase) -> None:
    batch, alone = (
        VoltageVectorEnv(case.network, case.batteries, case.days, 1),
        VoltageEnv(case.network, case.batteries, case.days),
    )
    drawn = [(batch.reset(seed=5)[1]["day"][0], alone.reset(seed=5)[1]["day"])]
    drawn += [(batch.reset()[1]["day"][0], alone.reset()[1]["day"]) for _ in range(6)]
    assert all(a == b for a, b in drawn) and len(set(drawn)) > 2


def test_a_day_is_truncated_and_shows_the_next() -> None:
    env = VoltageEnv(generous(), BATTERY, demand_days([[0.1, 0.2], [0.3, 0.4]]))
    env.reset(seed=0, options={"day": 0})
    env.step(np.zeros(1, np.float32))
    observation, _, terminated, truncated, _ = env.step(np.ones(1, np.float32))
    assert (terminated, truncated) == (False, True)
    # Midnight of the second day: demand 0.3 of 2, half charged and 0.4 stored since.
    assert observation[[0, 3, 4, 5]] == pytest.approx([0.15, 0.9, 0.0, 1.0], abs=1e-6)
    with pytest.raises(
        ResetNeeded, match=r"the episode has ended, or none has begun; call reset\(\) before step"
    ):
        env.step(np.zeros(1, np.float32))


def test_where_no_day_follows_the_last_demand_goes_on() -> None:
    env = VoltageEnv(generous(), BATTERY, demand_days([[0.1, 0.2], [0.3, 0.4]]))
    env.reset(seed=0, options={"day": 1})
    env.step(np.zeros(1, np.float32))
    observation = env.step(np.zeros(1, np.float32))[0]
    assert observation[[0, 4, 5]] == pytest.approx([0.2, 0.0, 1.0], abs=1e-6)


def test_only_a_collapse_terminates() -> None:
    """Day 0 is fine, day 1 asks for more than the line can carry in its first step."""
    pool = demand_days([[0.1, 0.1, 0.1], [4.0, 0.1, 0.1]])
    env = VoltageVectorEnv(generous(), BATTERY, pool, num_envs=2)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset(seed=0, options={"day": [0, 1]})
    observation, reward, terminated, truncated, info = env.step(np.zeros((2, 1), np.float32))
    assert terminated.tolist() == [False, True] and not truncated.any()
    assert reward == pytest.approx([0.0, -950.0])
    assert (
        np.isnan(info["v"][1]).all()
        and np.isinf(info["worst_excess_pu"][1])
        and info["n_violations"].tolist() == [0, 1]
    )
    assert info["_final_obs"].tolist() == [False, True]
    assert observation[1, 3:] == pytest.approx([0.5, 0.0, 1.0], abs=1e-6)  # begun anew, at midnight
    observation, *_ = env.step(np.zeros((2, 1), np.float32))
    assert not np.array_equal(
        observation[0, 4:], observation[1, 4:]
    )  # no longer in step with each other


def test_soc_is_carried_over_as_the_judge_carries_it(case: VoltageCase) -> None:
    actions = np.random.default_rng(2).uniform(-1, 1, (3, 96, 18)).astype(np.float32)

    class Same:
        name = "same"

        def __init__(self) -> None:
            self.asked = -1

        def decide(self, state: VoltageState) -> Any:
            self.asked += 1
            return actions.reshape(-1, 1, 18)[self.asked].astype(float) * case.batteries.p_max

    judged = carry_year(case.network, case.batteries, case.days[4:7], Same())
    env = VoltageEnv(case.network, case.batteries, case.days, carry_soc=True)
    env.reset(options={"day": 4})
    for k in range(3):
        for t in range(96):
            info = env.step(actions[k, t])[4]
        assert info["day"] == 4 + k
        np.testing.assert_allclose(info["soc"], judged.soc[k, -1], atol=1e-12)
        np.testing.assert_allclose(env.reset()[1]["soc"], judged.soc[k, -1], atol=1e-12)
    assert env.reset(seed=1)[1]["soc"] == pytest.approx(np.full(18, 0.5))


def test_a_correction_is_applied_and_stored(case: VoltageCase) -> None:
    asked: list[Any] = []

    def halve(state: VoltageState, power: Any) -> Any:
        asked.append((state, power.copy()))
        return power / 2

    env = VoltageEnv(case.network, case.batteries, case.days, correct=halve)
    env.reset(seed=0, options={"day": 2})
    info = env.step(np.full(18, 0.5, np.float32))[4]
    assert info["applied_action"] == pytest.approx(np.full(18, 0.25))
    state, power = asked[0]
    assert power == pytest.approx(0.5 * case.batteries.p_max[None]) and state.step.tolist() == [0]
    assert state.v_idle == pytest.approx(idle_voltages(case.network, case.days[2])[:, 0])
    broken = VoltageEnv(
        case.network, case.batteries, case.days, correct=lambda state, power: power * np.nan
    )
    broken.reset(seed=0)
    with pytest.raises(
        ValueError,
        match="cigre_lv18: the corrected power is nan for battery 'R1' of item 0; `correct` must",
    ):
        broken.step(np.zeros(18, np.float32))


def test_a_safety_layer_given_whole_is_refused() -> None:
    layer = SafetyLayer(generous(), BATTERY, 1.0)
    whole: Any = layer.correct
    env = VoltageEnv(generous(), BATTERY, demand_days([[0.1] * 4]), correct=whole)
    env.reset(seed=0)
    with pytest.raises(
        ValueError, match="pair: `correct` returned SafeActions, not powers; .* return its .p"
    ):
        env.step(np.zeros(1, np.float32))


def test_a_safety_layer_of_another_step_is_refused() -> None:
    """Quarters of an hour on days of hours: its certificates would ignore what the SOC leaves."""
    layer = SafetyLayer(generous(), BATTERY)
    env = VoltageEnv(
        generous(),
        BATTERY,
        demand_days([[0.1] * 4]),
        correct=lambda state, power: layer.correct(state, power).p,
    )
    env.reset(seed=0)
    with pytest.raises(
        ValueError,
        match="the safety layer was made for steps of 0.25 h, and the days have steps of 1 h",
    ):
        env.step(np.zeros(1, np.float32))


def test_what_cannot_be_an_environment_is_refused() -> None:
    with pytest.raises(ValueError, match="pair: there are no days; give at least one"):
        VoltageEnv(generous(), BATTERY, demand_days([[0.1]])[:0])
    with pytest.raises(ValueError, match="pair: there are no batteries; give at least one"):
        VoltageEnv(generous(), Batteries(np.zeros(0, int), 0.5, 1.0), demand_days([[0.1]]))
    with pytest.raises(ValueError, match="num_envs is 0; step at least one environment"):
        VoltageVectorEnv(generous(), BATTERY, demand_days([[0.1]]), num_envs=0)
    with pytest.raises(
        ValueError, match="pair: battery 'b' is at bus 3; buses are numbered 0 to 1"
    ):
        VoltageEnv(generous(), Batteries([3], 0.5, 1.0, name=("b",)), demand_days([[0.1]]))
    with pytest.raises(
        ValueError, match="the days have active demand at bus '1', which has no nominal one"
    ):
        VoltageEnv(generous(p_load=[0, 0], p_gen=[0, 0]), BATTERY, demand_days([[0.1]]))


def test_actions_and_options_that_are_none_are_refused(case: VoltageCase) -> None:
    env = VoltageEnv(case.network, case.batteries, case.days)
    with pytest.raises(ResetNeeded, match="none has begun"):
        env.step(np.zeros(18, np.float32))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"cigre_lv18: action has shape \(17,\); expected \(18,\)"):
        env.step(np.zeros(17, np.float32))
    bad = np.zeros(18, np.float32)
    bad[4] = np.nan
    with pytest.raises(
        ValueError,
        match="cigre_lv18: action 0 is NaN for battery 'R5'; give numbers between -1 and 1",
    ):
        env.step(bad)
    with pytest.raises(ValueError, match="options: 'dya' is unknown; use day and soc"):
        env.reset(options={"dya": 1})
    for day in (91, -1, [0, 1], 0.5):
        with pytest.raises(
            ValueError, match="give one number or 1 of them, from 0 to 90, the days of the pool"
        ):
            env.reset(options={"day": day})
    for soc in (np.full(18, 1.1), np.full(18, np.nan), np.zeros(3)):
        with pytest.raises(
            ValueError,
            match=r"options: soc of shape .* does not fit; give \(18,\) or \(1, 18\) fractions",
        ):
            env.reset(options={"soc": soc})
