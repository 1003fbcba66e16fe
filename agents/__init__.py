"""Learning: environments, agents and safety layers."""
