"""The study of voltage regulation."""
