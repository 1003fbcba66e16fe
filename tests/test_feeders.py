"""The hand feeders are what their drawing says."""

import numpy as np
import pytest

from feeders import feeder, ring, row, two_buses


def test_the_drawing_is_the_feeder():
    network = feeder("0-1 a:1-2 t:0~2", p_load=[0, 0.1, 0.2], r=0.02, rating=[1, 2, 3])

    assert network.bus_name == ("0", "1", "2")
    assert network.branch_name == ("0-1", "a", "t")
    assert network.kind == ("line", "line", "tie")
    np.testing.assert_array_equal(network.from_bus, [0, 1, 0])
    np.testing.assert_array_equal(network.to_bus, [1, 2, 2])
    np.testing.assert_array_equal(network.closed, [True, True, False])
    np.testing.assert_array_equal(network.p_load, [0, 0.1, 0.2])
    np.testing.assert_array_equal(network.r, [0.02] * 3)
    np.testing.assert_array_equal(network.rating, [1, 2, 3])
    np.testing.assert_array_equal(network.v_max, [1.1] * 3)
    assert network.substation == [0] and network.v_substation == [1.0]


def test_single_numbers_count_for_every_bus_or_branch():
    network = row(4, v_min=0.95, kind="trafo", s_max=2.0)

    np.testing.assert_array_equal(network.v_min, [0.95] * 4)
    np.testing.assert_array_equal(network.s_max, [2.0] * 3)
    assert network.kind == ("trafo",) * 3 and network.branch_name == ("1", "2", "3")


def test_the_ring_and_the_pair():
    assert ring(0.1, 0.2).branch_name == tuple("abcde") and ring(0.1, 0.2).is_tie[4]
    assert ring(0.1, 0.2, tie=False).branch_name == tuple("abcd")
    assert ring(0.1, 0.2).r.max() == 0.0
    assert two_buses(p_load=[0, 1.0]).z == [0.1]


def test_what_is_no_drawing_or_no_field_is_refused():
    with pytest.raises(ValueError, match="'0-1 1=2' is no drawing"):
        feeder("0-1 1=2")
    with pytest.raises(TypeError, match="no field .'p_mw'."):
        feeder("0-1", p_mw=[0, 1])
