"""Environments of both jobs, and those of the bundled feeders."""
