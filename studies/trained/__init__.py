"""Agents trained once and kept."""
