"""The compiled limits (4), (5) of load transfer as the compiled kernels take them: one tuple of plain arrays.

`shedding_sweep.py` and the paper's correction linearise each limit at an AC state, so they must know what a column of
the compiled limits stands for: which of w, P, ell, y, and of which bus or branch. That and the rows themselves are laid
out here, once per network and setting.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from feederguard.models.load_transfer import TransferRules
from feederguard.models.network import IntArray
from feederguard.models.shedding_sweep import COLUMN_ELL, COLUMN_P, COLUMN_W, COLUMN_Y

_KINDS = {"w": COLUMN_W, "P": COLUMN_P, "ell": COLUMN_ELL, "y": COLUMN_Y}
_known: WeakKeyDictionary[TransferRules, tuple[Any, ...]] = WeakKeyDictionary()


def lay_out_limits(rules: TransferRules) -> tuple[Any, ...]:
    """Return (by_power, kind, index, constant, start, column, value, lower, upper), the same tuple every time.

    by_power: whether branches are limited in power rather than current. kind, index: (n_column,) one of COLUMN_W,
    COLUMN_P, COLUMN_ELL, COLUMN_Y, and the bus or branch. The others are those of `CompiledModel.limits`: limit k is
    lower[k] <= constant[k] + sum of value[t] x[column[t]] over start[k] <= t < start[k + 1] <= upper[k].

    Raises ValueError when a limit is quadratic.
    """
    if rules not in _known:
        limits, rows = rules.limits, rules.limits.limits
        if len(rows.product_value):
            raise ValueError(f"{limits.name}: a limit is quadratic; write it linear in w, P, ell and y")
        kind, index = _columns(rules)
        by_power = rules.setting.active_limit_mw is not None
        _known[rules] = (
            by_power, kind, index, rows.constant, rows.start, rows.column, rows.value, limits.lower, limits.upper,
        )  # fmt: skip
    return _known[rules]


def _columns(rules: TransferRules) -> tuple[IntArray, IntArray]:
    columns = rules.limits.columns
    n = sum(len(places) for places in columns.values())
    kind, index = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for name, places in columns.items():
        kind[places] = _KINDS[name]
        index[places] = np.arange(len(places))
    return kind, index
