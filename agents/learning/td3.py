"""DDPG and TD3: a deterministic policy for actions between 0 and 1, and the critics that teach it.

Source: Zhou et al., Energy Engineering 121(6), 2024, section 3.2, whose equation numbers are used.
Observation s, action a, reward r; s', a' of the next step; theta, w the parameters of actor and
critic, theta', w' of their targets.

    (12)  grad J = E[grad_theta pi(s) grad_a Q(s, a)] at a = pi(s)
    (13)  a = pi(s)
    (14)  Q(s, a)
    (15)  max over theta of Q(s, pi(s))
    (16)  min over w of |Q(s, a) - (r + gamma Q'(s', a'))|^2,
          the last term only where the episode goes on
    (17)  theta' <- tau theta + (1 - tau) theta',  w' <- tau w + (1 - tau) w'

TD3 adds three things, each a field of the configuration: the lower of two critics in (16), noise on
a' in (16), and an actor that learns at every second step of the critics only. Without them it is
DDPG: `TD3Config.ddpg()`.

Bounds. An action often ends exactly at 0 or 1 (no shedding). A sigmoid only approaches these, and
has no gradient left there. The actor is linear at its end instead, clipped to [0, 1]. In the
backward pass through the clip,

    (a)  a gradient that would push a number further beyond [0, 1] is reversed and multiplied by
         its distance beyond

so that numbers rest at the bound, and leave it at once where the critic says so. `project`, where
given, maps actions to those that are carried out (a safety layer), and is differentiated in (15).

`known_reward`, where given, is the part k(s, a) of the reward that follows from the actions carried
out, such as their cost. The critics then learn only the rest of Q, and (15) takes the gradient of k
directly:

    (b)  Q(s, a) = k(s, a) + Q~(s, a),   Q~ learned towards r - k(s, a) + gamma Q'(s', a')

Only what has to be approximated changes. A network's gradient of a sum of absolute values is poor
at 0, where it matters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from feederguard.agents.learning.one_thread import one_thread
from feederguard.agents.learning.replay import Replay
from feederguard.models.arrays import Float32Array

# Observations (B, n_observation), actions (B, n_action) -> actions.
Projection = Callable[[Tensor, Tensor], Tensor]
# Observations, actions carried out -> (B,) part of the reward.
KnownReward = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TD3Config:
    """Settings of the learner. Noise is in units of the actions, which lie in [0, 1]."""

    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers, actor and critics alike
    actor_rate: float = 3e-4  # learning rate of the actor
    critic_rate: float = 1e-3  # learning rate of the critics
    tau: float = 0.1  # weight of the new parameters in (17)
    gamma: float = 0.9  # discount of (16)
    batch: int = 256  # transitions per gradient step
    memory: int = 100_000  # transitions remembered
    marked_share: float = 0.0  # share of a batch drawn from the marked transitions
    warmup: int = 1_000  # transitions to remember before learning begins
    noise: float = 0.1  # standard deviation of the exploration noise
    redraw: float = 0.0  # probability that exploration redraws a component from [0, 1]
    twin: bool = True  # TD3: two critics, the lower one believed
    policy_delay: int = 2  # TD3: steps of the critics per step of the actor
    target_noise: float = 0.1  # TD3: standard deviation of the noise on a'
    target_clip: float = 0.2  # TD3: largest noise on a'
    seed: int = 0  # of parameters, noise and replay

    def __post_init__(self) -> None:
        for name, low in (
            ("batch", 1),
            ("memory", 1),
            ("policy_delay", 1),
            ("warmup", 0),
            ("noise", 0),
        ):
            if not getattr(self, name) >= low:
                raise ValueError(
                    f"TD3Config: {name} is {getattr(self, name)}; it must be at least {low}"
                )
        for name in ("actor_rate", "critic_rate"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"TD3Config: {name} is {getattr(self, name)}; it must be zero or more"
                )
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"TD3Config: hidden is {self.hidden}; give the width of at least one layer"
            )
        for name in ("target_noise", "target_clip"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"TD3Config: {name} is {getattr(self, name)}; it must be zero or more"
                )
        for name in ("tau", "gamma", "redraw", "marked_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"TD3Config: {name} is {getattr(self, name)}; it must lie between 0 and 1"
                )

    @classmethod
    def ddpg(cls, **changes: Any) -> TD3Config:
        """Return DDPG: one critic, no noise on a', an actor that learns at every step."""
        return replace(cls(twin=False, policy_delay=1, target_noise=0.0), **changes)


class Td3:
    """A learner that knows the sizes of its two spaces and nothing else.

    start: actions (n_action,) that the untrained policy proposes, default 0.5. One seed gives the
    same numbers every time: parameters, noise and replay draw from generators of their own.
    Products are formed on one thread, since the order of a sum depends on how many share it.
    """

    def __init__(
        self,
        n_observation: int,
        n_action: int,
        config: TD3Config | None = None,
        project: Projection | None = None,
        start: ArrayLike | None = None,
        known_reward: KnownReward | None = None,
    ) -> None:
        self.config = config or TD3Config()
        self.n_observation, self.n_action = n_observation, n_action
        self._project = project
        self._known_reward = known_reward
        self.memory = Replay(self.config.memory, n_observation, n_action, self.config.seed)
        self._generator = torch.Generator().manual_seed(self.config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.actor = _actor(
                n_observation, n_action, self.config.hidden, 0.5 if start is None else start
            )
            widths = (n_observation + n_action, *self.config.hidden, 1)
            self.critics = nn.ModuleList(
                [_layers(widths) for _ in range(2 if self.config.twin else 1)]
            )
        self.target_actor, self.target_critics = (
            copy.deepcopy(self.actor),
            copy.deepcopy(self.critics),
        )
        # Parameters listed once: walking the modules takes longer than a step of a small network.
        self._actor_parameters, self._critic_parameters = (
            list(self.actor.parameters()),
            list(self.critics.parameters()),
        )
        self._following = [*self.target_actor.parameters(), *self.target_critics.parameters()]
        self._actor_step = torch.optim.Adam(
            self._actor_parameters, self.config.actor_rate, fused=True
        )
        self._critic_step = torch.optim.Adam(
            self._critic_parameters, self.config.critic_rate, fused=True
        )
        self._n_learned = 0

    def act(self, observations: ArrayLike, explore: bool = False) -> Float32Array:
        """Return actions (B, n_action) in [0, 1] for observations (B, n_observation), projected.

        Raises ValueError for observations of another shape, or that are not finite.
        """
        proposed = self.propose(observations, explore)
        if self._project is None:
            return proposed
        with torch.no_grad(), one_thread():
            seen = torch.from_numpy(np.asarray(observations, dtype=np.float32))
            return np.asarray(self._projected(seen, torch.from_numpy(proposed)).numpy())

    def propose(self, observations: ArrayLike, explore: bool = False) -> Float32Array:
        """Return the policy's own actions, before any projection.

        For an environment that corrects by itself. Raises ValueError as `act`.
        """
        seen = np.asarray(observations, dtype=np.float32)
        if seen.ndim != 2 or seen.shape[1] != self.n_observation:
            raise ValueError(
                f"Td3: observations have shape {seen.shape}; expected (B, {self.n_observation}), "
                "as this agent was built for"
            )
        if not np.isfinite(seen).all():
            raise ValueError(
                "Td3: an observation holds a value that is not finite; check the demand it was "
                "made from"
            )
        with torch.no_grad(), one_thread():
            actions = _bounded(self.actor(torch.from_numpy(seen)))
            return np.asarray((self._explored(actions) if explore else actions).numpy())

    def remember(
        self,
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        next_observations: ArrayLike,
        terminated: ArrayLike,
        marked: ArrayLike | None = None,
    ) -> None:
        """Store B transitions; `actions` are those the environment carried out.

        terminated: (B,) leaves truncation out. marked: (B,) bool, those that `marked_share` of
        every batch is drawn from.
        """
        self.memory.add(observations, actions, rewards, next_observations, terminated, marked)

    def learn(self, steps: int = 1, rate_share: float = 1.0) -> float:
        """Take gradient steps and return the last loss (16).

        NaN while the memory holds fewer than `warmup`. rate_share: share of the configured learning
        rates to take, for a schedule that lowers them.
        """
        loss = float("nan")
        if len(self.memory) < max(self.config.warmup, 1):
            return loss
        self._set_rate(self._actor_step, self.config.actor_rate * rate_share)
        self._set_rate(self._critic_step, self.config.critic_rate * rate_share)
        with one_thread():
            for _ in range(steps):
                loss = self._learn_once()
        return loss

    def targets(self, rewards: Tensor, next_observations: Tensor, terminated: Tensor) -> Tensor:
        """Return the target of (16) for Q, (B,); the critics learn it less the known reward."""
        with torch.no_grad():
            actions = _bounded(self.target_actor(next_observations))
            if self.config.target_noise > 0:
                noise = self.config.target_noise * self._normal(actions)
                actions = (
                    actions + noise.clamp(-self.config.target_clip, self.config.target_clip)
                ).clamp(0.0, 1.0)
            actions = self._projected(next_observations, actions)
            values = _values(self.target_critics, next_observations, actions).amin(dim=0)
            values = values + self._known(next_observations, actions)
            return rewards + self.config.gamma * (1.0 - terminated) * values

    def tensors(self) -> dict[str, Tensor]:
        """Return every parameter of actor, critics and targets by name, to be saved."""
        return {
            f"{part}.{name}": value
            for part, net in self._nets().items()
            for name, value in net.state_dict().items()
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` of an agent of the same sizes returned.

        Raises ValueError when the sizes differ.
        """
        own = {name: tuple(value.shape) for name, value in self.tensors().items()}
        given = {name: tuple(value.shape) for name, value in tensors.items()}
        odd = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        if odd:
            raise ValueError(
                f"Td3: {odd[0]} has shape {given.get(odd[0], 'none')}; this agent has "
                f"{own.get(odd[0], 'none')}: build it with the sizes and hidden layers it was "
                "saved with"
            )
        for part, net in self._nets().items():
            net.load_state_dict({name: tensors[f"{part}.{name}"] for name in net.state_dict()})

    @staticmethod
    def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate

    def _nets(self) -> dict[str, nn.Module]:
        return {
            "actor": self.actor,
            "critics": self.critics,
            "target_actor": self.target_actor,
            "target_critics": self.target_critics,
        }

    def _learn_once(self) -> float:
        batch = self.memory.sample(self.config.batch, self.config.marked_share)
        observations, actions, rewards, following, terminated = (
            torch.from_numpy(a) for a in vars(batch).values()
        )
        # Where every item ended there is nothing to bootstrap from, and two of six passes are
        # saved.
        wanted = rewards if batch.terminated.all() else self.targets(rewards, following, terminated)
        wanted = wanted - self._known(observations, actions)
        loss = (_values(self.critics, observations, actions) - wanted).square().mean(dim=1).sum()
        self._critic_step.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._critic_step.step()
        self._n_learned += 1
        if self._n_learned % self.config.policy_delay == 0:
            self._improve(observations)
            self._follow()
        return float(loss.detach())

    def _improve(self, observations: Tensor) -> None:
        """One step of (12), (15)."""
        actions = self._projected(observations, _bounded(self.actor(observations)))
        loss = -(
            _values(self.critics[:1], observations, actions)[0] + self._known(observations, actions)
        ).mean()
        # Gradients of the actor alone: those of the critics, on the way, are not formed.
        gradients = torch.autograd.grad(loss, self._actor_parameters)
        for parameter, gradient in zip(self._actor_parameters, gradients, strict=True):
            parameter.grad = gradient
        self._actor_step.step()

    @torch.no_grad()
    def _follow(self) -> None:
        """(17)."""
        for target, own in zip(
            self._following, [*self._actor_parameters, *self._critic_parameters], strict=True
        ):
            target.lerp_(own, self.config.tau)

    def _explored(self, actions: Tensor) -> Tensor:
        """Return noisy actions, from none to full noise: critics must know the policy's own."""
        level = torch.rand((len(actions), 1), generator=self._generator)
        actions = (actions + level * self.config.noise * self._normal(actions)).clamp(0.0, 1.0)
        redrawn = torch.rand(actions.shape, generator=self._generator) < level * self.config.redraw
        return torch.where(redrawn, torch.rand(actions.shape, generator=self._generator), actions)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator)

    def _known(self, observations: Tensor, actions: Tensor) -> Tensor:
        return (
            torch.zeros(())
            if self._known_reward is None
            else self._known_reward(observations, actions)
        )

    def _projected(self, observations: Tensor, actions: Tensor) -> Tensor:
        return actions if self._project is None else self._project(observations, actions)


def _bounded(raw: Tensor) -> Tensor:
    actions: Tensor = _Bounded.apply(raw)  # type: ignore[no-untyped-call]
    return actions


class _Bounded(torch.autograd.Function):
    """Clip to [0, 1] going forward, (a) coming back."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        ctx.save_for_backward(raw)
        return raw.clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (raw,) = ctx.saved_tensors
        outside = raw - raw.clamp(0.0, 1.0)
        # A loss falls against its gradient: a negative one pushes the number upwards.
        outwards = outside * gradient < 0
        return torch.where(outwards, -gradient * outside.abs(), gradient)


def _layers(widths: tuple[int, ...]) -> nn.Sequential:
    """Return linear layers with ReLU between them, the last one bare."""
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _actor(
    n_observation: int, n_action: int, hidden: tuple[int, ...], start: ArrayLike
) -> nn.Sequential:
    actor = _layers((n_observation, *hidden, n_action))
    last = actor[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.copy_(
            torch.as_tensor(
                np.broadcast_to(np.asarray(start, dtype=np.float32), (n_action,)).copy()
            )
        )
    return actor


def _values(critics: nn.ModuleList, observations: Tensor, actions: Tensor) -> Tensor:
    """Return (14) of each critic, (n_critic, B)."""
    inputs = torch.cat([observations, actions], dim=1)
    return torch.stack([critic(inputs)[:, 0] for critic in critics])
