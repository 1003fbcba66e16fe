"""Learning algorithms; they know no feeder but its fingerprint."""
