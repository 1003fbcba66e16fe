"""Feeders and profiles: the bundled ones and readers for a user's own; random scenarios."""
