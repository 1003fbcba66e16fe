"""Environments of both jobs, their batching, and those of the bundled feeders."""
