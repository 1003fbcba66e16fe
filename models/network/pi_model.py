"""The pi-model of a branch, and what hangs from a bus: shunts, and substations held by the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray
from feederguard.models.network.fields import NetworkFields

# The value of `open_end` with which an open branch hangs from its from end, and from its to end.
HANGS_FROM = (2, 1)


@dataclass(frozen=True, eq=False)
class BranchAdmittances:
    """Admittances to ground of each branch as its from bus (column 0) and its to bus (1) see it."""

    closed: ComplexArray  # (n_branch, 2) while it is closed
    open: ComplexArray  # (n_branch, 2) while it hangs from this end, the other end being open
    # (n_branch, 2) while it is open: `open` at the end it hangs from by `open_end`, else 0
    hanging: ComplexArray

    def at_ends(self, closed: BoolArray) -> tuple[ComplexArray, ComplexArray]:
        """Return the admittance at the from end and at the to end for states (..., n_branch)."""
        at_from, at_to = (
            np.where(closed, self.closed[:, end], self.hanging[:, end]) for end in (0, 1)
        )
        return at_from, at_to


def branch_admittances(network: NetworkFields) -> BranchAdmittances:
    """Return what each branch is worth to ground at its two ends, closed and open, in pu.

    The from end stands behind the tap.
    """
    y_from = network.g_from + 1j * network.b_from
    y_to = network.g_to + 1j * network.b_to
    tap_squared = network.tap**2

    hung = np.stack(
        [
            hanging_admittance(y_from, y_to, network.z) / tap_squared,
            hanging_admittance(y_to, y_from, network.z),
        ],
        axis=1,
    )
    return BranchAdmittances(
        closed=np.stack([y_from / tap_squared, y_to], axis=1),
        open=hung,
        hanging=np.where(network.open_end[:, None] == HANGS_FROM, hung, 0),
    )


def hanging_admittance(near: Any, far: Any, z: Any) -> Any:
    """Return what a branch is worth at the end it hangs from, y + 1 / (z + 1 / y').

    near, far: the shunts y at that end and y' at the open end. z: the series impedance.
    """
    # Written without dividing by a charging that is zero.
    return near + far / (1.0 + z * far)


def bus_shunts(network: NetworkFields) -> tuple[FloatArray, FloatArray]:
    """Return conductance and susceptance at each bus in pu, (n_bus,) each.

    They are those of the bus's own shunt and of the open branches that hang from it.
    """
    y = network.g_shunt + 1j * network.b_shunt + hanging_shunts(network)
    return y.real, y.imag


def hanging_shunts(network: NetworkFields) -> ComplexArray:
    """Return the admittance at each bus of the open branches that hang from it, pu, (n_bus,)."""
    hanging = branch_admittances(network).hanging
    y = np.zeros(network.n_bus, dtype=np.complex128)
    for column, bus in enumerate((network.from_bus, network.to_bus)):
        np.add.at(y, bus, np.where(network.closed, 0, hanging[:, column]))
    return y


def held_substations(network: NetworkFields) -> BoolArray:
    """Return which substations the grid above holds and supplies itself, (n_substation,).

    At the others, generators stand for the grid above.
    """
    return np.asarray(~np.isin(network.substation, network.gen_bus[network.gen_is_grid]))


def has_shunts(network: NetworkFields) -> BoolArray:
    """Return which branches carry another current at an end than in their impedance, (n_branch,).

    Those that are open at one end count too.
    """
    y = branch_admittances(network)
    return np.asarray((y.closed != 0).any(axis=1) | (y.hanging != 0).any(axis=1))
