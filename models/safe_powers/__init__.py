"""AC-safe powers of batteries, without torch."""
