"""The switching sheet of `n_minus_1.py`."""
