"""AC-safe powers of batteries: what a state allows, the search, and the answers; no torch."""

from feederguard.models.safe_powers.answers import STATUSES, SafeActions
from feederguard.models.safe_powers.nearest import SafePowers

__all__ = ["STATUSES", "SafeActions", "SafePowers"]
