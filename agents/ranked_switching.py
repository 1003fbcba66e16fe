"""Our load-transfer agent: a network ranks switch plans, AC power flow decides among the best.

What is learned: after each fault only some switch states are ever worth operating. Training solves
thousands of scenarios of train weeks by a deep search (`models/switching/search.py`) and keeps per
fault every plan that won one (the *playbook*). A small network learns by imitation to rank the
playbook from the observation (8), (9). For plan k of cost c_k, with c* the least of its scenario,

    (a)  target   q_k  proportional to  exp(-(c_k / c* - 1) / TEMPERATURE)
    (b)  loss     cross-entropy of softmax(scores of the fault's plans) against q

What decides: the `shortlist` best-ranked plans of the fault race each other with their least
shedding (`models/load_transfer/least_shedding.py`). A scenario that still sheds may try the plans
some exchanges away (`exchange_rounds`). So a wrong ranking costs money, never safety.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from feederguard.agents.corrections.certificate import Certificates, certify
from feederguard.agents.environments.load_transfer_actions import observe
from feederguard.agents.learning.checkpoint import (
    CheckpointError,
    agent_metadata,
    load_checkpoint,
    save_checkpoint,
)
from feederguard.agents.learning.one_thread import one_thread
from feederguard.models.arrays import BoolArray, Float32Array, FloatArray, IntArray
from feederguard.models.load_transfer import Decisions, Scenarios, Setting, resolve_setting
from feederguard.models.load_transfer.least_shedding import Candidates, race_topologies
from feederguard.models.load_transfer.scenario import Lost
from feederguard.models.network import Network
from feederguard.models.switching.fallback import Settled, settle
from feederguard.models.switching.plans import MOST_STATES, SwitchPlans
from feederguard.models.switching.search import search_plans

KIND = "ranked_switching"
TEMPERATURE = 0.02  # two per cent more cost is worth a factor e less
Layers = list[tuple[Float32Array, Float32Array]]
Progress = Callable[[str, int, int], None]  # what is going on, steps done, steps in all


@dataclass(frozen=True)
class RankedSwitchingConfig:
    """Settings of training and deciding."""

    shortlist: int = 4  # plans that race in a decision
    # Rounds of exchanges after the race, where load is still shed and states are many.
    exchange_rounds: int = 1
    beam: int = 4  # plans exchanged per round
    search_beam: int = 8  # the same two for the teacher, and after a fault that training never met
    search_rounds: int = 4
    # Plain plans, of few operations first, that the teacher's search starts from.
    search_start: int = 64
    # Share of the training pool that the deep search gets; the ranking gets all of it.
    search_share: float = 0.5
    hidden: int = 256
    epochs: int = 30
    batch: int = 256
    rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "shortlist",
            "beam",
            "search_beam",
            "search_start",
            "hidden",
            "epochs",
            "batch",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("exchange_rounds", "search_rounds", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be zero or more")
        if not 0 < self.search_share <= 1:
            raise ValueError(f"search_share is {self.search_share}; it lies in (0, 1]")
        if not self.rate > 0:
            raise ValueError(f"rate is {self.rate}; it must be positive")


@dataclass(frozen=True, eq=False)
class Playbook:
    """Switch states worth operating: after fault f the rows first[f]:first[f + 1] of closed."""

    first: IntArray  # (n_branch + 1,)
    closed: BoolArray  # (n_plan, n_branch)

    def __len__(self) -> int:
        return len(self.closed)


@dataclass(frozen=True)
class RankingCurve:
    """What the ranking had learned after each epoch, on the training scenarios themselves (epoch,).

    The shares are of the scenarios that some plan of the playbook makes safe.
    """

    epochs: tuple[int, ...]  # done
    loss: tuple[float, ...]  # mean of (b) over the epoch
    first_pct: tuple[float, ...]  # share whose cheapest plan is ranked first
    shortlist_pct: tuple[float, ...]  # share whose cheapest plan would race


class RankedSwitching:
    """A trained agent of one feeder and setting; made by `train` or `load`."""

    name = KIND
    # Of the training, where it was done here; files of agents do not hold it.
    curve: RankingCurve | None = None

    def __init__(
        self,
        network: Network,
        setting: Setting,
        playbook: Playbook,
        layers: Layers,
        config: RankedSwitchingConfig,
    ) -> None:
        self.network = network
        self.setting = setting
        self.playbook = playbook
        self.config = config
        self.plans = SwitchPlans(network, setting)
        self._layers = layers
        self._many_states = setting.radial or 2.0 ** int(self.plans.switchable.sum()) > MOST_STATES

    @classmethod
    def train(
        cls,
        network: Network,
        setting: str | Setting,
        scenarios: Scenarios,
        config: RankedSwitchingConfig | None = None,
        progress: Progress | None = None,
    ) -> RankedSwitching:
        """Return an agent trained on a pool of scenarios; one seed gives the same agent twice.

        Raises ValueError for a pool of another feeder, and as `resolve_setting`.
        """
        config = config or RankedSwitchingConfig()
        setting = resolve_setting(network, setting)
        if not len(scenarios):
            raise ValueError(
                f"{network.name}: no scenarios to train on; sample some of the train weeks"
            )
        observations = observe(network, scenarios)
        report = progress or (lambda what, done, of: None)
        plans = SwitchPlans(network, setting)
        n_search = max(1, int(config.search_share * len(scenarios)))
        playbook = _collect(plans, scenarios[:n_search], config, report)
        candidates, costs = _label(plans, playbook, scenarios, report)
        layers, curve = _fit(
            playbook, scenarios.fault, candidates, costs, observations, config, report
        )
        agent = cls(network, setting, playbook, layers, config)
        agent.curve = curve
        return agent

    def decide(self, scenarios: Scenarios) -> Decisions:
        """Return a safe decision for each scenario, wherever one was found.

        Raises ValueError as `observe`.
        """
        return self._decide(scenarios)[1].decisions

    def certify(self, scenarios: Scenarios) -> Certificates:
        """Return the decisions of `decide` with their certificates.

        What was proposed is the best-ranked plan with nothing shed.
        """
        begin = perf_counter()
        proposed, settled = self._decide(scenarios)
        return certify(self.network, self.setting, scenarios, proposed, settled, began=begin)

    def with_config(self, **changes: Any) -> RankedSwitching:
        """Return the same agent deciding with other settings, such as another shortlist."""
        return RankedSwitching(
            self.network, self.setting, self.playbook, self._layers, replace(self.config, **changes)
        )

    def save(self, path: str | Path) -> None:
        """Write the agent to a safetensors file; `load` reads it."""
        tensors: dict[str, NDArray[Any]] = {
            "playbook.first": self.playbook.first,
            "playbook.closed": self.playbook.closed,
        }
        for k, (weight, bias) in enumerate(self._layers):
            tensors |= {f"layers.{k}.weight": weight, f"layers.{k}.bias": bias}
        metadata = agent_metadata(KIND, self.network, self.setting) | {
            "config": json.dumps(asdict(self.config))
        }
        save_checkpoint(
            path, {name: torch.tensor(array) for name, array in tensors.items()}, metadata
        )

    @classmethod
    def load(
        cls, path: str | Path, network: Network, setting: str | Setting | None = None
    ) -> RankedSwitching:
        """Return the agent saved at `path`; setting None takes its own.

        Raises `CheckpointError` as `load_checkpoint`.
        """
        wanted = None if setting is None else resolve_setting(network, setting)
        checkpoint = load_checkpoint(path, kind=KIND, network=network, setting=wanted)
        try:
            tensors = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
            config = RankedSwitchingConfig(**json.loads(checkpoint.metadata["config"]))
            playbook = Playbook(tensors["playbook.first"], tensors["playbook.closed"])
            n_layer = sum(name.endswith("weight") for name in tensors)
            layers = [
                (tensors[f"layers.{k}.weight"], tensors[f"layers.{k}.bias"]) for k in range(n_layer)
            ]
            _check_fit(network, playbook, layers)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path}: its agent does not fit together ({error}); train and save again"
            ) from error
        return cls(network, checkpoint.setting, playbook, layers, config)

    def scores(self, observations: ArrayLike) -> Float32Array:
        """Return the score of every plan of the playbook, (B, n_plan).

        observations: (B, n_branch + 3 n_bus). Raises ValueError for another shape or a value that
        is not finite.
        """
        width = self.network.n_branch + 3 * self.network.n_bus
        values = np.asarray(observations, dtype=np.float32)
        if values.ndim != 2 or values.shape[1] != width:
            raise ValueError(
                f"{self.network.name}: observations have shape {values.shape}; expected (B, "
                f"{width})"
            )
        if not np.isfinite(values).all():
            raise ValueError(
                f"{self.network.name}: an observation holds a value that is not finite; give "
                "numbers"
            )
        for k, (weight, bias) in enumerate(self._layers):
            values = values @ weight.T + bias
            if k + 1 < len(self._layers):
                values = np.maximum(values, 0.0)
        return values

    def _decide(self, scenarios: Scenarios) -> tuple[Decisions, Settled]:
        """Return the best-ranked plans with nothing shed, and what is decided."""
        start = self._shortlists(scenarios, self.scores(observe(self.network, scenarios)))
        config = self.config
        # Where all states can be listed, the teacher knew them all: exchanges find nothing new.
        rounds = config.exchange_rounds if self._many_states else 0
        found = search_plans(self.plans, scenarios, start, beam=config.beam, max_rounds=rounds)
        unmet = np.flatnonzero([self._known(scenarios.lost(k)) == 0 for k in range(len(scenarios))])
        found.cost[unmet] = np.inf
        settled = settle(
            self.plans,
            scenarios,
            found,
            beam=config.search_beam,
            max_rounds=config.search_rounds,
        )
        proposed = np.array([rows[0] for rows in start], dtype=bool).reshape(found.closed.shape)
        return Decisions(proposed, np.zeros(found.shed.shape)), settled

    def _known(self, fault: Lost) -> int:
        """Return how many plans the playbook has for a fault; none where several branches fail."""
        first = self.playbook.first
        return int(first[fault + 1] - first[fault]) if isinstance(fault, int) else 0

    def _shortlists(self, scenarios: Scenarios, scores: Float32Array) -> list[BoolArray]:
        """Return the best-ranked plans of each scenario; plain ones for an unmet fault.

        In a meshed setting doing nothing is always among them: it costs one flow, and at low demand
        it is best.
        """
        first, closed = self.playbook.first, self.playbook.closed
        start: list[BoolArray] = [closed[:0]] * len(scenarios)
        # Faults are few: sort the plans of all scenarios of a fault at once.
        lost = [scenarios.lost(k) for k in range(len(scenarios))]
        items_of: dict[Lost, list[int]] = {}
        for k, fault in enumerate(lost):
            items_of.setdefault(fault, []).append(k)
        for fault, members in items_of.items():
            items = np.array(members)
            if not self._known(fault):
                for k in members:
                    start[k] = self.plans.plain(fault)
                continue
            assert isinstance(fault, int), "the playbook knows faults of one branch"
            begin, end = first[fault], first[fault + 1]
            order = np.argsort(-scores[items, begin:end], axis=1, kind="stable")[
                :, : self.config.shortlist
            ]
            for k, chosen in zip(items.tolist(), closed[begin + order], strict=True):
                start[k] = (
                    chosen
                    if self.setting.radial
                    else np.concatenate([chosen, self.plans.dark(fault)[None]])
                )
        return start


def _collect(
    plans: SwitchPlans, scenarios: Scenarios, config: RankedSwitchingConfig, report: Progress
) -> Playbook:
    """Return the plans that won a scenario in the deep search; if radial, the plain plans too."""
    network = plans.network
    won: list[dict[bytes, BoolArray]] = [{} for _ in range(network.n_branch)]
    step = 500
    for begin in range(0, len(scenarios), step):
        part = scenarios[begin : begin + step]
        start = [plans.plain(fault)[: config.search_start] for fault in part.fault.tolist()]
        found = search_plans(
            plans, part, start, beam=config.search_beam, max_rounds=config.search_rounds
        )
        for fault, closed in zip(part.fault.tolist(), found.closed, strict=True):
            won[fault][closed.tobytes()] = closed
        report("search", min(begin + step, len(scenarios)), len(scenarios))
    rows: list[BoolArray] = []
    first = np.zeros(network.n_branch + 1, dtype=np.int64)
    for fault, known in enumerate(won):
        if known and plans.setting.radial:
            known.update({closed.tobytes(): closed for closed in plans.plain(fault)})
        rows.extend(known[key] for key in sorted(known))
        first[fault + 1] = len(rows)
    return Playbook(first, np.array(rows, dtype=bool).reshape(len(rows), network.n_branch))


def _label(
    plans: SwitchPlans, playbook: Playbook, scenarios: Scenarios, report: Progress
) -> tuple[Candidates, FloatArray]:
    """Return all playbook plans of each scenario and their costs, lower bounds where they lose."""
    counts = np.diff(playbook.first)[scenarios.fault]
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.arange(first[-1]) + np.repeat(playbook.first[scenarios.fault] - first[:-1], counts)
    costs = np.empty(len(rows))
    step = 2000
    for begin in range(0, len(scenarios), step):
        end = min(begin + step, len(scenarios))
        part = slice(first[begin], first[end])
        candidates = Candidates(first[begin : end + 1] - first[begin], playbook.closed[rows[part]])
        costs[part] = race_topologies(
            plans.network, scenarios[begin:end], candidates, plans.setting
        ).cost
        report("label", end, len(scenarios))
    return Candidates(first, rows[:, None]), costs


def _fit(
    playbook: Playbook,
    fault: IntArray,
    candidates: Candidates,
    costs: FloatArray,
    observations: Float32Array,
    config: RankedSwitchingConfig,
    report: Progress,
) -> tuple[Layers, RankingCurve]:
    """Return the layers (weight, bias) of the ranking network, trained on (b), and its curve."""
    target, mask = _targets(playbook, fault, candidates, costs)
    losses: list[float] = []
    ranked_pct: list[tuple[float, float]] = []
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(config.seed)
        widths = (observations.shape[1], config.hidden, config.hidden, max(len(playbook), 1))
        linear = [nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        net = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])
        optimizer = torch.optim.Adam(net.parameters(), lr=config.rate)
        n_step = config.epochs * -(-len(fault) // config.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.rate, total_steps=max(n_step, 2)
        )
        seen = torch.from_numpy(observations)
        for epoch in range(config.epochs):
            order = torch.randperm(len(fault))
            total = 0.0
            for begin in range(0, len(order), config.batch):
                items = order[begin : begin + config.batch]
                loss = _loss(net(seen[items]), target[items], mask[torch.from_numpy(fault)[items]])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += len(items) * float(loss.detach())
            losses.append(total / len(fault))
            with torch.no_grad():
                scores = net(seen).masked_fill(~mask[torch.from_numpy(fault)], -1e9)
                ranked_pct.append(
                    (_ranked_pct(scores, target, 1), _ranked_pct(scores, target, config.shortlist))
                )
            report("fit", epoch + 1, config.epochs)
    layers = [
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in linear
    ]
    first_pct, shortlist_pct = zip(*ranked_pct, strict=True)
    return layers, RankingCurve(
        tuple(range(1, config.epochs + 1)), tuple(losses), first_pct, shortlist_pct
    )


def _loss(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    log_share = torch.log_softmax(scores.masked_fill(~mask, -1e9), dim=1)
    return -(target * log_share).sum(dim=1).mean()


def _ranked_pct(scores: Tensor, target: Tensor, count: int) -> float:
    """Return the percentage of scenarios with a cheapest plan among the `count` best-ranked.

    NaN where there is no scenario to count.
    """
    best = target.max(dim=1, keepdim=True).values
    ranked = scores.topk(min(count, scores.shape[1]), dim=1).indices
    among = (target.gather(1, ranked) == best).any(dim=1)
    # A scenario that no plan makes safe has nothing to find.
    return float(100 * among[best[:, 0] > 0].double().mean())


def _targets(
    playbook: Playbook, fault: IntArray, candidates: Candidates, costs: FloatArray
) -> tuple[Tensor, Tensor]:
    """Return q of (a), (B, n_plan) float32, and each fault's plans, (n_branch, n_plan) bool."""
    item = candidates.scenario
    best = np.full(len(fault), np.inf)
    np.minimum.at(best, item, costs)
    # A best cost of zero wins alone; where no plan can be made safe there is nothing to learn.
    scale = np.where(best[item] > 0, best[item], 1.0)
    with np.errstate(invalid="ignore"):
        weight = np.where(
            np.isfinite(costs), np.exp(-(costs - best[item]) / (TEMPERATURE * scale)), 0.0
        )
    total = np.zeros(len(fault))
    np.add.at(total, item, weight)
    target = np.zeros((len(fault), max(len(playbook), 1)), np.float32)
    target[item, candidates.closed[:, 0]] = weight / np.where(total[item] > 0, total[item], 1.0)
    mask = np.zeros((len(playbook.first) - 1, max(len(playbook), 1)), dtype=bool)
    for f, (begin, end) in enumerate(zip(playbook.first[:-1], playbook.first[1:], strict=True)):
        mask[f, begin:end] = True
    return torch.from_numpy(target), torch.from_numpy(mask)


def _check_fit(network: Network, playbook: Playbook, layers: Layers) -> None:
    if playbook.first.shape != (network.n_branch + 1,) or playbook.closed.shape[1:] != (
        network.n_branch,
    ):
        raise ValueError("its playbook is of another size")
    first, closed = playbook.first, playbook.closed
    if (
        closed.dtype != bool
        or first[0] != 0
        or first[-1] != len(closed)
        or (np.diff(first) < 0).any()
    ):
        raise ValueError("its playbook is not one plan after another")
    fault = np.repeat(np.arange(len(first) - 1), np.diff(first))
    if closed[np.arange(len(closed)), fault].any():
        raise ValueError("a plan of its playbook closes the faulted branch")
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise ValueError("its layers hold numbers that are not finite")
    widths = [network.n_branch + 3 * network.n_bus, *(len(bias) for _, bias in layers)]
    shapes = [weight.shape for weight, _ in layers]
    if shapes != list(zip(widths[1:], widths[:-1], strict=True)) or widths[-1] != max(
        len(playbook), 1
    ):
        raise ValueError("its layers are of other sizes")
