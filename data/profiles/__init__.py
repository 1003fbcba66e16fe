"""Load and photovoltaics over time: bundled profiles, and readers of a user's own."""

from feederguard.data.profiles.clock import ProfileError
from feederguard.data.profiles.profiles import Profiles, bus_series, list_profiles, load_profiles

__all__ = ["ProfileError", "Profiles", "bus_series", "list_profiles", "load_profiles"]
