"""P(V) droop by hand, its return to the SOC aimed at, and its tuning."""

import numpy as np
import pytest

from feederguard.baselines.voltage.droop import Droop, DroopSettings, tune_droop
from feederguard.baselines.voltage.no_control import NoControl
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.battery import Batteries
from feederguard.models.voltage_regulation import VoltageState, simulate


@pytest.fixture(scope="module")
def case():
    return load_voltage_case(weeks="train")


def state(case, v, soc=0.5):
    """One state per voltage, the same at all buses."""
    v = np.asarray(v, dtype=float)
    shape = (len(v), case.network.n_bus)
    zero = np.zeros(shape)
    return VoltageState(
        zero,
        zero,
        np.tile(v[:, None], shape[1]),
        np.full((len(v), 18), soc),
        np.zeros(len(v), dtype=np.int64),
    )


def test_the_curve_by_hand(case):
    """Dead band 0.5 of 0.05 pu, full power at 1.5 of it: half power at 1 of it, 0.95 and 1.05."""
    droop = Droop(case.network, case.batteries, DroopSettings(0.5, 1.5, 0.0, 0.0))
    v = [0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.2]
    share = [-1, -1, -0.5, 0, 0, 0, 0.5, 1, 1]
    assert droop.decide(state(case, v))[:, 3] / case.batteries.p_max[3] == pytest.approx(
        share, abs=1e-12
    )


def test_a_feeder_that_collapses_is_discharged_into(case):
    assert Droop(case.network, case.batteries).decide(state(case, [np.nan]))[0] == pytest.approx(
        -case.batteries.p_max
    )


def test_the_way_back_is_the_shorter_the_nearer_the_limit(case):
    """0.1 of SOC is missing, of which 0.2 is made up an hour.

    That is 0.02 E where the voltage is mid-band or higher, and nothing at the lower limit.
    """
    droop = Droop(case.network, case.batteries, DroopSettings(0.5, 1.5, 0.2, 0.0))
    v = [0.975, 0.9875, 1.0, 1.02]
    charging = droop.decide(state(case, v, soc=0.4))[:, 0] / case.batteries.energy[0]
    assert charging == pytest.approx([0, 0.01, 0.02, 0.02], abs=1e-12)
    discharging = (
        droop.decide(state(case, [2 - x for x in v], soc=0.6))[:, 0] / case.batteries.energy[0]
    )
    assert discharging == pytest.approx(-charging, abs=1e-12)


def test_the_soc_aimed_at_stays_inside_its_limits(case):
    low = Batteries(case.batteries.bus, 0.1, 0.2, soc_max=0.6, name=case.batteries.name)
    droop = Droop(case.network, low, DroopSettings(0.5, 1.5, 0.2, 0.3))
    assert droop.decide(state(case, [1.0], soc=0.6))[0] == pytest.approx(np.zeros(18))


def test_tuned_droop_helps_on_days_it_has_not_seen(case):
    test = load_voltage_case(weeks="test")
    settings = tune_droop(case.network, case.batteries, case.days[::12])
    idle = simulate(test.network, test.batteries, test.days, NoControl())
    held = simulate(
        test.network, test.batteries, test.days, Droop(test.network, test.batteries, settings)
    )
    assert held.n_violation_steps.sum() < 0.3 * idle.n_violation_steps.sum()
    assert held.soc_short_mwh.mean() < 0.1 * test.network.base_mva * test.batteries.energy.sum()
    assert held.soc.min() >= 0 and held.soc.max() <= 1


def test_tuning_twice_gives_the_same(case):
    few = case.days[[20, 140]]
    assert tune_droop(case.network, case.batteries, few) == tune_droop(
        case.network, case.batteries, few
    )


def test_what_cannot_be_is_refused(case):
    with pytest.raises(
        ValueError,
        match="dead_band 0.8, full_at 0.5, .* give 0 < dead_band < full_at, a return of zero or",
    ):
        DroopSettings(0.8, 0.5)
    with pytest.raises(ValueError, match="reserve nan"):
        DroopSettings(reserve=np.nan)
    with pytest.raises(ValueError, match="tune_droop: there are no days; give training days"):
        tune_droop(case.network, case.batteries, case.days[:0])
    with pytest.raises(
        ValueError, match="cigre_lv18: battery 'x' is at bus 99; buses are numbered 0 to 19"
    ):
        Droop(case.network, Batteries([99], 0.1, 0.2, name=("x",)))
