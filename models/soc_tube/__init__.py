"""The SOC tube: from where a day can be held to its end."""

from feederguard.models.soc_tube.compute import compute_soc_tube
from feederguard.models.soc_tube.tube import SocTube

__all__ = ["SocTube", "compute_soc_tube"]
