"""Benchmarks, each a program."""
