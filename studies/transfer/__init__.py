"""The study of load transfer."""
