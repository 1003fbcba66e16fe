"""Idle batteries leave the feeder as it is."""

import numpy as np

from feederguard.baselines.voltage.no_control import NoControl
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.voltage_regulation import simulate


def test_doing_nothing_leaves_everything_as_it_is():
    case = load_voltage_case(weeks="train")
    outcome = simulate(case.network, case.batteries, case.days[:7], NoControl())
    np.testing.assert_allclose(outcome.v, outcome.v_idle, atol=1e-9)
    assert (
        outcome.soc == 0.5
    ).all() and outcome.regulation_mwh.sum() == outcome.soc_short_mwh.sum() == 0
    assert outcome.n_violation_steps.sum() > 0
