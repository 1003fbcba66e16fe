"""A Network as a pandapower net: what it cannot say, and ratings."""

import numpy as np
import pandapower
import pytest

from feederguard.models.network import Network, NetworkError
from feeders import two_buses
from pandapower_nets import feeder


def test_transformer_without_impedance_is_refused():
    network = two_buses(r=0.0, x=0.0, tap=0.95)

    with pytest.raises(
        NetworkError, match="hand: branch 'l' is a transformer without impedance.* small x"
    ):
        network.to_pandapower()


def test_rating_of_none_stays_none_and_of_zero_nearly_zero():
    network = Network.from_pandapower(feeder())
    rating = network.rating.copy()
    rating[[0, 3, 4]] = np.inf, 0.0, 0.0

    again = Network.from_pandapower(network.with_changes(rating=rating).to_pandapower())

    assert (again.rating[0], again.rating[3]) == (np.inf, 0.0)
    assert 0 < again.rating[4] < 1e-8


def test_pandapower_file_keeps_what_has_no_rating():
    """JSON has no infinity: it comes back as a missing number."""
    network = Network.from_pandapower(feeder())
    network = network.with_changes(rating=np.full(network.n_branch, np.inf))

    again = Network.from_pandapower(
        pandapower.from_json_string(pandapower.to_json(network.to_pandapower()))
    )

    np.testing.assert_array_equal(again.rating, network.rating)
    np.testing.assert_allclose(again.z, network.z, rtol=1e-12)
