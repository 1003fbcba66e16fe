"""The study of growing feeders of `scaling.py`."""
