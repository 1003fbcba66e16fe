"""The solved state of a batch, and what follows from its voltages and currents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from feederguard.models.arrays import BoolArray, ComplexArray, FloatArray, IntArray
from feederguard.models.network import Network
from feederguard.models.network.pi_model import branch_admittances

# Below it, the drop in a branch is lost in the rounding of its voltages.
LEAST_READABLE_Z_PU = 1e-7


@dataclass(frozen=True, eq=False)
class PowerFlow:
    """The solved state of a batch; an unbatched call returns the same fields without the B axis.

    A de-energised bus has voltage 0 and `energised` False. An item that did not converge has
    `converged` False and NaN in every other field but `energised` and the lost load.
    """

    network: Network
    voltage: ComplexArray  # (B, n_bus) pu
    series_current: ComplexArray  # (B, n_branch) pu, from -> to, through r + jx
    converged: BoolArray  # (B,)
    energised: BoolArray  # (B, n_bus)
    iterations: IntArray  # (B,) Newton steps, -1 where it failed
    closed: BoolArray  # (B, n_branch) or (n_branch,), as asked
    p: FloatArray  # (B, n_bus) or (n_bus,) net active demand as asked, pu
    q: FloatArray  # (B, n_bus) or (n_bus,) net reactive demand as asked, pu

    @cached_property
    def current_from(self) -> ComplexArray:
        """Current into each branch at its from end, pu, (B, n_branch); charging included."""
        return self._end_currents[0]

    @cached_property
    def current_to(self) -> ComplexArray:
        """Current into each branch at its to end, pu, (B, n_branch); charging included."""
        return self._end_currents[1]

    @cached_property
    def s_from(self) -> ComplexArray:
        """Apparent power into each branch at its from end, pu, (B, n_branch)."""
        return self.voltage[..., self.network.from_bus] * np.conj(self.current_from)

    @cached_property
    def s_to(self) -> ComplexArray:
        """Apparent power into each branch at its to end, pu, (B, n_branch)."""
        return self.voltage[..., self.network.to_bus] * np.conj(self.current_to)

    @cached_property
    def loading(self) -> FloatArray:
        """Larger end current over the branch rating, (B, n_branch); 0 where there is no rating."""
        larger = np.maximum(np.abs(self.current_from), np.abs(self.current_to))
        return np.asarray(
            larger / np.where(self.network.rating > 0, self.network.rating, np.finfo(float).tiny)
        )

    @cached_property
    def loss_mw(self) -> FloatArray:
        """Active power lost in branches, MW, (B,)."""
        return np.asarray(self.network.base_mva * (self.s_from.real + self.s_to.real).sum(axis=-1))

    @cached_property
    def p_substation_mw(self) -> FloatArray:
        """Active power drawn from the grid above at each substation, MW, (B, n_substation)."""
        network = self.network
        at_bus = np.zeros(self.voltage.shape)
        for end, power in ((network.from_bus, self.s_from.real), (network.to_bus, self.s_to.real)):
            np.add.at(at_bus.T, end, power.T)
        at_bus += network.g_shunt * np.abs(self.voltage) ** 2 + self.p
        return np.asarray(network.base_mva * at_bus[..., network.substation])

    @cached_property
    def lost_load_mw(self) -> FloatArray:
        """Net active demand of de-energised buses that are not net producers, MW, (B,)."""
        dark = np.where(self.energised, 0.0, np.maximum(self.p, 0.0))
        return np.asarray(self.network.base_mva * dark.sum(axis=-1))

    @cached_property
    def v_min_pu(self) -> FloatArray:
        """Lowest voltage magnitude over energised buses, pu, (B,)."""
        return np.asarray(np.where(self.energised, np.abs(self.voltage), np.inf).min(axis=-1))

    @cached_property
    def v_max_pu(self) -> FloatArray:
        """Highest voltage magnitude over energised buses, pu, (B,)."""
        return np.asarray(np.where(self.energised, np.abs(self.voltage), -np.inf).max(axis=-1))

    @cached_property
    def mismatch_mva(self) -> FloatArray:
        """Return the largest power imbalance at any energised bus, MVA, (B,).

        It compares the demand of the bus with what its branches bring.

        Found from the voltages alone by Ohm's law, where a branch has an impedance that rounding
        leaves a drop, so it checks the solver.
        """
        network = self.network
        ratio = network.tap * np.exp(1j * network.shift)
        v = np.atleast_2d(self.voltage)
        closed = np.broadcast_to(self.closed, (len(v), network.n_branch))
        drop = v[:, network.from_bus] / ratio - v[:, network.to_bus]
        fused = np.abs(network.z) < LEAST_READABLE_Z_PU
        z = np.where(fused, 1.0, network.z)
        series = np.where(fused, np.atleast_2d(self.series_current), np.where(closed, drop / z, 0))
        again = PowerFlow(
            network,
            v,
            series,
            self.converged,
            self.energised,
            self.iterations,
            closed,
            self.p,
            self.q,
        )
        out = (network.g_shunt + 1j * network.b_shunt) * v
        for end, current in zip(
            (network.from_bus, network.to_bus), again._end_currents, strict=True
        ):
            np.add.at(out.T, end, current.T)
        wrong = np.abs(v * np.conj(out) + self.p + 1j * self.q)
        wrong[:, network.substation] = 0.0
        wrong[~np.atleast_2d(self.energised)] = 0.0
        worst = network.base_mva * wrong.max(axis=1)
        return np.asarray(worst if self.voltage.ndim == 2 else worst[0])

    @cached_property
    def _end_currents(self) -> tuple[ComplexArray, ComplexArray]:
        network = self.network
        ratio = network.tap * np.exp(1j * network.shift)
        v_from, v_to = self.voltage[..., network.from_bus], self.voltage[..., network.to_bus]
        y_from, y_to = branch_admittances(network).at_ends(self.closed)
        at_from = self.series_current / np.conj(ratio) + y_from * v_from
        return at_from, -self.series_current + y_to * v_to
