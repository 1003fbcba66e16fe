"""Switching plans of load transfer: which there are, which is best, and in which order to switch."""
