"""The limits laid out for kernels: every column in its place, the values of the compiled model."""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import resolve_setting
from feederguard.models.load_transfer.ac_state import (
    COLUMN_ELL,
    COLUMN_P,
    COLUMN_W,
    COLUMN_Y,
    lay_out_limits,
)
from feederguard.models.load_transfer.rules import transfer_rules

KINDS = {"w": COLUMN_W, "P": COLUMN_P, "ell": COLUMN_ELL, "y": COLUMN_Y}


@pytest.mark.parametrize("setting", ["paper", "radial"])
def test_rows_and_columns_are_those_of_the_compiled_limits(setting: str) -> None:
    network = load_network("ieee33")
    rules = transfer_rules(network, resolve_setting(network, setting))
    limits = lay_out_limits(rules)

    assert limits.by_power == (setting == "paper")
    rng = np.random.default_rng(0)
    used = set(rules.limits.columns)
    assert {"w", "y"} < used <= set(KINDS)
    state = {
        name: rng.uniform(-2, 2, network.n_bus if name == "w" else network.n_branch)
        for name in used
    }
    # A column's kind and place alone say which number of the state belongs there.
    number = {code: state[name] for name, code in KINDS.items() if name in used}
    places = zip(limits.kind.tolist(), limits.index.tolist(), strict=True)
    x = np.array([number[k][i] for k, i in places])
    g = limits.constant + np.add.reduceat(limits.value * x[limits.column], limits.start[:-1])
    excess = np.maximum(np.maximum(limits.lower - g, g - limits.upper), 0)
    np.testing.assert_allclose(
        excess, rules.limits.violations(rules.limits.point(**state))[0], atol=1e-12
    )
    assert (excess > 0).any() and (excess == 0).any()


def test_the_layout_is_made_once() -> None:
    network = load_network("ieee33")
    rules = transfer_rules(network, resolve_setting(network, "radial"))
    assert lay_out_limits(rules) is lay_out_limits(rules)
