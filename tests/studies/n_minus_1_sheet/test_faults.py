"""Which faults a sheet asks, and what it says of trip, isolation and re-closing."""

import numpy as np
import pytest

from feederguard.models.network import Devices, Network, NetworkError
from feederguard.studies.n_minus_1_sheet.faults import ask_faults, device_text, response_columns
from feeders import feeder

CHAIN = "a:0-1 b:1-2 c:2-3 t:0~3"


def with_breakers() -> Network:
    """Return a ring: a breaker at the head, load-break switches at the near ends of b and c."""
    plain = feeder(CHAIN, p_load=[0.0, 0.1, 0.2, 0.3])
    devices = Devices(
        name=("B", "S2", "S3", "T"),
        kind=("breaker", "load_break", "load_break", "load_break"),
        branch=np.array([0, 1, 2, 3]),
        end=np.array([0, 0, 0, 1]),
        closed=np.array([True, True, True, False]),
        remote=np.array([True, False, False, False]),
        minutes=np.array([1.0, 30.0, 30.0, 30.0]),
        available=np.ones(4, dtype=bool),
    )
    return plain.with_changes(devices=devices)


def test_every_closed_branch_fails_where_none_is_named() -> None:
    faults = ask_faults(feeder(CHAIN), ())
    assert [(fault.label, fault.kind) for fault in faults] == [
        ("a", "line"),
        ("b", "line"),
        ("c", "line"),
    ]


def test_buses_devices_and_several_at_once_may_fail() -> None:
    one, two, three = ask_faults(with_breakers(), ("bus:2", "S3", "a+c"))
    assert (one.label, one.kind) == ("bus:2", "bus")
    assert (two.label, two.kind) == ("S3", "device")
    assert (three.elements, three.kind) == (("a", "c"), "several")


def test_the_columns_say_what_trips_what_is_opened_and_what_is_closed_again() -> None:
    network = with_breakers()
    (fault,) = ask_faults(network, ("c",))
    columns = response_columns(network, [fault], network.p_load[None], None)
    # The breaker at the head trips and all three loads are dark; S3 cuts c off, B closes again.
    assert columns["tripped"] == ["B (a at bus 0)"]
    assert columns["tripped_kw"] == pytest.approx(600.0)
    assert columns["load_points_interrupted"].tolist() == [3]
    assert columns["isolated_at"] == ["S3 (c at bus 2)"]
    assert columns["reclosed"] == ["B (a at bus 0)"]
    with_customers = response_columns(
        network, [fault], network.p_load[None], np.array([0, 10, 20, 40])
    )
    assert with_customers["customers_interrupted"].tolist() == [70]


def test_operations_name_the_device_and_the_bus_where_it_stands() -> None:
    network = with_breakers()
    assert device_text(network, 2, opens=True) == "S3 at bus 2"
    assert device_text(network, 3, opens=False) == "T at bus 3"
    assert device_text(feeder(CHAIN), 2, opens=True) == ""


@pytest.mark.parametrize(
    "names, message",
    [
        (("t",), "hand: branch 't' is normally open; only a branch in service can fail here"),
        (("a", "a"), "hand: a fault is named twice; name each once"),
    ],
)
def test_what_cannot_be_asked_is_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask_faults(feeder(CHAIN), names)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(NetworkError, match="hand: no branch, device or bus 'x'"):
        ask_faults(feeder(CHAIN), ("x",))
