"""DistFlow of one branch by hand, and the bounds of its variables.

The equations are compared with complex arithmetic in tests/laws/test_distflow.py.
"""

import pytest

from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.equations.distflow import cone_excess, series_end, voltage_change
from feeders import two_buses


def test_half_a_unit_of_current_through_a_tenth():
    """0.5 pu at 1 pu: 0.025 lost, 0.475 arrives, at 0.95 pu."""
    assert series_end(0.1, 0.0, 0.5, 0.0, 0.25) == pytest.approx((0.475, 0.0))
    assert 1 + voltage_change(0.1, 0.0, 0.5, 0.0, 0.25) == pytest.approx(0.95**2)
    assert cone_excess(1.0, 0.5, 0.0, 0.25) == pytest.approx(0.0)


def test_a_substation_is_held_outside_the_band():
    model = build_distflow_opf(two_buses(v_substation=[1.2], v_max=1.1))
    assert model.w[0, 0].fixed and model.w[0, 0].value == pytest.approx(1.44)
    assert model.w[0, 0].bounds == (None, None)
    assert model.w[0, 1].bounds == pytest.approx((0.81, 1.21))


def test_the_cone_bounds_current_by_what_can_flow():
    """(6): 0.4 pu behind the branch, 0.9 pu at the least."""
    network = two_buses(p_load=[0.0, 0.4])
    assert build_distflow_opf(network, "soc").ell[0, 0].ub == pytest.approx(
        (2 * 0.4 / 0.9) ** 2, abs=2e-6
    )
    assert build_distflow_opf(network, "exact").ell[0, 0].ub is None
