"""The AC equations in complex numbers, which the tests of laws compare with."""

from typing import NamedTuple

import numpy as np
import pyomo.environ as pyo

from feederguard.models.network import Network


class AcState(NamedTuple):
    """What flows at given voltages, pu; rows are points, columns closed branches or buses."""

    v: np.ndarray  # (B, n_bus) complex
    s_from: np.ndarray  # (B, n_closed) into the branch at its from end
    s_to: np.ndarray  # (B, n_closed) at its to end
    s_series: np.ndarray  # (B, n_closed) into r + jx, behind tap and charging
    ell: np.ndarray  # (B, n_closed) squared current through r + jx
    injected: np.ndarray  # (B, n_bus) into the bus from generators less demand


def ac_state(network: Network, v: np.ndarray) -> AcState:
    """Return the flows of the pi-model with an ideal transformer at the from end."""
    k = np.flatnonzero(network.closed)
    i, j = network.from_bus[k], network.to_bus[k]
    behind = v[:, i] / (network.tap[k] * np.exp(1j * network.shift[k]))
    current = (behind - v[:, j]) / (network.r[k] + 1j * network.x[k])
    y_from = network.g_from + 1j * network.b_from
    y_to = network.g_to + 1j * network.b_to
    s_series = behind * current.conj()
    s_from = s_series + np.abs(behind) ** 2 * y_from[k].conj()
    s_to = -v[:, j] * current.conj() + np.abs(v[:, j]) ** 2 * y_to[k].conj()
    shunt = network.g_shunt + 1j * network.b_shunt
    for b in np.flatnonzero(~network.closed & (network.open_end != 0)):
        z = network.r[b] + 1j * network.x[b]
        if network.open_end[b] == 2:
            hanging = (y_from[b] + 1 / (z + 1 / y_to[b])) / network.tap[b] ** 2
            shunt[network.from_bus[b]] += hanging
        else:
            shunt[network.to_bus[b]] += y_to[b] + 1 / (z + 1 / y_from[b])
    injected = np.abs(v) ** 2 * shunt.conj()
    for bus, power in ((i, s_from), (j, s_to)):
        np.add.at(injected.T, bus, power.T)
    return AcState(v, s_from, s_to, s_series, np.abs(current) ** 2, injected)


def random_voltages(network: Network, n_point: int, seed: int = 0) -> np.ndarray:
    """Return voltages near 1 pu at the angles of no load, substations at their own, (B, n_bus)."""
    rng = np.random.default_rng(seed)
    shape = (n_point, network.n_bus)
    angle = network.no_load_angle + rng.uniform(-0.1, 0.1, shape)
    v = rng.uniform(0.92, 1.08, shape) * np.exp(1j * angle)
    v[:, network.substation] = network.v_substation
    return v


def residuals(model, *names: str) -> np.ndarray:
    """Return body less limit of every equality of these constraints, by `pyomo.value`."""
    found = []
    for name in names:
        for constraint in model.find_component(name).values():
            assert constraint.equality, constraint.name
            found.append(pyo.value(constraint.body) - pyo.value(constraint.upper))
    assert found
    return np.array(found)


def put(variable, values) -> None:
    """Set an indexed variable's members in their order, fixed ones included."""
    for member, value in zip(variable.values(), np.ravel(values), strict=True):
        member.set_value(float(value), skip_validation=True)
