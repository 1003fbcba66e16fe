"""Voltage regulation with batteries as a Gymnasium environment: single, and natively batched.

Physics, limits and reward are the judge's (`feederguard.models.voltage_regulation`).

    observation  net demand, idle voltages, SOC and time of day (`voltage_observation.py`)
    action       one number in [-1, 1] per battery, its power over p_max, positive charging. What is
                 outside is clipped; NaN is refused.
    reward       (1) of `voltage_regulation/rules.py`, of the power applied

An episode is a day. It is truncated after its last step, since the batteries' life goes on. The
last observation then shows the first step of the next day, where the pool has it. Otherwise it
shows the day's last demand at the time of day that follows. A day is terminated only by a step
without an AC solution.

The power applied is the action, changed by `correct` where given, and cut by the batteries'
management to what power and SOC limits allow. It is `info["applied_action"]`, and what a learner
should store: ours do (`voltage_agent.py`). stable-baselines3 knows nothing of it and stores its own
action (`sb3_agents.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from feederguard.agents.environments.batching import (
    BatchedEnv,
    SingleEnv,
    asked_numbers,
    check_options,
    check_running,
)
from feederguard.agents.environments.voltage_observation import (
    check_observable,
    observe,
    read_observations,
    soc_columns,
)
from feederguard.models.arrays import BoolArray, Float32Array, FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import check_batteries
from feederguard.models.battery.step import allowed_power, next_soc
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.voltage_regulation import VoltageDays, VoltageState
from feederguard.models.voltage_regulation.days import check_feeder
from feederguard.models.voltage_regulation.demand import battery_demand, idle_voltages, net_demand
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import step_rules

__all__ = ["VoltageEnv", "VoltageVectorEnv", "observe", "read_observations"]

Correct = Callable[[VoltageState, FloatArray], FloatArray]


class VoltageEnv(SingleEnv["_DayEpisodes"]):
    """The environment of one day at a time.

    correct: (state, proposed power (B, n_bat) pu) -> power, applied before the grid receives it.
    carry_soc: days follow one another in the pool's order, each with the SOC at which the last one
    ended. Otherwise days are drawn, and each begins at soc_start. `reset(options={"day": k, "soc":
    ...})` picks a day of the pool and the SOC it begins with; there are no other options. A reset
    with a seed, or with options, does not carry SOC over.

    `info`: day and step of the pool (after a step those it judged) and soc (after the step). After
    a step also applied_action, v (n_bus,) pu, n_violations (buses outside their band by over 1e-5
    pu; all of them without AC solution), worst_excess_pu and regulation_kwh.

    Raises ValueError at once when the pool is empty or of another feeder, or has demand at a bus
    without nominal load. Raises it when there is no battery, or one at no bus. `reset` raises it
    for unknown options. `step` raises it for an action of another shape, NaN, a correction that is
    not finite, and a safety layer of another step. After the end of an episode `step` raises
    `ResetNeeded`.
    """

    def __init__(
        self,
        network: Network,
        batteries: Batteries,
        days: VoltageDays,
        correct: Correct | None = None,
        carry_soc: bool = False,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(_DayEpisodes(network, batteries, days, correct, carry_soc), render_mode)


class VoltageVectorEnv(BatchedEnv["_DayEpisodes"]):
    """The environment of `num_envs` days at once, in arrays throughout.

    Arguments, errors and `info` are those of `VoltageEnv`, batch first. Where a day ends, the step
    returns the first observation of another, and the last one in `info["final_obs"]`, valid where
    `info["_final_obs"]`. `reset(options={"day": k, "soc": ...})` takes one day for all or
    (num_envs,) of them, SOC (n_bat,) or (num_envs, n_bat).
    """

    def __init__(
        self,
        network: Network,
        batteries: Batteries,
        days: VoltageDays,
        num_envs: int = 64,
        correct: Correct | None = None,
        carry_soc: bool = False,
        render_mode: str | None = None,
    ) -> None:
        episodes = _DayEpisodes(network, batteries, days, correct, carry_soc)
        super().__init__(episodes, num_envs, render_mode)


class _DayEpisodes:
    """A batch of feeders, each at its own day and step; both environments are made of it."""

    def __init__(
        self,
        network: Network,
        batteries: Batteries,
        days: VoltageDays,
        correct: Correct | None,
        carry_soc: bool,
    ) -> None:
        if not len(days):
            raise ValueError(f"{network.name}: there are no days; give at least one")
        check_feeder(network, days)
        if not len(batteries):
            raise ValueError(
                f"{network.name}: there are no batteries; give at least one, or there is nothing "
                "to act with"
            )
        check_batteries(network, batteries, days.n_step, days.step_h)
        check_observable(network, days)
        self.network, self.batteries, self.days = network, batteries, days
        self.correct, self.carry_soc = correct, carry_soc
        self.rules = step_rules(network)
        p_net, q_net = (net.reshape(-1, network.n_bus) for net in net_demand(network, days))
        v_idle = idle_voltages(network, days).reshape(p_net.shape)
        step = np.tile(np.arange(days.n_step), len(days))
        soc = np.tile(batteries.soc_start, (len(step), 1))
        self.known = VoltageState(p_net, q_net, v_idle, soc, step)
        # All of an observation but SOC is known beforehand.
        self.shown = observe(network, batteries, self.known, days.n_step)
        self.shown_soc = soc_columns(network, batteries)
        self.at_midnight = self.shown[0, -2:]
        # The pool says how far demand and voltage go; an unbounded space would say nothing.
        self.observation_space = Box(
            min(float(self.shown.min()), -1.0),
            max(float(self.shown.max()), 1.0),
            self.shown.shape[1:],
            np.float32,
        )
        self.action_space = Box(-1.0, 1.0, (len(batteries),), np.float32)
        self.day: IntArray = np.zeros(0, dtype=np.int64)
        self.step_of_day: IntArray = np.zeros(0, dtype=np.int64)
        self.soc: FloatArray = np.zeros((0, len(batteries)))
        self.ended: BoolArray = np.zeros(0, dtype=bool)

    @property
    def row(self) -> IntArray:
        """The row of the pool that each feeder is at; after the last step of a day, that step's."""
        return self.day * self.days.n_step + np.minimum(self.step_of_day, self.days.n_step - 1)

    def begin(
        self, rng: np.random.Generator, n: int, options: dict[str, Any], afresh: bool
    ) -> None:
        """Begin episodes in all n feeders; `afresh` or with options no SOC is carried over."""
        check_options(options, ("day", "soc"))
        if afresh or options or len(self.day) != n or not self.carry_soc:
            asked = options.get("day")
            n_day = len(self.days)
            self.day = (
                rng.integers(0, n_day, n)
                if asked is None
                else asked_numbers("day", asked, n, n_day)
            )
            self.soc = self._asked_soc(options.get("soc"), n)
            self.step_of_day, self.ended = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
        else:
            self.begin_where(rng, np.ones(n, dtype=bool))

    def begin_where(self, rng: np.random.Generator, ended: BoolArray) -> None:
        """Begin the next episode of the feeders (n,) where one has ended."""
        n_day = len(self.days)
        if self.carry_soc:
            self.day[ended] = (self.day[ended] + 1) % n_day
        else:
            self.day[ended] = rng.integers(0, n_day, int(ended.sum()))
            self.soc[ended] = self.batteries.soc_start
        self.step_of_day[ended] = 0
        self.ended[ended] = False

    def observe(self) -> Float32Array:
        """Return the observations of all feeders, (n, n_observation)."""
        row = self.row
        over = self.step_of_day >= self.days.n_step
        if over.any():
            following = (self.day + 1) % len(self.days)
            known = self.days.date[following] - self.days.date[self.day] == np.timedelta64(1, "D")
            row = np.where(over & known, following * self.days.n_step, row)
        observations = self.shown[row]
        observations[over, -2:] = self.at_midnight
        observations[:, self.shown_soc] = self.soc
        return observations

    def place(self) -> dict[str, Any]:
        """Return day, step and SOC of each feeder."""
        return {"day": self.day.copy(), "step": self.step_of_day.copy(), "soc": self.soc.copy()}

    def step(self, actions: ArrayLike) -> tuple[FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Return rewards, which grids collapsed, which days are over, and `info`."""
        check_running(len(self.day) > 0 and not self.ended.any())
        network, batteries, step_h = self.network, self.batteries, self.days.step_h
        proposed = _checked_actions(network, batteries, len(self.day), actions) * batteries.p_max
        row = self.row
        p_net, q_net = self.known.p_net[row], self.known.q_net[row]
        if self.correct is not None:
            state = VoltageState(
                p_net,
                q_net,
                self.known.v_idle[row],
                self.soc.copy(),
                self.step_of_day.copy(),
                step_h,
                self.days.n_step,
            )
            proposed = _checked_correction(
                network, batteries, self.correct(state, proposed), proposed.shape
            )
        power = allowed_power(batteries, self.soc, proposed, step_h)
        flow = solve_power_flow(network, p_net + battery_demand(network, batteries, power), q_net)
        v = np.abs(flow.voltage)
        p_kw = 1e3 * network.base_mva * power
        info: dict[str, Any] = {"day": self.day.copy(), "step": self.step_of_day.copy()}
        self.soc = next_soc(batteries, self.soc, power, step_h)
        self.step_of_day = self.step_of_day + 1
        terminated = ~flow.converged
        truncated = (self.step_of_day >= self.days.n_step) & ~terminated
        self.ended = terminated | truncated
        info |= {
            "soc": self.soc.copy(),
            "applied_action": np.divide(
                power, batteries.p_max, out=np.zeros_like(power), where=batteries.p_max > 0
            ).astype(np.float32),
            "v": v,
            "n_violations": (self.rules.bus_excess(v) > SAFE_TOLERANCE_PU).sum(axis=1),
            "worst_excess_pu": np.maximum(self.rules.band_excess(v), 0.0),
            "regulation_kwh": step_h * np.abs(p_kw).sum(axis=1),
        }
        return self.rules.reward(p_kw, v), terminated, truncated, info

    def _asked_soc(self, asked: ArrayLike | None, n: int) -> FloatArray:
        batteries, n_bat = self.batteries, len(self.batteries)
        soc = np.asarray(batteries.soc_start if asked is None else asked, dtype=float)
        inside = (
            (soc >= batteries.soc_min) & (soc <= batteries.soc_max)
            if soc.shape in ((n_bat,), (n, n_bat))
            else False
        )
        if not np.all(inside):
            raise ValueError(
                f"options: soc of shape {soc.shape} does not fit; give ({n_bat},) or ({n}, "
                f"{n_bat}) fractions inside the SOC limits of the batteries"
            )
        return np.array(np.broadcast_to(soc, (n, n_bat)))


def _checked_actions(
    network: Network, batteries: Batteries, n: int, actions: ArrayLike
) -> FloatArray:
    numbers = np.asarray(actions, dtype=float)
    if numbers.shape != (n, len(batteries)):
        raise ValueError(
            f"{network.name}: actions have shape {numbers.shape}; expected ({n}, "
            f"{len(batteries)}), one number per battery"
        )
    if np.isnan(numbers).any():
        item, k = np.argwhere(np.isnan(numbers))[0]
        raise ValueError(
            f"{network.name}: action {item} is NaN for battery {batteries.name[k]!r}; give numbers "
            "between -1 and 1"
        )
    return np.asarray(np.clip(numbers, -1.0, 1.0))


def _checked_correction(
    network: Network, batteries: Batteries, power: ArrayLike, shape: tuple[int, ...]
) -> FloatArray:
    try:
        corrected = np.asarray(power, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(
            f"{network.name}: `correct` returned {type(power).__name__}, not powers; return finite "
            "pu, one per battery: of a safety layer's answer return its .p"
        ) from None
    if corrected.shape != shape or not np.isfinite(corrected).all():
        what = f"has shape {corrected.shape}, expected {shape}"
        if corrected.shape == shape:
            item, k = np.argwhere(~np.isfinite(corrected))[0]
            what = f"is {corrected[item, k]:g} for battery {batteries.name[k]!r} of item {item}"
        raise ValueError(
            f"{network.name}: the corrected power {what}; `correct` must return finite pu, one per "
            "battery"
        )
    return corrected
