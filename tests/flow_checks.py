"""Power flows for tests: feeders drawn by hand, a dense admittance matrix, random switch states."""

import numpy as np

from feederguard.models.network import Network
from feederguard.models.switching.forests import spanning_forests


def feeder(branches, demand, substation=(0,), v_substation=None, **changes):
    """A network of 10 MVA and 10 kV; branches: (from, to, r, x), demand: complex per bus."""
    n_bus, n = len(demand), len(branches)
    ends = np.array(branches)
    values = {
        "name": "drawn",
        "base_mva": 10.0,
        "bus_name": tuple(map(str, range(n_bus))),
        "branch_name": tuple(f"b{k}" for k in range(n)),
        "kind": ("line",) * n,
        "vn_kv": np.full(n_bus, 10.0),
        "v_min": np.full(n_bus, 0.9),
        "v_max": np.full(n_bus, 1.1),
        "p_load": np.real(demand),
        "q_load": np.imag(demand),
        "p_gen": np.zeros(n_bus),
        "q_gen": np.zeros(n_bus),
        "g_shunt": np.zeros(n_bus),
        "b_shunt": np.zeros(n_bus),
        "substation": substation,
        "v_substation": np.ones(len(substation)) if v_substation is None else v_substation,
        "from_bus": ends[:, 0].astype(int),
        "to_bus": ends[:, 1].astype(int),
        "r": ends[:, 2],
        "x": ends[:, 3],
        **{name: np.zeros(n) for name in ("g_from", "b_from", "g_to", "b_to", "shift", "open_end")},
        "tap": np.ones(n),
        "rating": np.full(n, np.inf),
        "closed": np.ones(n, dtype=bool),
    }
    return Network(**values | changes)


def bus_admittance(network, closed):
    """Dense bus admittance matrix for one switch state, open-ended branches included."""
    y = np.diag(network.g_shunt + 1j * network.b_shunt)
    for k in range(network.n_branch):
        i, j, z = network.from_bus[k], network.to_bus[k], network.z[k]
        y_from, y_to = (
            network.g_from[k] + 1j * network.b_from[k],
            network.g_to[k] + 1j * network.b_to[k],
        )
        ratio = network.tap[k] * np.exp(1j * network.shift[k])
        if closed[k]:
            y[i, i] += (1 / z + y_from) / abs(ratio) ** 2
            y[i, j] -= 1 / (z * np.conj(ratio))
            y[j, i] -= 1 / (z * ratio)
            y[j, j] += 1 / z + y_to
        elif network.open_end[k] == 1:
            y[j, j] += y_to + y_from / (1 + z * y_from)
        elif network.open_end[k] == 2:
            y[i, i] += (y_from + y_to / (1 + z * y_to)) / abs(ratio) ** 2
    return y


def worst_mismatch_mva(flow):
    """Largest power mismatch at an energised bus over the converged items of a batch."""
    network, worst = flow.network, 0.0
    rows = [
        np.broadcast_to(a, (len(flow.converged), a.shape[-1]))
        for a in (flow.p, flow.q, flow.closed)
    ]
    for k in np.flatnonzero(flow.converged):
        p, q, closed = (row[k] for row in rows)
        voltage = flow.voltage[k]
        mismatch = voltage * np.conj(bus_admittance(network, closed) @ voltage) + p + 1j * q
        np.testing.assert_allclose(
            voltage[network.substation], network.v_substation, rtol=0, atol=1e-14
        )
        mismatch[network.substation] = 0
        worst = max(worst, network.base_mva * abs(mismatch[flow.energised[k]]).max())
    return worst


def radial_states(network, rng, count):
    keys = rng.random((count, network.n_branch))
    return spanning_forests(
        network, keys, np.ones_like(keys, dtype=bool), np.zeros(network.n_branch, dtype=bool)
    )


def mixed_states(network, rng, count):
    """Radial states in the first half, any states in the second.

    There a branch is open with probability 0.03, which gives loops and islands.
    """
    meshed = rng.random((count - count // 2, network.n_branch)) > 0.03
    return np.concatenate([radial_states(network, rng, count // 2), meshed])


def random_network(rng):
    """A random network with all that the power flow knows.

    It has up to three substations, taps, shifts, charging, shunts and generation. Open branches
    hang from either end.
    """
    n_bus = int(rng.integers(5, 15))
    pairs = [(int(rng.integers(j)), j) for j in range(1, n_bus)]
    pairs += [tuple(rng.choice(n_bus, 2, replace=False)) for _ in range(4)]
    pairs = [pair[:: rng.choice([-1, 1])] for pair in pairs]
    n, n_root = len(pairs), int(rng.integers(1, 4))
    branches = [(*pair, *rng.uniform(0.002, 0.02, 2)) for pair in pairs]
    demand = rng.uniform(-0.05, 0.15, n_bus) + 1j * rng.uniform(-0.05, 0.1, n_bus)
    wound = rng.random(n) < 0.4
    return feeder(
        branches,
        demand,
        rng.choice(n_bus, n_root, replace=False),
        rng.uniform(0.98, 1.04, n_root) * np.exp(1j * rng.uniform(-0.02, 0.02, n_root)),
        tap=np.where(wound, rng.uniform(0.95, 1.05, n), 1.0),
        shift=np.where(wound, rng.uniform(-0.03, 0.03, n), 0.0),
        g_from=rng.uniform(0, 0.01, n),
        b_from=rng.uniform(0, 0.05, n),
        g_to=rng.uniform(0, 0.01, n),
        b_to=rng.uniform(0, 0.05, n),
        g_shunt=rng.uniform(0, 0.02, n_bus),
        b_shunt=rng.uniform(-0.05, 0.05, n_bus),
        open_end=rng.integers(0, 3, n),
    )
