"""Observations and actions of load transfer: what each number stands for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from feederguard.models.arrays import BoolArray, Float32Array, FloatArray, IntArray
from feederguard.models.load_transfer import Decisions, Scenarios, Setting, resolve_setting
from feederguard.models.load_transfer.scenario import DEMANDS, check_scenarios
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses, refuse_fixed_loops
from feederguard.models.network.parallel import team_leads
from feederguard.models.once_per_object import once_per_object
from feederguard.models.switching.forests import spanning_forests


def observe(network: Network, scenarios: Scenarios) -> Float32Array:
    """Return the observations (8), (9) of the scenarios, (B, n_branch + 3 n_bus).

    Their layout is that of `environments/load_transfer.py`. Raises ValueError when the scenarios
    are of another feeder or a demand or generation is not finite.
    """
    scenarios = check_scenarios(network, scenarios, "observe")
    n, n_branch = len(scenarios), network.n_branch
    observations = np.zeros((n, n_branch + 3 * network.n_bus), np.float32)
    observations[:, :n_branch] = scenarios.failed_branches(n_branch)
    per_unit = 1.0 / _mean_load(network)
    for k, name in enumerate(DEMANDS):
        first = n_branch + k * network.n_bus
        observations[:, first : first + network.n_bus] = getattr(scenarios, name) * per_unit
    return observations


def decode_actions(
    network: Network, setting: str | Setting, scenarios: Scenarios, actions: ArrayLike
) -> Decisions:
    """Return the decisions that actions (B, n_load + n_switch) stand for.

    Their layout is that of `environments/load_transfer.py`. Raises ValueError when the shape is
    another or an action holds NaN; as `resolve_setting`; and `NetworkError` when the setting is
    radial and branches that cannot be switched form a loop.
    """
    setting = resolve_setting(network, setting)
    layout = action_layout(network, setting)
    numbers = _checked_actions(network, layout, len(scenarios), actions)
    n, n_load = len(numbers), len(layout.load_bus)
    shed = np.zeros((n, network.n_bus))
    shed[:, layout.load_bus] = numbers[:, :n_load]
    closed = np.tile(network.closed, (n, 1))
    failed = scenarios.failed_branches(network.n_branch)
    if setting.radial:
        keys = np.zeros((n, network.n_branch))
        keys[:, layout.switchable] = numbers[:, n_load:]
        usable = layout.usable & ~failed
        forest = spanning_forests(network, keys, usable, layout.fixed_closed)
        dead = layout.dead[scenarios.fault]
        if scenarios.failed is not None:
            fed = energised_buses(network, usable)
            dead = ~fed[:, network.from_bus] & ~fed[:, network.to_bus]
        closed = np.where(dead, closed, forest)
    else:
        closed[:, layout.switchable] = numbers[:, n_load:] >= 0.5
        closed = closed[:, layout.lead]
    closed[failed] = False
    return Decisions(closed, shed)


def encode_decisions(
    network: Network, setting: str | Setting, decisions: Decisions
) -> Float32Array:
    """Return actions (B, n_load + n_switch) for the decisions: a switch is 1 closed, 0 open.

    `decode_actions` gives back, to float32, every decision that some action stands for. Of others
    it keeps what an action can say: in the radial setting it closes what a decision left dark
    without need.
    """
    layout = action_layout(network, resolve_setting(network, setting))
    parts = (decisions.shed[:, layout.load_bus], decisions.closed[:, layout.switchable])
    return np.concatenate(parts, axis=1, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class ActionLayout:
    """Which number of an action means what, for one network and setting."""

    load_bus: IntArray  # (n_load,)
    switchable: IntArray  # (n_switch,)
    usable: BoolArray  # (n_branch,) branches that may be closed
    fixed_closed: BoolArray  # (n_branch,) branches that are closed and stay so
    lead: IntArray  # (n_branch,) the branch whose number counts for its team
    # (n_branch, n_branch) per failed branch, those that join only buses nobody can feed any more
    dead: BoolArray

    @property
    def size(self) -> int:
        return len(self.load_bus) + len(self.switchable)


@once_per_object
def action_layout(network: Network, setting: Setting) -> ActionLayout:
    """Return the layout of the network's actions under the setting."""
    free = setting.switchable_branches(network)
    fixed_closed = network.closed & ~free
    if setting.radial:
        refuse_fixed_loops(network, fixed_closed)
    usable = network.closed | free
    fed = energised_buses(network, usable & ~np.eye(network.n_branch, dtype=bool))
    dead = ~fed[:, network.from_bus] & ~fed[:, network.to_bus]
    load_bus = np.flatnonzero(network.p_load > 0)
    lead = team_leads(network, free, np.ones(network.n_branch, dtype=bool))
    return ActionLayout(load_bus, np.flatnonzero(free), usable, fixed_closed, lead, dead)


def _mean_load(network: Network) -> float:
    loaded = network.p_load[network.p_load > 0]
    if not len(loaded):
        raise ValueError(
            f"{network.name}: no bus has a nominal load, so there is none to transfer; give p_load"
        )
    return float(loaded.mean())


def _checked_actions(
    network: Network, layout: ActionLayout, n: int, actions: ArrayLike
) -> FloatArray:
    numbers = np.asarray(actions, dtype=float)
    if numbers.shape != (n, layout.size):
        raise ValueError(
            f"{network.name}: actions have shape {numbers.shape}; expected ({n}, {layout.size}), "
            f"one shed fraction for each of {len(layout.load_bus)} loads, then one number for each "
            f"of {len(layout.switchable)} switches"
        )
    if np.isnan(numbers).any():
        item, place = np.argwhere(np.isnan(numbers))[0]
        raise ValueError(
            f"{network.name}: action {item} holds NaN at place {place}; give numbers between 0 and "
            "1"
        )
    return np.asarray(np.clip(numbers, 0.0, 1.0))
