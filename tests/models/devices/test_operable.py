"""Which branches may be operated, by devices and by names."""

import numpy as np
import pytest

from feederguard.models.devices import block_devices, operable_branches
from feederguard.models.network import NetworkError
from feeders import feeder
from switched_feeder import switched_feeder


def names(network, mask):
    return " ".join(network.branch_name[b] for b in np.flatnonzero(mask))


def test_breakers_reclosers_and_load_break_switches_are_operated():
    """d and m have fuses, e a disconnector, h nothing."""
    network = switched_feeder()

    assert names(network, operable_branches(network)) == "a b c f g K t u"


def test_a_tie_whose_open_device_is_blocked_stays_open():
    """g keeps L3 when L2 is blocked; t has T1 alone to close it."""
    network = block_devices(switched_feeder(), ["L2", "T1", "a"])

    assert names(network, operable_branches(network)) == "b c f g K u"
    assert network.open_end[network.branch_index("g")] == 2


def test_names_restrict_what_is_operated():
    network = switched_feeder()

    assert names(network, operable_branches(network, ["L2", "t"])) == "g t"
    assert names(network, operable_branches(network, blocked=["L2", "t", "B1"])) == "b c f g K u"
    assert names(network, operable_branches(network, ["g", "B1"], ["L2", "L3"])) == "a"


def test_without_devices_names_are_those_of_branches():
    network = feeder("a:0-1 b:1-2 t:0~2")

    assert names(network, operable_branches(network)) == "a b t"
    assert names(network, operable_branches(network, ["b", "t"], ["t"])) == "b"
    with pytest.raises(NetworkError, match="hand: it has no devices to block; name branches inst"):
        block_devices(network, ["a"])


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("F1", r"hand: 'F1' has no device that may be operated under load; name a breaker, recl"),
        ("e", r"hand: 'e' has no device that may be operated under load"),
        ("h", r"hand: branch 'h' has no device; name a branch or a device that has"),
        ("X9", r"hand: no device or branch 'X9'; devices are B1, R1, D1, L1, F1, D2, B2, L2, \.\."),
    ],
)
def test_a_name_that_nobody_may_operate_is_refused(only, message):
    with pytest.raises(NetworkError, match=message):
        operable_branches(switched_feeder(), [only])


def test_what_is_out_of_service_is_not_operated_and_its_devices_stay_as_they_are():
    in_service = [name != "g" for name in switched_feeder().branch_name]
    network = switched_feeder()
    network = network.with_changes(in_service=in_service, closed=network.closed & in_service)

    assert names(network, operable_branches(network)) == "a b c f K t u"
    assert network.open_end[network.branch_index("g")] == 0
    bare = network.with_changes(devices=None)
    assert "g" not in names(bare, operable_branches(bare))
