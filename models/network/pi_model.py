"""The pi-model of a branch, and what hangs from a bus: shunts, and substations that the grid above
holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray
from feederguard.models.network.fields import NetworkFields


@dataclass(frozen=True, eq=False)
class BranchAdmittances:
    """Shunt admittances of a branch as its two buses see them."""

    closed: ComplexArray  # (n_branch, 2) while it is closed
    open: ComplexArray  # (n_branch, 2) at the end it hangs from, the other end being open


def branch_admittances(network: NetworkFields) -> BranchAdmittances:
    y_from = network.g_from + 1j * network.b_from
    y_to = network.g_to + 1j * network.b_to
    tap_squared = network.tap**2

    def hanging(near: ComplexArray, far: ComplexArray) -> ComplexArray:
        # 1 / (z + 1 / y) written without dividing by a charging that is zero.
        return near + far / (1.0 + network.z * far)

    return BranchAdmittances(
        np.stack([y_from / tap_squared, y_to], axis=1),
        np.stack([hanging(y_from, y_to) / tap_squared, hanging(y_to, y_from)], axis=1),
    )


def bus_shunts(network: NetworkFields) -> tuple[FloatArray, FloatArray]:
    """Return conductance and susceptance at each bus, (n_bus,): its own shunt and open branches
    that hang from it.
    """
    y = network.g_shunt + 1j * network.b_shunt + hanging_shunts(network)
    return y.real, y.imag


def hanging_shunts(network: NetworkFields) -> ComplexArray:
    """Return the admittance at each bus of the open branches that hang from it by one end,
    (n_bus,).
    """
    hanging = branch_admittances(network).open
    y = np.zeros(network.n_bus, dtype=np.complex128)
    for column, bus, hangs in ((0, network.from_bus, 2), (1, network.to_bus, 1)):
        np.add.at(
            y, bus, np.where(~network.closed & (network.open_end == hangs), hanging[:, column], 0)
        )
    return y


def held_substations(network: NetworkFields) -> BoolArray:
    """Return which substations the grid above itself holds and supplies, no generator standing for
    it, (n_substation,).
    """
    return np.asarray(~np.isin(network.substation, network.gen_bus[network.gen_is_grid]))
