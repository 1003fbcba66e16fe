"""MATPOWER case files read as networks."""
