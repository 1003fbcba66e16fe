"""The protocol of a layer that stands behind a policy and corrects its powers."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.soc_tube import SocTube
from feederguard.models.voltage_regulation import VoltageState


class LayerAnswer(Protocol):
    """The answer of a layer to a batch."""

    @property
    def p(self) -> FloatArray: ...

    @property
    def status(self) -> IntArray: ...  # (B,) position in `Layer.statuses`


class Layer(Protocol):
    """A layer behind a policy: `SafetyLayer`, or `LinearSafetyLayer` of safe DDPG."""

    statuses: tuple[str, ...]  # the words that `correct` has for an item
    fallbacks: int  # items so far for which the problem of `project_ac` had no answer

    @property
    def network(self) -> Network: ...

    @property
    def batteries(self) -> Batteries: ...

    @property
    def step_h(self) -> float: ...  # hours of the steps that it was made for

    @property
    def tube(self) -> SocTube | None: ...  # that it keeps SOC inside

    def correct(self, state: VoltageState, p_proposed: FloatArray) -> LayerAnswer: ...

    def project_ac(self, state: VoltageState, p_proposed: Tensor) -> Tensor: ...
