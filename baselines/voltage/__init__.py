"""Voltage regulation that is not learned."""
