"""Larger feeders made of one: n copies on one substation bus, with ties between neighbours.

    substation --+-- copy 1 -- ... -- end . . tie . . end -- ... -- copy 2 --+-- substation

Every bus but the substation bus is copied n times. Bus 18 of copy 3 is called '18@3', and so are
branches and generators. Load, generation and shunts at the substation bus itself are multiplied by
n. So each copy has the voltages of the feeder alone in the normal state, and losses and loads are n
times the feeder's.

Ties join copies k and k + 1, in a row and not in a ring. Each pair has `ties_per_pair` ties. They
join ends: buses that feed no other, at the nominal voltage that most ends have. A tie has the
median resistance and reactance of the feeder's lines at that voltage, and no charging. Its rating
is the larger one of the branches that feed its ends, at most TIE_RATING_A. It is normally open, so
the multiple is as radial as the feeder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feederguard.data.networks import list_networks, load_network
from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.network import Devices, GroupLimit, Network, NetworkError
from feederguard.models.network.devices import MANUAL_MINUTES
from feederguard.models.network.graph import feeding_tree

TIE_RATING_A = 400.0
TIES_PER_PAIR = 2

_SHARED = (
    "p_load",
    "q_load",
    "p_gen",
    "q_gen",
    "g_shunt",
    "b_shunt",
)  # at the substation bus, n times their size
_PER_BUS = ("vn_kv", "v_min", "v_max", "priority")
_PER_BRANCH = (
    "r",
    "x",
    "g_from",
    "b_from",
    "g_to",
    "b_to",
    "tap",
    "shift",
    "rating",
    "closed",
    "open_end",
    "s_max",
    "angle_min",
    "angle_max",
)
_PER_GENERATOR = ("gen_p_min", "gen_p_max", "gen_q_min", "gen_q_max", "gen_cost", "gen_is_grid")


def load_multiple(name: str, seed: int = 0) -> Network:
    """Return a feeder by name or path; 'ieee33_x16' is `multiply_network` of ieee33.

    Raises `NetworkError` as `load_network` and `multiply_network`.
    """
    wanted = re.fullmatch(r"(.+)_x(\d+)", name)
    if wanted is None or name in list_networks() or Path(name).exists():
        return load_network(name)
    return multiply_network(load_network(wanted[1]), int(wanted[2]), seed)


def multiply_network(
    network: Network, n: int, seed: int = 0, ties_per_pair: int = TIES_PER_PAIR
) -> Network:
    """Return n copies of a feeder on its substation bus; one copy is the feeder itself.

    seed: of the ends that ties join. ties_per_pair: fewer where a copy has fewer ends.

    Raises `NetworkError` when n is not positive or ties_per_pair is negative. Raises it for a
    feeder that has several substations, is not radial, or has no line at the voltage of its ends.
    """
    _check(network, n, ties_per_pair)
    feeding, ends = _feeding(network)
    if n == 1:
        return network
    root = int(network.substation[0])
    others = np.flatnonzero(np.arange(network.n_bus) != root)
    place = np.zeros((n, network.n_bus), dtype=np.int64)
    place[:, others] = 1 + np.arange(n * len(others)).reshape(n, -1)
    ties = _draw_ties(ends, n, seed, ties_per_pair)
    copied: dict[str, Any] = {
        name: _on_buses(getattr(network, name), root, others, n) for name in (*_SHARED, *_PER_BUS)
    }
    for name in _SHARED:
        copied[name][0] *= n
    added = _of_ties(network, feeding, ties)
    copied |= {
        name: np.concatenate([np.tile(getattr(network, name), n), added[name]])
        for name in _PER_BRANCH
    }
    copied |= {name: np.concatenate([getattr(network, name)] * n) for name in _PER_GENERATOR}
    bus_name = [
        network.bus_name[root],
        *(f"{network.bus_name[i]}@{c}" for c in range(1, n + 1) for i in others),
    ]
    tie_at = np.stack([place[ties[:, 0], ties[:, 1]], place[ties[:, 0] + 1, ties[:, 2]]])
    return network.with_changes(
        name=f"{network.name}_x{n}",
        bus_name=tuple(bus_name),
        substation=np.array([0]),
        branch_name=(
            *_labels(network.branch_name, n),
            *(f"{bus_name[i]}-{bus_name[j]}" for i, j in tie_at.T),
        ),
        kind=(*(network.kind * n), *("tie" for _ in ties)),
        from_bus=np.concatenate([place[:, network.from_bus].ravel(), tie_at[0]]),
        to_bus=np.concatenate([place[:, network.to_bus].ravel(), tie_at[1]]),
        gen_name=_labels(network.gen_name, n),
        gen_bus=place[:, network.gen_bus].ravel(),
        devices=_on_copies(network, n, len(ties)),
        groups=_groups_on_copies(network, n),
        gen_cost_lines=np.concatenate(
            [network.gen_cost_lines + [copy * network.n_gen, 0, 0] for copy in range(n)]
        ),
        cost_error=network.cost_error,
        **copied,
    )


def _check(network: Network, n: int, ties_per_pair: int) -> None:
    if n < 1:
        raise NetworkError(f"{network.name}: {n} copies of a feeder; make at least one")
    if ties_per_pair < 0:
        raise NetworkError(
            f"{network.name}: ties_per_pair is {ties_per_pair}; it must be zero or more"
        )
    if len(network.substation) != 1:
        raise NetworkError(
            f"{network.name} has {len(network.substation)} substations; multiply a feeder that "
            "hangs from one bus"
        )


def _feeding(network: Network) -> tuple[IntArray, IntArray]:
    """Return the branch that feeds each bus, (n_bus,), -1 at the substation, and the ends.

    Ends are buses that feed no other, at the voltage that most of them have.
    """
    feeding, feeds = np.full(network.n_bus, -1, dtype=np.int64), np.zeros(network.n_bus, dtype=bool)
    for step in feeding_tree(network):
        feeding[step.far], feeds[step.near] = step.branch, True
    ends = np.flatnonzero(~feeds & (feeding >= 0))
    if len(ends):
        levels, counts = np.unique(network.vn_kv[ends], return_counts=True)
        ends = ends[network.vn_kv[ends] == levels[counts.argmax()]]
    return feeding, ends


def _draw_ties(ends: IntArray, n: int, seed: int, per_pair: int) -> IntArray:
    """Return where each tie lies, (n_tie, 3).

    The columns are the copy it starts from (0 to n - 2), its bus there and its bus in the next
    copy.
    """
    rng = np.random.default_rng(seed)
    per_pair = min(per_pair, len(ends))
    ties = [
        np.stack(
            [
                np.full(per_pair, copy),
                *(rng.choice(ends, per_pair, replace=False) for _ in range(2)),
            ],
            axis=1,
        )
        for copy in range(n - 1)
    ]
    return np.concatenate(ties).astype(np.int64)


def _of_ties(network: Network, feeding: IntArray, ties: IntArray) -> dict[str, NDArray[Any]]:
    """Return what ties have beside their ends, (n_tie,) by field of the network."""
    n_tie = len(ties)
    if not n_tie:
        return {name: getattr(network, name)[:0] for name in _PER_BRANCH}
    vn_kv = network.vn_kv[ties[0, 1]]
    like_a_tie = (np.array(network.kind) == "line") & (network.vn_kv[network.from_bus] == vn_kv)
    if not like_a_tie.any():
        raise NetworkError(
            f"{network.name}: no line at {vn_kv:g} kV, where its ends are, to make a tie like; "
            "give ties_per_pair=0"
        )
    most = TIE_RATING_A * np.sqrt(3.0) * vn_kv / (1e3 * network.base_mva)
    rating = np.minimum(network.rating[feeding[ties[:, 1:]]].max(axis=1), most)
    values = {
        "r": np.median(network.r[like_a_tie]),
        "x": np.median(network.x[like_a_tie]),
        "rating": rating,
        "tap": 1.0,
        "s_max": np.inf,
        "angle_min": -np.inf,
        "angle_max": np.inf,
        "closed": False,
    }
    return {name: np.broadcast_to(values.get(name, 0), n_tie) for name in _PER_BRANCH}


def _on_copies(network: Network, n: int, n_tie: int) -> Devices | None:
    """Return the devices of every copy, and one at the from end of each tie between copies."""
    devices = network.devices
    if devices is None:
        return None
    n_branch = network.n_branch
    ties = {
        "end": 0,
        "closed": False,
        "remote": False,
        "minutes": MANUAL_MINUTES,
        "available": True,
    }
    arrays = {
        name: np.concatenate([np.tile(getattr(devices, name), n), np.full(n_tie, value)])
        for name, value in ties.items()
    }
    of_copies = (devices.branch + n_branch * np.arange(n)[:, None]).ravel()
    return Devices(
        name=(*_labels(devices.name, n), *(f"tie {k + 1}" for k in range(n_tie))),
        branch=np.concatenate([of_copies, n * n_branch + np.arange(n_tie)]),
        kind=(*devices.kind * n, *["load_break"] * n_tie),
        **arrays,
    )


def _groups_on_copies(network: Network, n: int) -> list[GroupLimit]:
    return [
        GroupLimit(
            f"{group.name}@{copy}",
            tuple(f"{name}@{copy}" for name in group.branches),
            group.p_limit_mw,
        )
        for copy in range(1, n + 1)
        for group in network.groups
    ]


def _on_buses(values: FloatArray, root: int, others: IntArray, n: int) -> FloatArray:
    return np.concatenate([values[[root]], np.tile(values[others], n)])


def _labels(names: tuple[str, ...], n: int) -> tuple[str, ...]:
    return tuple(f"{name}@{copy}" for copy in range(1, n + 1) for name in names)
