"""Synthetic feeders: drawn at random from a seed, heavily loaded, to try methods on.

A feeder has 50 to 200 buses on a plane, one or two substations in the middle, and 5 to 20 ties.

    tree    each bus joins the tree where distance + DETOUR * distance to the substation is least
    line    the least of SIZES that carries SPARE times the current of the buses behind it
    load    log-normal, power factor 0.9 to 0.98; one bus in ten has none
    tie     joins near buses whose path through the tree is long; it has the size of MIDDLE
    length  all distances are scaled so that the lowest voltage in the normal state is drawn evenly
            from LOWEST_PU

So ratings and voltages both bind after a fault: in about half of the faults of the radial setting
some load must be shed. Sizes are overhead lines of pandapower's standard types at 10 kV.
"""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from feederguard.models.network import Network, NetworkError
from feederguard.models.power_flow import solve_power_flow

VN_KV = 10.0
# Resistance and reactance in ohm per km and rating in A of 48-AL1/8-ST1A and larger ones.
SIZES = np.array(
    [
        [0.5939, 0.350, 210.0],
        [0.4132, 0.339, 290.0],
        [0.3060, 0.330, 350.0],
        [0.2376, 0.323, 410.0],
        [0.1940, 0.315, 470.0],
    ]
)
MIDDLE = 1  # the size of a tie
DETOUR = 0.4
SPARE = 1.15
LOWEST_PU = (0.92, 0.945)
AMPERE_A_FEEDER = 420.0  # demand of what hangs from one branch of a substation
LOOP = 4.0  # a tie's path through the tree, in lengths of the tie, at least


def synthetic_feeder(seed: int, n_bus: int | None = None, n_tie: int | None = None) -> Network:
    """Return the feeder of a seed; n_bus and n_tie are drawn where they are not given.

    Fewer ties are made where a small feeder has no room for so many. Raises `NetworkError` for
    fewer than 10 buses or a negative number of ties.
    """
    rng = np.random.default_rng(seed)
    n_bus = int(rng.integers(50, 201)) if n_bus is None else n_bus
    n_tie = int(rng.integers(5, 21)) if n_tie is None else n_tie
    if n_bus < 10 or n_tie < 0:
        raise NetworkError(
            f"synthetic feeder {seed}: {n_bus} buses and {n_tie} ties; give at least 10 buses, and "
            "ties zero or more"
        )
    place = rng.uniform(-1, 1, (n_bus, 2)) * np.sqrt(n_bus)
    n_substation = int(rng.integers(1, 3))
    place[:n_substation] *= 0.3
    near, length = _grow_tree(place, n_substation)
    load = _draw_load(rng, n_bus, n_substation, near)
    ties = _draw_ties(rng, place, near, n_tie)
    far = np.arange(n_substation, n_bus)
    from_bus = np.concatenate([near[far], ties[:, 0]]).astype(np.int64)
    to_bus = np.concatenate([far, ties[:, 1]]).astype(np.int64)
    behind = np.abs(_behind(load, near, n_substation))[far]
    current_a = 1e3 * behind / (np.sqrt(3.0) * VN_KV)
    size = np.minimum((SPARE * current_a[:, None] > SIZES[:, 2]).sum(axis=1), len(SIZES) - 1)
    size = np.concatenate([size, np.full(len(ties), MIDDLE)])
    km = np.concatenate(
        [length[far], np.linalg.norm(place[ties[:, 0]] - place[ties[:, 1]], axis=1)]
    )
    z_base = VN_KV**2  # ohm, on the base of 1 MVA
    network = _network(
        f"synthetic_{seed}",
        load,
        (from_bus, to_bus, np.arange(len(km)) < len(far)),
        km[:, None] * SIZES[size, :2] / z_base,
        SIZES[size, 2] * np.sqrt(3.0) * VN_KV * 1e-3,
        n_substation,
    )
    return _with_lowest_voltage(network, rng.uniform(*LOWEST_PU))


def _grow_tree(place: FloatArray, n_substation: int) -> tuple[IntArray, FloatArray]:
    """Return the bus that feeds each bus, (n_bus,), -1 at a substation, and how far it is."""
    n_bus = len(place)
    near, length, path = np.full(n_bus, -1), np.zeros(n_bus), np.zeros(n_bus)
    distance = np.linalg.norm(place[:, None] - place[None], axis=2)
    joined = np.arange(n_bus) < n_substation
    while not joined.all():
        price = distance[joined][:, ~joined] + DETOUR * path[joined][:, None]
        a, b = np.unravel_index(price.argmin(), price.shape)
        i, j = np.flatnonzero(joined)[a], np.flatnonzero(~joined)[b]
        near[j], length[j], joined[j] = i, distance[i, j], True
        path[j] = path[i] + length[j]
    return near, length


def _order(near: IntArray) -> list[int]:
    """Return the buses, what feeds a bus before it."""
    depth = np.zeros(len(near), dtype=np.int64)
    for i in range(len(near)):
        k = i
        while near[k] >= 0:
            k = near[k]
            depth[i] += 1
    return [int(i) for i in np.argsort(depth, kind="stable")]


def _behind(load: ComplexArray, near: IntArray, n_substation: int) -> ComplexArray:
    """Return the demand of each bus and of all that it feeds, (n_bus,)."""
    total = load.copy()
    for i in reversed(_order(near)):
        if i >= n_substation:
            total[near[i]] += total[i]
    return total


def _draw_load(
    rng: np.random.Generator, n_bus: int, n_substation: int, near: IntArray
) -> ComplexArray:
    """Return the complex demand of each bus in MVA, (n_bus,).

    What hangs from one branch of a substation draws at most AMPERE_A_FEEDER.
    """
    size = rng.lognormal(0.0, 0.6, n_bus) * (rng.random(n_bus) < 0.9)
    factor = rng.uniform(0.9, 0.98, n_bus)
    load = size * (factor + 1j * np.sqrt(1 - factor**2))
    load[:n_substation] = 0
    total = np.abs(_behind(load, near, n_substation))
    heads = np.flatnonzero((near >= 0) & (near < n_substation))
    most = AMPERE_A_FEEDER * np.sqrt(3.0) * VN_KV * 1e-3
    # Feeders differ a little, so that one can help another.
    head = np.full(n_bus, -1)
    for i in _order(near):
        if near[i] >= 0:
            head[i] = i if near[i] < n_substation else head[near[i]]
    for k in heads:
        wanted = most * rng.uniform(0.75, 1.0) * min(1.0, 12 * (head == k).sum() / n_bus)
        load[head == k] *= wanted / max(total[k], 1e-9)
    return load


def _draw_ties(rng: np.random.Generator, place: FloatArray, near: IntArray, n_tie: int) -> IntArray:
    """Return the ends of the ties, (n_tie, 2): short ones that make long loops first."""
    n_bus = len(place)
    above: list[set[int]] = []  # each bus and all that feed it
    for i in range(n_bus):
        chain = {i}
        k = i
        while near[k] >= 0:
            k = int(near[k])
            chain.add(k)
        above.append(chain)
    length = np.linalg.norm(place - place[np.maximum(near, 0)], axis=1) * (near >= 0)
    pairs, score = [], []
    for i in range(n_bus):
        for j in range(i):
            direct = float(np.linalg.norm(place[i] - place[j]))
            between = above[i] ^ above[j]
            if length[list(between)].sum() >= LOOP * direct and len(between) > 3:
                pairs.append((j, i))
                score.append(direct * rng.uniform(0.5, 2.0))
    chosen: list[tuple[int, int]] = []
    taken: set[int] = set()
    for k in np.argsort(score, kind="stable"):
        # Ties spread over the feeder: none at a bus that has one.
        if len(chosen) < n_tie and not taken & set(pairs[k]):
            chosen.append(pairs[k])
            taken |= set(pairs[k])
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


def _network(
    name: str,
    load: ComplexArray,
    branches: tuple[IntArray, IntArray, BoolArray],
    z: FloatArray,
    rating: FloatArray,
    n_substation: int,
) -> Network:
    from_bus, to_bus, closed = branches
    n_bus, n_branch = len(load), len(closed)
    bus, branch = np.zeros(n_bus), np.zeros(n_branch)
    names = [f"{i}-{j}" for i, j in zip(from_bus, to_bus, strict=True)]
    return Network(
        name=name,
        base_mva=1.0,
        bus_name=tuple(str(i) for i in range(n_bus)),
        vn_kv=bus + VN_KV,
        v_min=bus + 0.90,
        v_max=bus + 1.05,
        p_load=load.real,
        q_load=load.imag,
        p_gen=bus,
        q_gen=bus,
        g_shunt=bus,
        b_shunt=bus,
        substation=np.arange(n_substation),
        v_substation=np.ones(n_substation, dtype=complex),
        branch_name=tuple(names),
        kind=tuple("line" if is_line else "tie" for is_line in closed),
        from_bus=from_bus,
        to_bus=to_bus,
        r=z[:, 0],
        x=z[:, 1],
        g_from=branch,
        b_from=branch,
        g_to=branch,
        b_to=branch,
        tap=branch + 1,
        shift=branch,
        rating=rating,
        closed=closed,
        open_end=np.zeros(n_branch, dtype=np.int64),
    )


def _with_lowest_voltage(network: Network, lowest: float) -> Network:
    """Return the network with all lengths scaled to this lowest voltage, in pu."""
    low, high = 0.0, 4.0
    shape = network.z

    def scaled(scale: float) -> Network:
        return network.with_changes(r=scale * shape.real, x=scale * shape.imag)

    for _ in range(30):
        middle = 0.5 * (low + high)
        flow = solve_power_flow(scaled(middle), network.p_load, network.q_load)
        holds = bool(flow.converged) and float(np.abs(flow.voltage).min()) >= lowest
        low, high = (middle, high) if holds else (low, middle)
    return scaled(low)
