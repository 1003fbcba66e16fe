"""Feeders and profiles: the bundled ones and readers for a user's own; random scenarios."""

from typing import TYPE_CHECKING

from feederguard.models.lazy_face import lazy_face

if TYPE_CHECKING:
    from feederguard.data.networks import load_network
    from feederguard.data.profiles import load_profiles

__all__ = ["load_network", "load_profiles"]

__getattr__ = lazy_face(
    __name__,
    {
        "load_network": "feederguard.data.networks",
        "load_profiles": "feederguard.data.profiles",
    },
)
