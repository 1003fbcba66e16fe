"""Batteries in engineering units, and netting of charging against discharging, by hand.

netting.py is tested here.
"""

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import battery_digest
from feederguard.models.battery.netting import net_batteries, simultaneous_use
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.network import NetworkError
from feederguard.models.opf_objectives import regulation_power


@pytest.fixture(scope="module")
def network():
    return load_network("ieee33")  # on 10 MVA


def held(network, charge, discharge, **battery):
    """An unsolved OPF of one battery with these powers written into it, (T,) each.

    The battery holds 1 pu h and has eta 0.8 both ways.
    """
    settings = {"efficiency_charge": 0.8, "efficiency_discharge": 0.8} | battery
    one = Batteries(
        bus=np.array([1]), p_max=np.array([1.0]), energy=np.array([1.0]), name=("b",), **settings
    )
    p_load = np.tile(network.p_load, (len(charge), 1))
    model = build_distflow_opf(
        network, "linear", p_load=p_load, batteries=one, objective=regulation_power
    )
    for t, (c, d) in enumerate(zip(charge, discharge, strict=True)):
        model.p_charge[t, 0].set_value(c)
        model.p_discharge[t, 0].set_value(d)
    return model


def powers(model):
    return [
        [v.value for v in variable.values()]
        for variable in (model.p_charge, model.p_discharge, model.soc)
    ]


def test_engineering_units_become_per_unit(network):
    batteries = Batteries.at(
        network, ["5", "5", "9"], p_max_mw=2.0, energy_mwh=[4.0, 8.0, 12.0], soc_end=0.5
    )

    np.testing.assert_array_equal(batteries.bus, [network.bus_index(b) for b in ("5", "5", "9")])
    np.testing.assert_allclose(batteries.p_max, 0.2)
    np.testing.assert_allclose(batteries.energy, [0.4, 0.8, 1.2])
    np.testing.assert_allclose(batteries.soc_end, 0.5)
    assert batteries.name == ("5", "5 (2)", "9")
    assert len(batteries) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"energy_mwh": [1.0, 0.0]},
            "battery at bus '9': energy_mwh is 0; give a finite number, positive",
        ),
        ({"energy_mwh": -3.0}, "batteries: energy_mwh is -3; give a finite number, positive"),
        ({"p_max_mw": np.nan}, "p_max_mw is nan; give a finite number, zero or more"),
        (
            {"p_max_mw": "much"},
            "p_max_mw is 'much'; give one number or one per battery, zero or more",
        ),
        (
            {"efficiency_charge": 1.1},
            "efficiency_charge is 1.1; give a finite number, above 0 and at most 1",
        ),
        ({"soc_max": 90.0}, "soc_max is 90; give a finite number, a fraction between 0 and 1"),
        (
            {"soc_start": [0.5, 0.1], "soc_min": 0.2},
            "battery '9': soc_start is 0.1; it must lie between soc_min 0.2",
        ),
        (
            {"soc_end": 1.0, "soc_max": 0.9},
            "soc_end is 1; it must lie between soc_min 0 and soc_max 0.9",
        ),
        (
            {"p_max_mw": [1.0, 2.0, 3.0]},
            "p_max has 3 entries for 2 buses; give one number or one per battery",
        ),
        ({"names": ["a", "a"]}, "battery 'a' appears twice; give every battery its own name"),
        (
            {"soc_min": 0.8, "soc_max": [1.0, 0.2]},
            "battery '9': soc_min 0.8 is above soc_max 0.2; exchange them, or",
        ),
        ({"bus_names": "59"}, "bus_names is the text '59'; give a list of bus names"),
    ],
)
def test_what_cannot_be_is_refused(network, changes, message):
    arguments = {"bus_names": ["5", "9"], "p_max_mw": 1.0, "energy_mwh": 2.0} | changes
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Batteries.at(network, **arguments)


@pytest.mark.parametrize("bus", [["R1"], [np.nan], [1.7], [1, 2.5], [True], [None]])
def test_a_bus_is_a_whole_number(bus):
    with pytest.raises(
        ValueError,
        match="batteries: bus is .*; give whole numbers, .* or use Batteries.at with bus names",
    ):
        Batteries(bus, 1.0, 1.0)
    assert Batteries([2.0], 1.0, 1.0).bus.tolist() == [2]


def test_the_digest_is_of_every_number_and_of_no_name():
    one = Batteries([1, 2], 1.0, 2.0)
    assert battery_digest(one) == battery_digest(
        Batteries([1, 2], [1.0, 1.0], 2.0, name=("a", "b"))
    )
    others = [
        Batteries([1, 3], 1.0, 2.0), Batteries([1, 2], 1.1, 2.0), Batteries([1, 2], 1.0, 2.0, soc_end=0.5),
        Batteries([1, 2], 1.0, 2.0, soc_start=0.4),
    ]  # fmt: skip
    assert len({battery_digest(other) for other in [one, *others]}) == 5


def test_an_unknown_bus_is_refused(network):
    with pytest.raises(NetworkError, match="no bus 'nowhere'"):
        Batteries.at(network, ["nowhere"], p_max_mw=1.0, energy_mwh=1.0)


def test_netting_keeps_the_power_at_the_bus_and_stores_the_rest(network):
    """0.1 is taken off both powers, so soc rises by (1 / 0.8 - 0.8) 0.1 = 0.045.

    It was 0.5 + 0.8 * 0.2 - 0.1 / 0.8 = 0.535.
    """
    model = held(network, [0.2, 0.0], [0.1, 0.0])
    model.soc[0, 0].set_value(0.535)
    model.soc[1, 0].set_value(0.535)
    assert [(use.battery, use.step, use.p_charge_mw) for use in simultaneous_use(model)] == [
        ("b", 0, 2.0)
    ]

    kept_mwh = net_batteries(model)

    charge, discharge, soc = powers(model)
    assert charge == pytest.approx([0.1, 0.0])
    assert discharge == pytest.approx([0.0, 0.0])
    assert soc == pytest.approx([0.58, 0.58])
    assert kept_mwh == pytest.approx(0.45)
    assert simultaneous_use(model) == []


@pytest.mark.parametrize("limit", [{"soc_max": 0.56}, {"soc_end": 0.56}])
def test_netting_stops_where_the_energy_no_longer_fits(network, limit):
    """Room for 0.025 in soc: 0.025 / 0.45 = 0.0556 comes off both, and the rest is named."""
    model = held(network, [0.2, 0.0], [0.1, 0.0], **limit)
    model.soc[0, 0].set_value(0.535)
    model.soc[1, 0].set_value(0.535)

    net_batteries(model)

    charge, discharge, soc = powers(model)
    assert charge[0] - discharge[0] == pytest.approx(0.1)
    assert discharge[0] == pytest.approx(0.1 - 0.025 / 0.45)
    assert soc == pytest.approx([0.56, 0.56])
    assert [use.step for use in simultaneous_use(model)] == [0]


def test_a_later_full_battery_bounds_what_an_earlier_step_may_keep(network):
    """The second step charges to 0.535 + 0.8 * 0.5 = 0.935.

    The first may keep only what then still fits under soc_max.
    """
    model = held(network, [0.2, 0.5], [0.1, 0.0], soc_max=0.94)
    for t, soc in enumerate((0.535, 0.935)):
        model.soc[t, 0].set_value(soc)

    net_batteries(model)

    assert powers(model)[2] == pytest.approx([0.54, 0.94])


def test_a_battery_without_loss_is_netted_whole(network):
    model = held(
        network, [0.4], [0.3], efficiency_charge=1.0, efficiency_discharge=1.0, soc_end=0.6
    )
    model.soc[0, 0].set_value(0.6)

    assert net_batteries(model) == pytest.approx(0.0)

    charge, discharge, soc = powers(model)
    assert (charge[0], discharge[0], soc[0]) == pytest.approx((0.1, 0.0, 0.6))


@pytest.mark.parametrize(
    ("charge", "discharge", "soc_end", "expected"),
    [
        # 0.8 of 0.3 is stored: 1e-8 more of soc takes 1.25e-8 more charging, in the last step that
        # charges.
        ([0.2, 0.1], [0.0, 0.0], 0.74 + 1e-8, ([0.2, 0.1 + 1.25e-8], [0.0, 0.0])),
        # 0.128 / 0.8 is what 0.2 has stored; a hair more is taken out, and none is asked but to end
        # no lower.
        ([0.2, 0.0], [0.0, 0.128 + 8e-9], None, ([0.2 + 1.25e-8, 0.0], [0.0, 0.128 + 8e-9])),
        ([0.0, 0.0], [0.0, 0.0], 0.5 - 1e-8, ([0.0, 0.0], [0.0, 8e-9])),
    ],
)
def test_the_end_that_a_solver_misses_by_its_tolerance_is_met(
    network, charge, discharge, soc_end, expected
):
    model = held(network, charge, discharge, soc_end=soc_end)
    for variable in model.soc.values():
        variable.set_value(0.5)

    net_batteries(model)

    after = powers(model)
    assert after[2][-1] == (pytest.approx(0.5, abs=1e-15) if soc_end is None else soc_end)
    np.testing.assert_allclose(after[0], expected[0], atol=1e-14)
    np.testing.assert_allclose(after[1], expected[1], atol=1e-14)


def test_an_unsolved_model_is_refused(network):
    model = held(network, [0.0], [0.0])
    model.soc[0, 0].set_value(None)
    with pytest.raises(ValueError, match="soc has no values yet; solve the model first"):
        simultaneous_use(model)
