"""The SOC tube by hand on a two-bus feeder, what it is for, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

import feeders
from feederguard.agents.safety_layer import SafetyLayer
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import battery_digest
from feederguard.models.network import Network
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.soc_tube import SocTube, compute_soc_tube
from feederguard.models.soc_tube.compute import idle_squares
from feederguard.models.soc_tube.plan import charging_factor, first_of_make
from feederguard.models.voltage_regulation import VoltageDays, VoltageState, simulate

STEPS = 8


def two_buses() -> Network:
    """0 --0.1-- 1 without reactance, a substation at 1 pu, 1 MVA, band 0.95..1.05."""
    return feeders.two_buses(name="two buses", v_min=0.95, v_max=1.05)


def battery(network, energy=1.0, p_max=0.5, **changes) -> Batteries:
    """Lossless unless said otherwise, half full."""
    return Batteries.at(
        network,
        ["1"],
        p_max,
        energy,
        **({"efficiency_charge": 1.0, "efficiency_discharge": 1.0} | changes),
    )


def days(*profiles) -> VoltageDays:
    """Days of STEPS steps of an hour; net demand at bus 1, pu."""
    net = np.zeros((len(profiles), STEPS, 2))
    net[:, :, 1] = profiles
    return VoltageDays(
        np.maximum(net, 0),
        np.zeros_like(net),
        np.maximum(-net, 0),
        1.0,
        np.datetime64("2016-01-01") + np.arange(len(net)),
    )


# Two heavy hours, 4 and 5: 0.475 takes the voltage to exactly 0.95 (0.5 of current through 0.1),
# what is above must be discharged; the light hours leave 0.475 - 0.4 for charging.
HEAVY = [0.4, 0.4, 0.4, 0.4, 0.675, 0.675, 0.0, 0.0]


class Always:
    """A policy that always wants one power, through a layer."""

    name = "always"

    def __init__(self, layer, power):
        self.layer, self.power = layer, power

    def decide(self, state):
        return self.layer.correct(state, np.full(state.soc.shape, self.power)).p


class TestByHand:
    def test_a_heavy_evening_must_be_kept_in_store(self):
        """Linear about idle, w = v^2 - 0.2 p.

        At 0.675, v^2 = 0.855..., and each heavy hour takes (0.9025 - v^2) / 0.2.
        """
        network = two_buses()
        unit = battery(network)
        tube = compute_soc_tube(network, unit, days(HEAVY))
        # The AC voltage behind 0.1 at demand p: v = (1 + sqrt(1 - 0.4 p)) / 2.
        v2 = (0.5 * (1 + np.sqrt(1 - 0.4 * 0.675))) ** 2
        need = (0.9025 - v2) / 0.2

        assert tube.low.shape == (STEPS + 1, 1)
        # Before the heavy hours both must be in store, before the second one of them, and half the
        # energy at the end.
        assert tube.low[4, 0] == pytest.approx(2 * need, abs=1e-4)
        assert tube.low[5, 0] == pytest.approx(need, abs=1e-4)
        assert tube.low[8, 0] == pytest.approx(0.5, abs=1e-4)
        assert tube.low[0, 0] <= 0.5 <= tube.high[0, 0]
        # Nothing is too high on this day, so from above only the capacity counts.
        assert tube.high[:, 0] == pytest.approx(1.0, abs=1e-4)

    def test_a_sunny_noon_needs_room(self):
        """Without losses w = 1 + 0.2 s at surplus s.

        It exceeds 1.1025 where s > 0.5125, and the rest is charged.
        """
        network = two_buses()
        sunny = [0.0, 0.0, -0.7125, -0.7125, 0.0, 0.0, 0.0, 0.0]
        tube = compute_soc_tube(network, battery(network), days(sunny))

        assert tube.high[3, 0] == pytest.approx(0.8, abs=1e-4)
        assert tube.high[2, 0] == pytest.approx(0.6, abs=1e-4)
        assert tube.high[-1, 0] <= tube.high[0, 0] + 1e-6

    @pytest.mark.parametrize("soc_end", [0.7, 0.2])
    def test_the_end_is_the_one_that_the_batteries_ask_for(self, soc_end):
        """The last hour allows charging kappa p = (1 - 0.9025) / 0.2.

        So much below the end the tube may be before it.
        """
        network = two_buses()
        unit = battery(network, soc_end=soc_end)
        tube = compute_soc_tube(network, unit, days(HEAVY))
        assert tube.low[-1, 0] == pytest.approx(soc_end, abs=1e-4)
        assert tube.low[-2, 0] == pytest.approx(max(soc_end - 0.4875 * 0.9 / 0.95, 0.0), abs=1e-4)
        wasteful = Always(SafetyLayer(network, unit, 1.0, tube), -0.5)
        outcome = simulate(network, unit, days(HEAVY), wasteful)
        assert outcome.n_violation_steps[0] == 0 and outcome.soc_short_mwh[0] < 1e-6
        assert outcome.soc[0, -1, 0] == pytest.approx(soc_end, abs=1e-4)

    def test_a_sunny_day_may_end_higher_by_what_is_asked(self):
        """0.4 of sun fills 0.4, so the tube is at most 0.6 before it, wherever the day starts.

        The end may be above the start by 0.5 - soc_start.
        """
        network = two_buses()
        sunny = days([0.0, 0.0, -0.7125, -0.7125, 0.0, 0.0, 0.0, 0.0])
        for start in (0.5, 0.2):
            tube = compute_soc_tube(network, battery(network, soc_start=start, soc_end=0.5), sunny)
            assert tube.high[2, 0] == pytest.approx(0.6, abs=1e-4)
            assert tube.low[0, 0] <= start <= tube.high[0, 0]
            assert 0.5 - 1e-6 <= tube.high[-1, 0] <= tube.high[0, 0] + 0.5 - start + 1e-6

    def test_batteries_of_other_ends_are_not_alike(self):
        network = three_buses()
        unit = Batteries([1, 2], 0.5, 2.0, soc_end=[0.4, 0.6])
        tube = compute_soc_tube(network, unit, far_days([0.1] * STEPS))
        assert first_of_make(unit).tolist() == [0, 1] and first_of_make(
            replace(unit, soc_end=0.5)
        ).tolist() == [
            0,
            0,
        ]
        # They share what is charged, so one of them may end higher than it must.
        assert (tube.low[-1] >= [0.4 - 1e-6, 0.6 - 1e-6]).all() and tube.low[-1].min() < 0.5

    def test_it_says_what_it_was_computed_for(self):
        network = two_buses()
        tube = compute_soc_tube(network, battery(network), days(HEAVY))
        assert tube.step_h == 1.0 and tube.batteries == battery_digest(battery(network))


class TestWhatItIsFor:
    def test_a_wasteful_policy_holds_the_day_with_the_tube_and_not_without(self):
        network = two_buses()
        unit = battery(network)
        day = days(HEAVY)
        tube = compute_soc_tube(network, unit, day)
        without = simulate(network, unit, day, Always(SafetyLayer(network, unit, 1.0), -0.5))
        within = simulate(network, unit, day, Always(SafetyLayer(network, unit, 1.0, tube), -0.5))

        assert without.n_violation_steps[0] == 2 and without.soc_short_mwh[0] > 0.1
        assert within.n_violation_steps[0] == 0 and within.soc_short_mwh[0] < 1e-6

    def test_the_tube_asks_for_no_more_than_the_band_has_room_for(self):
        """At 0.4 of demand w = 0.9182...; it may fall by 0.2 kappa p to 0.9025, kappa 0.95/0.9."""
        network = two_buses()
        unit = battery(network)
        tube = SocTube(np.full((STEPS + 1, 1), 0.8), np.ones((STEPS + 1, 1)))
        v = 0.5 * (1 + np.sqrt(1 - 0.4 * 0.4))
        answer = SafetyLayer(network, unit, 1.0, tube).correct(*asked(0.4, v))

        assert answer.words[0] == "corrected" and answer.certified[0]
        assert answer.p[0, 0] == pytest.approx((v**2 - 0.9025) / (0.2 * 0.95 / 0.9), abs=1e-9)
        # Where there is no room at all the tube asks for nothing, however far below it the battery
        # is.
        low = 0.5 * (1 + np.sqrt(1 - 0.4 * 0.475))
        assert SafetyLayer(network, unit, 1.0, tube).correct(*asked(0.475, low)).p[
            0, 0
        ] == pytest.approx(0.0, abs=1e-6)

    def test_the_tube_gives_way_before_voltage(self):
        """The battery is as full as the tube allows, and the sun lifts the bus above 1.05 pu.

        It charges all the same, and says so.
        """
        network = two_buses()
        unit = battery(network)
        tube = SocTube(np.zeros((STEPS + 1, 1)), np.full((STEPS + 1, 1), 0.5))
        v = 0.5 * (1 + np.sqrt(1 + 0.4 * 0.7))
        answer = SafetyLayer(network, unit, 1.0, tube).correct(*asked(-0.7, v))

        assert answer.words[0] == "tube_left" and answer.certified[0]
        # v (v - 1) = 0.1 s: at 1.05 pu a surplus of 0.525 is left.
        assert answer.p[0, 0] == pytest.approx(0.175, abs=1e-4)

    def test_where_nothing_is_safe_the_band_is_left_least(self):
        """0.2 of power cannot bring 0.9 of demand down to 0.475.

        Discharging all of it is the least violation, whatever the tube says.
        """
        network = two_buses()
        unit = battery(network, p_max=0.2)
        v = 0.5 * (1 + np.sqrt(1 - 0.4 * 0.9))
        for low in (0.0, 0.5):
            tube = SocTube(np.full((STEPS + 1, 1), low), np.ones((STEPS + 1, 1)))
            answer = SafetyLayer(network, unit, 1.0, tube).correct(*asked(0.9, v))
            assert not answer.certified[0] and answer.words[0] == "slack_used"
            assert answer.p[0, 0] == pytest.approx(-0.2, abs=1e-9)


def asked(p_net, v_idle):
    """A state of one item, half full, and a proposal of nothing."""
    state = VoltageState(
        np.array([[0.0, p_net]]),
        np.zeros((1, 2)),
        np.array([[1.0, v_idle]]),
        np.array([[0.5]]),
        np.zeros(1, np.int64),
    )
    return state, np.zeros((1, 1))


# Noon lifts the bus above its band, the evening takes it below: both sides of the tube ask for
# something.
BOTH = [0.3, -0.7, -0.7, 0.2, 0.6, 0.6, 0.3, 0.0]


def three_buses() -> Network:
    """0 --0.05-- 1 --0.05-- 2, band 0.95..1.05."""
    return feeders.row(3, name="three buses", r=0.05, x=0.0, v_min=0.95, v_max=1.05)


def far_days(*profiles) -> VoltageDays:
    """Days of STEPS steps of an hour; net demand at bus 2, pu."""
    net = np.zeros((len(profiles), STEPS, 3))
    net[:, :, 2] = profiles
    dates = np.datetime64("2016-01-01") + np.arange(len(net))
    return VoltageDays(np.maximum(net, 0), np.zeros_like(net), np.maximum(-net, 0), 1.0, dates)


def can_be_held(network, unit, day, soc, first) -> bool:
    """Whether some powers from step `first` on hold both sides of (2), (3), (4) to the end.

    The end is soc_end (soc_start) or above. The answer is that of an LP with every battery for
    itself: it maximises nothing over c, d (T', n) stacked.
    """
    matrices = safety_matrices(network, unit, 1.0)
    squares = {side: idle[0, first:] for side, idle in idle_squares(network, matrices, day).items()}
    n, steps, kappa = len(unit), STEPS - first, charging_factor(network)
    rows, right = [], []

    def add(c, d, limit):
        rows.append(np.concatenate([c.ravel(), d.ravel()]))
        right.append(limit)

    for t in range(steps):
        at = np.zeros((steps, n))
        for i, slope in enumerate(matrices.columns.T):
            moved = at.copy()
            moved[t] = -slope
            add(kappa * moved, -moved, squares["low"][t, i] - matrices.w_low[i])
            add(-moved, moved, matrices.w_high[i] - squares["high"][t, i])
        for k in range(n):
            both, gained = at.copy(), at.copy()
            both[t, k] = 1.0
            add(both, both, 1.0)
            gained[: t + 1, k] = unit.p_max[k] / unit.energy[k]
            stored, taken = (
                gained * unit.efficiency_charge[k],
                gained / unit.efficiency_discharge[k],
            )
            asked = unit.soc_start[k] if unit.soc_end is None else unit.soc_end[k]
            least = asked if t == steps - 1 else unit.soc_min[k]
            add(stored, -taken, unit.soc_max[k] - soc[k] + 1e-6)
            add(-stored, taken, soc[k] - least + 1e-6)
    return bool(
        linprog(np.zeros(2 * steps * n), np.array(rows), np.array(right), bounds=(0, 1)).status == 0
    )


class TestThePromise:
    @pytest.mark.parametrize("soc_end", [None, 0.6, 0.3])
    def test_from_anywhere_inside_both_sides_are_held_to_a_full_end(self, soc_end):
        """Corners and random places of the tube are tried at every step of every day.

        Every battery has its own place.
        """
        network = three_buses()
        unit = Batteries(
            [1, 2], [0.3, 0.5], [1.2, 1.6], efficiency_charge=[0.95, 0.9], efficiency_discharge=[0.9, 0.95], soc_max=[0.9, 1.0],
            soc_end=soc_end, name=("one", "two"),
        )  # fmt: skip
        some = far_days(BOTH, HEAVY, [0.0, 0.0, -0.7, -0.7, -0.6, 0.0, 0.0, 0.0], [0.2] * STEPS)
        tube = compute_soc_tube(network, unit, some)
        assert (tube.high - tube.low).min() >= 0 and (tube.high < unit.soc_max - 1e-3).any()
        rng = np.random.default_rng(0)
        for first in range(STEPS):
            low, high = tube.low[first], tube.high[first]
            places = [
                low,
                high,
                np.array([low[0], high[1]]),
                np.array([high[0], low[1]]),
                rng.uniform(low, high),
            ]
            for day in range(len(some)):
                for soc in places:
                    assert can_be_held(network, unit, some[[day]], soc, first), (first, day, soc)

    def test_outside_it_cannot_always_be(self):
        network = two_buses()
        unit = battery(network)
        day = days(HEAVY)
        tube = compute_soc_tube(network, unit, day)
        assert can_be_held(network, unit, day, tube.low[4], 4)
        assert not can_be_held(network, unit, day, tube.low[4] - 0.01, 4)
        sunny = days([0.0, 0.0, -0.7125, -0.7125, 0.0, 0.0, 0.0, 0.0])
        tube = compute_soc_tube(network, unit, sunny)
        assert can_be_held(network, unit, sunny, tube.high[3], 3)
        assert not can_be_held(network, unit, sunny, tube.high[3] + 0.01, 3)

    @pytest.mark.parametrize("wish", [-0.5, 0.0, 0.5])
    def test_under_the_layer_a_day_ends_as_full_as_it_began(self, wish):
        """Whatever the policy wants, by AC power flow, on a day of both sides."""
        network = two_buses()
        unit, day = battery(network, energy=2.0), days(BOTH)
        tube = compute_soc_tube(network, unit, day)
        outcome = simulate(network, unit, day, Always(SafetyLayer(network, unit, 1.0, tube), wish))
        assert outcome.n_violation_steps[0] == 0
        assert (
            outcome.soc[0, -1, 0] >= 0.5 - 1e-6 and outcome.soc[0, -1, 0] <= tube.high[0, 0] + 1e-6
        )


class TestBadInput:
    def test_too_little_energy_names_the_battery(self):
        network = two_buses()
        with pytest.raises(ValueError, match="battery '1' lacks most, 0.* MWh beside its 0.2"):
            compute_soc_tube(network, battery(network, energy=0.2), days(HEAVY))

    def test_too_little_power_names_bus_and_battery(self):
        network = two_buses()
        with pytest.raises(ValueError, match="leave bus '1' at 0.9.* raise p_max of battery '1'"):
            compute_soc_tube(network, battery(network, p_max=0.1), days(HEAVY))

    def test_days_without_a_solution_are_named(self):
        network = two_buses()
        with pytest.raises(ValueError, match="no AC solution on 2016-01-02 at step 3"):
            compute_soc_tube(network, battery(network), days(HEAVY, [0.1] * 3 + [9.0] + [0.1] * 4))

    def test_no_days(self):
        network = two_buses()
        with pytest.raises(ValueError, match="there are no days to compute the SOC tube of"):
            compute_soc_tube(network, battery(network), days(HEAVY)[:0])

    def test_an_end_out_of_reach(self):
        network = two_buses()
        with pytest.raises(
            ValueError, match="battery '1' cannot go from soc_start 0.5 to soc_end 1 in 8 steps"
        ):
            compute_soc_tube(
                network, battery(network, p_max=0.05, soc_end=1.0), days([0.1] * STEPS)
            )


class TestWhereItDoesNotBelong:
    def test_a_layer_of_another_step_than_the_days(self):
        """Made for quarters of an hour, it would certify four times the power of an hour."""
        network = two_buses()
        unit, day = battery(network), days(HEAVY)
        with pytest.raises(
            ValueError,
            match="layer was made for steps of 0.25 h, and the days have steps of 1 h; make it",
        ):
            simulate(network, unit, day, Always(SafetyLayer(network, unit), 0.0))

    def test_a_tube_of_days_of_another_length(self):
        network = two_buses()
        unit, day = battery(network), days(HEAVY)
        longer = SocTube(np.zeros((STEPS + 3, 1)), np.ones((STEPS + 3, 1)))
        with pytest.raises(
            ValueError,
            match="layer was made for days of 10 steps, and these have 8; make it for days of",
        ):
            simulate(network, unit, day, Always(SafetyLayer(network, unit, 1.0, longer), 0.0))

    @pytest.mark.parametrize("soc", [-0.1, 1.5])
    def test_a_state_whose_soc_is_no_fraction(self, soc):
        network = two_buses()
        state, power = asked(0.1, 1.0)
        wrong = VoltageState(state.p_net, state.q_net, state.v_idle, np.array([[soc]]), state.step)
        with pytest.raises(
            ValueError,
            match=f"soc of battery '1' in item 0 is {soc:g}; give a fraction of its energy",
        ):
            SafetyLayer(network, battery(network), 1.0).correct(wrong, power)
