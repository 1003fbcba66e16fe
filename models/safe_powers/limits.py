"""What the state of a feeder allows its batteries: limits of voltage, power and SOC, per action.

An action is a = p / p_max, one number per battery. Equation (1) is that of `nearest.py`. Before any
limit is read, the state and the proposal are checked.
"""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.step import power_interval
from feederguard.models.network import Network
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.soc_tube import SocTube
from feederguard.models.soc_tube.plan import charging_factor
from feederguard.models.soc_tube.tube import check_tube, tube_interval
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.days import check_steps

_SOC_ROUNDING = 1e-6  # what float32 may add to a full battery
_UNMOVED = 1e-9  # pu^2 per action of all batteries: below it a bus is not theirs to hold

Limits = tuple[FloatArray, FloatArray]  # low and high of G a, each (B, m)


class StateLimits:
    """Reads limits of actions from states of one feeder and its batteries.

    tube: keeps SOC inside; None leaves SOC its physical limits alone. Raises as `SafePowers`.
    """

    def __init__(
        self,
        network: Network,
        batteries: Batteries,
        step_h: float,
        tube: SocTube | None,
        tolerance_pu: float,
    ) -> None:
        if tube is not None:
            check_tube(tube, network, batteries, step_h)
        self.network, self.batteries = network, batteries
        self.step_h, self.tube = float(step_h), tube
        self.n_step = None if tube is None else tube.n_step
        self.matrices = safety_matrices(network, batteries, step_h, tolerance_pu)
        effect = np.abs(self.matrices.columns.sum(axis=0))
        # A bus that no battery moves has room without end.
        self._effect = np.where(effect > _UNMOVED, effect, np.nan)
        self._kappa = charging_factor(network)

    def actions(self, state: VoltageState, p_proposed: FloatArray) -> FloatArray:
        """Return proposals (B, n_bat) pu as actions.

        Raises ValueError when shapes do not fit, a number is not finite, or a SOC is not between 0
        and 1. Raises it for a state of days of another step or, with a tube, of another length.
        """
        check_steps(f"{self.network.name}: the safety layer", self.step_h, self.n_step, state)
        proposed = np.asarray(p_proposed, dtype=float)
        self._check_arrays(state, proposed)
        self._check_soc(state)
        self._check_steps_of_tube(state)
        return proposed / self.batteries.p_max

    def voltage(self, state: VoltageState) -> Limits:
        """Return the limits of G a by (1), each (B, m)."""
        m = self.matrices
        lossless = m.lossless(state.p_net, state.q_net)
        idle = state.v_idle[:, m.bus] ** 2
        # Without an idle AC solution there is no margin: the AC flow of the answer decides.
        idle = np.where(np.isfinite(idle), np.minimum(idle, lossless), lossless)
        return m.w_low - idle, m.w_high - lossless

    def physical(self, state: VoltageState) -> tuple[FloatArray, FloatArray]:
        """Return the least and the greatest actions by power and SOC limits, each (B, n_bat)."""
        low, high = power_interval(self.batteries, state.soc, self.step_h)
        return low / self.batteries.p_max, high / self.batteries.p_max

    def interval(self, state: VoltageState, limits: Limits) -> tuple[FloatArray, FloatArray]:
        """Return the least and the greatest actions, each (B, n_bat), those of the tube if any.

        limits: those of `voltage`. For the sake of the tube no battery must charge or discharge by
        more than all at once have room for in the band.
        """
        if self.tube is None:
            return self.physical(state)
        low, high = tube_interval(self.tube, self.batteries, state.soc, state.step, self.step_h)
        low, high = low / self.batteries.p_max, high / self.batteries.p_max
        if (low > 0).any():
            low = np.minimum(low, np.maximum(self._room(-limits[0]) / self._kappa, 0.0))
        if (high < 0).any():
            high = np.maximum(high, -np.maximum(self._room(limits[1]), 0.0))
        return low, high

    def _room(self, left: FloatArray) -> FloatArray:
        """Return the share of their power that all batteries may use one way, (B, 1).

        left: (B, m) squared pu up to the limit.
        """
        room = np.fmin.reduce(left / self._effect, axis=1, initial=np.inf)
        return np.asarray(room[:, None])

    def _check_arrays(self, state: VoltageState, proposed: FloatArray) -> None:
        n_item, n_bat, n_bus = len(state), len(self.batteries), self.network.n_bus
        for name, array, width in (
            ("p_proposed", proposed, n_bat),
            ("soc", state.soc, n_bat),
            ("p_net", state.p_net, n_bus),
            ("q_net", state.q_net, n_bus),
            ("v_idle", state.v_idle, n_bus),
        ):
            if np.shape(array) != (n_item, width):
                raise ValueError(
                    f"{self.network.name}: {name} has shape {np.shape(array)}; the safety layer "
                    f"expects {(n_item, width)}"
                )
            if name != "v_idle" and not np.isfinite(array).all():
                item, k = np.argwhere(~np.isfinite(array))[0]
                what = (
                    f"battery {self.batteries.name[k]!r}"
                    if name in ("p_proposed", "soc")
                    else f"bus {self.network.bus_name[k]!r}"
                )
                raise ValueError(
                    f"{self.network.name}: {name} of {what} in item {item} is {array[item, k]:g}; "
                    "give a finite number"
                )

    def _check_soc(self, state: VoltageState) -> None:
        beyond = np.argwhere((state.soc < -_SOC_ROUNDING) | (state.soc > 1 + _SOC_ROUNDING))
        if beyond.size:
            item, k = beyond[0]
            raise ValueError(
                f"{self.network.name}: soc of battery {self.batteries.name[k]!r} in item {item} is "
                f"{state.soc[item, k]:g}; give a fraction of its energy, between 0 and 1"
            )

    def _check_steps_of_tube(self, state: VoltageState) -> None:
        if self.n_step is None or not len(state):
            return
        if not (0 <= state.step.min() and state.step.max() < self.n_step):
            raise ValueError(
                f"{self.network.name}: step {state.step.max()} lies outside the {self.n_step} "
                "steps of the SOC tube; compute the tube for days of this length"
            )
