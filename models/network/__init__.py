"""A distribution feeder in per-unit arrays, and its exchange with pandapower and MATPOWER."""

from feederguard.models.network.devices import Devices
from feederguard.models.network.fields import NetworkError
from feederguard.models.network.groups import GroupLimit
from feederguard.models.network.network import Network

__all__ = ["Devices", "GroupLimit", "Network", "NetworkError"]
