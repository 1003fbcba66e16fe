"""Batteries on a feeder."""

from feederguard.models.battery.batteries import Batteries

__all__ = ["Batteries"]
