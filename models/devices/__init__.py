"""What devices make of a feeder: what may be operated, blocks, and how a fault is isolated."""

from feederguard.models.devices.blocks import Blocks, blocks
from feederguard.models.devices.fault_response import FaultResponse, Place
from feederguard.models.devices.faults import failed_branches, kills
from feederguard.models.devices.isolation import isolate
from feederguard.models.devices.operable import block_devices, operable_branches
from feederguard.models.network import Devices

__all__ = [
    "Blocks",
    "Devices",
    "FaultResponse",
    "Place",
    "block_devices",
    "blocks",
    "failed_branches",
    "isolate",
    "kills",
    "operable_branches",
]
