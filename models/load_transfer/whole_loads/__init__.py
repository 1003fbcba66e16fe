"""The least shedding of one switch state where every load is shed whole or not at all."""

from feederguard.models.load_transfer.whole_loads.settle import WholeShedding, shed_whole

__all__ = ["WholeShedding", "shed_whole"]
