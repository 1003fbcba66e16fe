"""Random small feeders for tests: cables, generation, parallels, lines under repair, groups.

pytest puts tests/ on the import path, so any test writes

    from random_feeders import random_feeder
"""

from __future__ import annotations

import numpy as np
from brute_force import Grid

from feederguard.models.network import GroupLimit
from feeders import feeder

TOLERANCE = 1e-4  # of the cost, relative, and absolute below a cost of 1
LOW, HIGH = 0.95, 1.05
MOST_SWITCHES = 9


def random_feeder(seed: int):
    """Return a feeder with its ties, the branch that fails, and the branches with a switch."""
    rng = np.random.default_rng(seed)
    n_bus, n_substation = int(rng.integers(8, 15)), int(rng.integers(1, 3))
    drawn, pairs = [], set()
    for bus in range(n_substation, n_bus):
        # Every substation feeds something.
        first = bus - n_substation
        near = first if first < n_substation else int(rng.integers(max(0, bus - 4), bus))
        drawn.append(f"{near}-{bus}")
        pairs.add((near, bus))
    for _ in range(int(rng.integers(1, 5))):
        i, j = sorted(rng.choice(n_bus, 2, replace=False).tolist())
        if (i, j) not in pairs:
            pairs.add((i, j))
            drawn.append(f"{i}~{j}")
    n = len(drawn)
    load = rng.uniform(0.01, 0.12, n_bus) * (rng.random(n_bus) < 0.85)
    reactive = np.where(load > 0, 0.3 * load, 0.02 * (rng.random(n_bus) < 0.3))
    made = rng.uniform(0, 1, n_bus) * (rng.random(n_bus) < 0.4) * (rng.random() < 0.7)
    if made.sum() > 0:
        made *= rng.uniform(0.2, 2.0) * load.sum() / made.sum()
    for array in (load, reactive, made):
        array[:n_substation] = 0.0
    charging = rng.uniform(0, 0.02, n) * (rng.random() < 0.5)
    network = feeder(
        " ".join(drawn),
        substation=list(range(n_substation)),
        v_substation=[1.0 + 0.03 * rng.random()] * n_substation,
        p_load=load,
        q_load=reactive,
        p_gen=made,
        r=rng.uniform(0.01, 0.12, n),
        x=rng.uniform(0.01, 0.08, n),
        b_from=charging,
        b_to=charging,
        rating=np.where(rng.random(n) < 0.5, rng.uniform(0.15, 0.6, n), np.inf),
        v_min=LOW,
        v_max=HIGH,
        name=f"random {seed}",
    )
    lines = np.flatnonzero(network.closed)
    if seed % 3 == 0:
        # What leaves the substations together is limited to a part of the load.
        heads = [b for b in lines if network.from_bus[b] < n_substation]
        names = tuple(network.branch_name[b] for b in heads)
        share = (0.5 + 0.1 * (seed % 7)) * network.p_load.sum()
        network = network.with_changes(groups=[GroupLimit("heads", names, share)])
    with_switch = rng.permutation(lines[network.on_loop[lines]])
    fault = int(rng.choice(lines))
    # The feeder beneath does not change with what stands beside its branches.
    return add_repairs(*add_parallels(network, fault, with_switch, np.random.default_rng([seed])))


def add_parallels(network, fault: int, with_switch, rng):
    """Return the feeder with up to three cables beside others, fault, switches and the stream."""
    n = int(rng.integers(1, 4)) if rng.random() < 0.5 else 0
    beside = np.append(np.arange(network.n_branch), rng.integers(0, network.n_branch, n))
    old = np.arange(len(beside)) < network.n_branch
    arrays = ("r", "x", "g_from", "b_from", "g_to", "b_to", "tap", "shift", "rating", "open_end")
    given = {name: getattr(network, name)[beside] for name in arrays}
    for name in ("r", "x", "rating"):
        given[name] = given[name] * np.where(old, 1.0, rng.uniform(0.5, 2.0, len(beside)))
    # Some are spares: open beside a closed line. Some are drawn the other way.
    closed = network.closed[beside] & (old | (rng.random(len(beside)) < 0.7))
    turned = ~old & (rng.random(len(beside)) < 0.5)
    ends = network.from_bus[beside], network.to_bus[beside]
    names = [
        network.branch_name[b] + "'" * int((beside[:k] == b).sum()) for k, b in enumerate(beside)
    ]
    grown = network.with_changes(
        branch_name=names,
        kind=["line" if shut else "tie" for shut in closed],
        from_bus=np.where(turned, ends[1], ends[0]),
        to_bus=np.where(turned, ends[0], ends[1]),
        closed=closed,
        **given,
    )
    # Most cables beside a line with a switch have one too, a few beside others.
    mates = [
        b
        for b in np.flatnonzero(~old & closed).tolist()
        if rng.random() < (0.8 if beside[b] in with_switch else 0.2)
    ]
    pairs = [b for b in np.flatnonzero(closed) if (beside[closed] == beside[b]).sum() > 1]
    if pairs and rng.random() < 0.4:
        fault = int(rng.choice(pairs))
    with_switch = with_switch[: max(MOST_SWITCHES - int(grown.is_tie.sum()), 0)]
    return grown, fault, [*with_switch.tolist(), *mates], rng


def add_repairs(network, fault: int, with_switch, rng):
    """Return the feeder with one or two branches under repair, fault, and names of switches."""
    closed, out = network.closed.copy(), np.zeros(network.n_branch, dtype=bool)
    for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.5 else 0):
        b = int(rng.integers(network.n_branch))
        trial = closed & (np.arange(network.n_branch) != b)
        # A tie stands in for a line, where one can and may.
        ties = rng.permutation(np.flatnonzero(~closed & ~out))
        shut = [trial | (np.arange(network.n_branch) == tie) for tie in ties if tie != b]
        for state in [trial, *shut] if rng.random() < 0.8 else [trial]:
            fits = Grid(network, LOW, HIGH, True, network.closed)
            live = fits.live(state)
            if live.all() and fits.is_forest(state, live):
                trial = state
                break
        out[b] = True
        if Grid(network, LOW, HIGH, True, network.closed).live(~out).all():
            closed = trial
        else:
            out[b] = False
    network = network.with_changes(closed=closed, in_service=~out)
    if not closed[fault]:
        fault = int(rng.choice(np.flatnonzero(closed)))
    chosen = dict.fromkeys([*np.flatnonzero(network.is_tie).tolist(), *with_switch])
    return network, fault, tuple(network.branch_name[b] for b in chosen if not out[b])
