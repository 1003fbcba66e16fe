"""The feeder, batteries and days that the laws of voltage regulation are tried on."""

import numpy as np
import pytest

from feederguard.models.battery import Batteries
from feederguard.models.voltage_regulation import VoltageDays
from feeders import feeder


@pytest.fixture(scope="module")
def network():
    """Bus 3 has reactive demand only; the open tie is a cable that hangs from bus 3."""
    return feeder(
        "0-1 1-2 2-3 1-4 t:3~4",
        p_load=[0, 0.2, 0.3, 0, 0.4],
        q_load=[0, 0.1, 0.1, 0.2, 0.1],
        r=0.05,
        x=0.03,
        b_from=0.01,
        b_to=0.01,
        open_end=[0, 0, 0, 0, 2],
        v_min=[0.95, 0.95, 0.96, 0.94, 0.95],
        v_max=[1.05, 1.05, 1.04, 1.06, 1.05],
    )


@pytest.fixture(scope="module")
def batteries():
    return Batteries([2, 4], 0.3, 2.0, efficiency_charge=0.9, name=("a", "b"))


@pytest.fixture(scope="module")
def days():
    rng = np.random.default_rng(1)
    p = rng.uniform(-0.6, 0.8, (6, 8, 5)) * np.array([0, 1, 1, 0, 1])
    q = rng.uniform(0.0, 0.3, p.shape) * np.array([0, 1, 1, 1, 1])
    dates = np.datetime64("2016-01-01") + np.arange(6)
    return VoltageDays(np.maximum(p, 0), q, np.maximum(-p, 0), 0.5, dates)
