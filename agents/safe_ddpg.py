"""Safe exploration with one learned linear model per constraint: a layer that knows no feeder.

Source: Dalal et al., Safe Exploration in Continuous Action Spaces, arXiv:1801.08757, 2018.
Observation s, action a in [-1, 1] per battery. At every judged bus i, x_i = 2 (V_i - V_mid) /
(v_max - v_min), so that -1..1 is the band. The observation shows x_i(s) with batteries idle. The
effect of an action is taken to be linear. A network learns its slopes g_i from random actions:

    (1)  x_i(s, a) ~ x_i(s) + g_i(s)' a,   g fitted by the mean square error of (1)
    (2)  c_i+ = x_i - 1 + margin <= 0,   c_i- = -1 + margin - x_i <= 0

Each bus has two constraints, of slopes g_i and -g_i. One network with an output for each bus and
battery serves both, where the paper has a network for each constraint. Of all constraints c with
slope g, only the one that asks most is taken to be active. The nearest action that meets it has a
closed form, clipped to [-1, 1]:

    (3)  a* = a - lambda g,   lambda = max over constraints of [(g' a + c) / (g' g)]+,
         g that of the constraint of the maximum

(3) is made of torch operations, so gradients pass through it. While a constraint is active, they
are cut off along its g. (3) knows neither SOC nor power limits beyond [-1, 1]. It does not know
the constraints that it makes worse or leaves broken, and nothing certifies its answer.
`LinearSafetyLayer` cuts the answer to what the batteries' limits leave, in acting and in the
gradient. What is cut off has no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from feederguard.agents.environments.voltage import VoltageVectorEnv
from feederguard.agents.environments.voltage_observation import cut_to_limits, observe, soc_columns
from feederguard.agents.learning.one_thread import one_thread
from feederguard.models.arrays import Float32Array, FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import allowed_power
from feederguard.models.network import Network
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.days import check_steps
from feederguard.models.voltage_regulation.rules import judged_buses

# Of g' g: below it a bus is out of the batteries' reach, and its g is noise.
_SLOPE_FLOOR = 1e-3
_LAST_RATE = 0.01  # of the learning rate, at the end of the training of g
_MOVED = 1e-6  # of p_max: more than float32 rounds


def constants() -> dict[str, float]:
    """Return the constants of this module that decide what training gives, by name."""
    return {"slope_floor": _SLOPE_FLOOR, "last_rate": _LAST_RATE}


@dataclass(frozen=True)
class LinearSafetyConfig:
    """Settings of (1) and (2); defaults chosen on the train weeks of cigre_lv18."""

    samples: int = 20_000  # transitions of random actions to learn from
    hidden: tuple[int, ...] = (64,)  # widths of the hidden layers of g
    rate: float = 1e-3  # learning rate, lowered to a hundredth of it over the training
    batch: int = 256  # transitions per gradient step
    epochs: int = 20  # passes over the transitions
    margin: float = 0.05  # of half the band's width, kept from either limit
    seed: int = 0  # of actions, parameters and order

    def __post_init__(self) -> None:
        for name in ("samples", "batch", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"LinearSafetyConfig: {name} is {getattr(self, name)}; it must be at least 1"
                )
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"LinearSafetyConfig: hidden is {self.hidden}; give the width of at least one layer"
            )
        if not self.rate > 0:
            raise ValueError(f"LinearSafetyConfig: rate is {self.rate}; it must be positive")
        if not 0 <= self.margin < 1:
            raise ValueError(
                f"LinearSafetyConfig: margin is {self.margin}; it must be at least 0 and below 1"
            )


@dataclass(frozen=True, eq=False)
class VoltageTransitions:
    """Transitions of random actions: observations before, actions applied, voltages after."""

    observations: Float32Array  # (B, n_observation)
    actions: Float32Array  # (B, n_bat) in [-1, 1], as the grid received them
    v: FloatArray  # (B, n_bus) pu

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class SlopeQuality:
    """How well (1) predicts the voltages of transitions."""

    r2: float  # share of the variance of V - V_idle that (1) explains, all buses together
    mean_error_pu: float
    max_error_pu: float


class LinearSafety:
    """The learned slopes of one feeder and its batteries, and the correction (3). Made by `fit`.

    Raises ValueError for a battery without power, whose slope no action could show.
    """

    def __init__(
        self, network: Network, batteries: Batteries, config: LinearSafetyConfig | None = None
    ) -> None:
        self.network, self.batteries, self.config = (
            network,
            batteries,
            config or LinearSafetyConfig(),
        )
        idle = np.flatnonzero(batteries.p_max <= 0)
        if idle.size:
            raise ValueError(
                f"{network.name}: battery {batteries.name[idle[0]]!r} has no power; safe DDPG "
                "needs p_max above zero, or leave the battery out"
            )
        self._bus = judged_buses(network)
        first = soc_columns(network, batteries).start
        self._shown = slice(first - len(self._bus), first)
        low, high = network.v_min[self._bus], network.v_max[self._bus]
        # As the observation scales them.
        self._middle, self._reach = (low + high) / 2, np.maximum((high - low) / 2, 1e-3)
        self._slopes: nn.Sequential | None = None

    @classmethod
    def fit(
        cls,
        source: VoltageVectorEnv | VoltageTransitions,
        config: LinearSafetyConfig | None = None,
        network: Network | None = None,
        batteries: Batteries | None = None,
    ) -> LinearSafety:
        """Return the safety learned from transitions, or from an environment.

        In an environment random actions are tried first. network and batteries: those that the
        transitions are of; an environment knows its own. Raises ValueError when transitions come
        without them, hold nothing, or hold a value that is not finite.
        """
        if isinstance(source, VoltageVectorEnv):
            network, batteries = source.episodes.network, source.episodes.batteries
            config = config or LinearSafetyConfig()
            source = try_random_actions(source, config.samples, config.seed)
        if network is None or batteries is None:
            raise ValueError(
                "LinearSafety.fit: say which network and batteries the transitions are of"
            )
        safety = cls(network, batteries, config)
        safety._learn(source)
        return safety

    def correct(self, observations: ArrayLike, actions: ArrayLike) -> Float32Array:
        """Return the corrected actions, (B, n_bat) in [-1, 1].

        observations: (B, n_observation); actions: (B, n_bat). Raises ValueError when a shape does
        not fit or a value is not finite, and before `fit`.
        """
        seen, acted = self._read(observations, actions)
        with torch.no_grad(), one_thread():
            return np.asarray(self.project(torch.from_numpy(seen), torch.from_numpy(acted)).numpy())

    def project(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return (3) of actions in [-1, 1], (B, n_bat), differentiable in the actions.

        observations: (B, n_observation).
        """
        with torch.no_grad():
            g = self.slopes(observations)
            square = g.square().sum(dim=2).clamp(min=_SLOPE_FLOOR)
            within = g.square().sum(dim=2) > _SLOPE_FLOOR
        x = observations[:, self._shown] + torch.einsum("bmn,bn->bm", g, actions)
        limit = 1.0 - self.config.margin
        asked = torch.cat([(x - limit) / square, (-limit - x) / square], dim=1)
        asked = torch.where(within.repeat(1, 2), asked, torch.zeros_like(asked)).clamp(min=0.0)
        most, which = asked.max(dim=1)
        n = g.shape[1]
        sign = torch.where(which < n, 1.0, -1.0)
        direction = sign[:, None] * g[torch.arange(len(g)), which % n]
        corrected: Tensor = actions - most[:, None] * direction
        # An action that no constraint asks to move stays as it is, to the last bit.
        return torch.where((most > 0)[:, None], corrected.clamp(-1.0, 1.0), actions)

    def slopes(self, observations: Tensor) -> Tensor:
        """Return g, (B, n_judged, n_bat) in half bands per unit of action.

        Raises ValueError before `fit`.
        """
        if self._slopes is None:
            raise ValueError(
                "LinearSafety: no slopes learned yet; make it with LinearSafety.fit(...)"
            )
        g: Tensor = self._slopes(observations)
        return g.reshape(len(observations), len(self._bus), len(self.batteries))

    def quality(self, transitions: VoltageTransitions) -> SlopeQuality:
        """Return how well (1) predicts the voltages of transitions.

        Give transitions that it was not fitted to.
        """
        seen, actions, moved = self._training_arrays(transitions)
        with torch.no_grad(), one_thread():
            said = torch.einsum("bmn,bn->bm", self.slopes(seen), actions)
        missed = (said - moved).numpy() * self._reach
        true = moved.numpy() * self._reach
        r2 = 1.0 - float(
            (missed**2).sum() / max(float(((true - true.mean(axis=0)) ** 2).sum()), 1e-30)
        )
        return SlopeQuality(r2, float(np.abs(missed).mean()), float(np.abs(missed).max()))

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters of g by name, to be saved with an agent's.

        Raises ValueError before `fit`.
        """
        if self._slopes is None:
            raise ValueError(
                "LinearSafety: no slopes learned yet; make it with LinearSafety.fit(...)"
            )
        return {f"slopes.{name}": value for name, value in self._slopes.state_dict().items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over the parameters that `tensors` of another safety returned.

        Raises ValueError when the sizes differ.
        """
        width = tensors["slopes.0.weight"].shape[1] if "slopes.0.weight" in tensors else 0
        net = self._network_of(width)
        own = {f"slopes.{name}": tuple(value.shape) for name, value in net.state_dict().items()}
        given = {name: tuple(value.shape) for name, value in tensors.items()}
        odd = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        if odd:
            raise ValueError(
                f"LinearSafety: {odd[0]} has shape {given.get(odd[0], 'none')}; this one has "
                f"{own.get(odd[0], 'none')}: make it with the feeder, batteries and hidden layers "
                "it was saved with"
            )
        net.load_state_dict(
            {name.removeprefix("slopes."): value for name, value in tensors.items()}
        )
        self._slopes = net

    def _learn(self, transitions: VoltageTransitions) -> None:
        """Fit the slopes of (1)."""
        config = self.config
        seen, actions, moved = self._training_arrays(transitions)
        generator = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(config.seed)
            self._slopes = self._network_of(seen.shape[1])
            optimizer = torch.optim.Adam(self._slopes.parameters(), config.rate)
            steps = config.epochs * -(-len(seen) // config.batch)
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda k: max(_LAST_RATE, 1.0 - k / steps)
            )
            for _ in range(config.epochs):
                order = torch.randperm(len(seen), generator=generator)
                for rows in order.split(config.batch):  # type: ignore[no-untyped-call]
                    said = torch.einsum("bmn,bn->bm", self.slopes(seen[rows]), actions[rows])
                    loss = (said - moved[rows]).square().mean()
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    schedule.step()
        for parameter in self._slopes.parameters():
            parameter.requires_grad_(False)

    def _network_of(self, n_observation: int) -> nn.Sequential:
        widths = (n_observation, *self.config.hidden)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], len(self._bus) * len(self.batteries)))

    def _training_arrays(self, transitions: VoltageTransitions) -> tuple[Tensor, Tensor, Tensor]:
        """Return observations, actions and x(s, a) - x(s) of transitions with an AC solution."""
        seen, actions = self._read(transitions.observations, transitions.actions)
        v = np.asarray(transitions.v, dtype=float)
        solved = np.isfinite(v).all(axis=1)
        if not solved.any():
            raise ValueError(
                f"{self.network.name}: no transition has voltages; give some whose AC power flow "
                "has a solution"
            )
        after = (v[:, self._bus] - self._middle) / self._reach
        moved = (after - seen[:, self._shown])[solved].astype(np.float32)
        return (
            torch.from_numpy(seen[solved]),
            torch.from_numpy(actions[solved]),
            torch.from_numpy(moved),
        )

    def _read(
        self, observations: ArrayLike, actions: ArrayLike
    ) -> tuple[Float32Array, Float32Array]:
        seen, acted = (np.asarray(array, dtype=np.float32) for array in (observations, actions))
        least = self._shown.stop + len(self.batteries)
        if seen.ndim != 2 or seen.shape[1] < least:
            raise ValueError(
                f"{self.network.name}: observations have shape {seen.shape}; expected rows of "
                f"`observe`, (B, {least + 2})"
            )
        if acted.shape != (len(seen), len(self.batteries)):
            raise ValueError(
                f"{self.network.name}: actions have shape {acted.shape}; expected "
                f"{(len(seen), len(self.batteries))}"
            )
        for name, array in (("observation", seen), ("action", acted)):
            if not np.isfinite(array).all():
                raise ValueError(
                    f"{self.network.name}: {name} {np.argwhere(~np.isfinite(array))[0][0]} is not "
                    "finite; give numbers"
                )
        return seen, acted


@dataclass(frozen=True, eq=False)
class LinearCorrection:
    """The answer of `LinearSafetyLayer.correct`."""

    p: FloatArray  # (B, n_bat) pu, to be applied
    status: IntArray  # (B,) position in `LinearSafetyLayer.statuses`


class LinearSafetyLayer:
    """A `LinearSafety` in the places of a `SafetyLayer`: in acting and in the actor's gradient.

    Powers are in pu. n_step and step_h: steps of a day and hours of a step.
    """

    statuses: tuple[str, ...] = ("as_proposed", "corrected")
    fallbacks: int = 0  # (3) always has an answer
    tube: SocTube | None = None  # it knows none

    def __init__(self, safety: LinearSafety, n_step: int, step_h: float) -> None:
        self.safety, self.n_step, self.step_h = safety, n_step, step_h
        self.network, self.batteries = safety.network, safety.batteries

    def correct(self, state: VoltageState, p_proposed: FloatArray) -> LinearCorrection:
        """Return the corrected powers, (B, n_bat) pu.

        Raises ValueError as `LinearSafety.correct`, and for states of days of another step or
        length.
        """
        p_max = self.batteries.p_max
        action = np.asarray(p_proposed, dtype=float) / p_max
        answer = self.safety.correct(self._observations(state), action).astype(float)
        moved = np.abs(answer - action).max(axis=1, initial=0.0) > _MOVED
        return LinearCorrection(
            allowed_power(self.batteries, state.soc, answer * p_max, self.step_h),
            moved.astype(np.int64),
        )

    def project_ac(self, state: VoltageState, p_proposed: Tensor) -> Tensor:
        """Return the corrected powers, (B, n_bat) pu, differentiable in the proposals."""
        p_max = torch.from_numpy(np.array(self.batteries.p_max)).to(p_proposed)
        seen = torch.from_numpy(self._observations(state)).to(p_proposed)
        answer = self.safety.project(seen, p_proposed / p_max)
        return cut_to_limits(self.batteries, state.soc, answer, self.step_h) * p_max

    def _observations(self, state: VoltageState) -> Float32Array:
        check_steps(
            f"{self.network.name}: the learned safety layer", self.step_h, self.n_step, state
        )
        return observe(self.safety.network, self.safety.batteries, state, self.n_step)


def try_random_actions(env: VoltageVectorEnv, samples: int, seed: int = 0) -> VoltageTransitions:
    """Return at least `samples` transitions of random actions.

    Days end and begin as the environment says. Each action is a random share of a random direction,
    so that small actions are tried as well as large ones. Raises ValueError when samples is not
    positive.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; try at least one action")
    rng = np.random.default_rng(seed)
    observations, _ = env.reset(seed=seed)
    n_bat = env.single_action_space.shape[0]  # type: ignore[index]
    found: list[tuple[Float32Array, Float32Array, FloatArray]] = []
    for _ in range(-(-samples // env.num_envs)):
        size = rng.uniform(0.0, 1.0, (env.num_envs, 1))
        actions = (size * rng.uniform(-1.0, 1.0, (env.num_envs, n_bat))).astype(np.float32)
        following, _, _, _, info = env.step(actions)
        found.append((observations, info["applied_action"], info["v"]))
        observations = following
    return VoltageTransitions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
