"""Each objective at a point given by hand: two buses, two steps of half an hour, 10 MVA."""

import numpy as np
import pyomo.environ as pyo
import pytest

import feeders
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.network import Network
from feederguard.models.opf_objectives import (
    curtailment,
    energy_price,
    generation_cost,
    losses_mw,
    regulation_power,
    voltage_deviation,
)
from feederguard.models.solver import solve


def pair(**changes) -> Network:
    """0 --r = 0.1-- 1, base 10 MVA, with two generators at bus 1.

    `pv` gives at most 0.3 pu at 2 P^2 + 5 P + 1 $/h; `import` has no limit.
    """
    given = {
        "name": "pair",
        "base_mva": 10.0,
        "gen_name": ("pv", "import"),
        "gen_bus": [1, 1],
        "gen_p_min": [0, 0],
        "gen_p_max": [0.3, np.inf],
        "gen_q_min": [0, 0],
        "gen_q_max": [0, 0],
        "gen_cost": [[2.0, 5.0, 1.0], [0.0, 0.0, 0.0]],
    }
    return feeders.two_buses(**given | changes)


@pytest.fixture
def model():
    network = pair()
    batteries = Batteries.at(network, ["1"], p_max_mw=1.0, energy_mwh=2.0)
    model = build_distflow_opf(
        network,
        "exact",
        p_load=np.zeros((2, 2)),
        gen_p_max=[[0.3, np.inf], [0.2, np.inf]],
        step_h=0.5,
        batteries=batteries,
        objective=generation_cost,
    )
    for t, (p, ell, drawn, charge, discharge, w) in enumerate(
        [(0.1, 0.04, 0.5, 0.03, 0.0, 1.1025), (0.2, 0.01, -0.2, 0.0, 0.05, 0.9025)]
    ):
        model.p_gen[t, 0].set_value(p)
        model.p_gen[t, 1].set_value(0.0)
        model.ell[t, 0].set_value(ell)
        model.p_substation[t, 0].set_value(drawn)
        model.p_charge[t, 0].set_value(charge)
        model.p_discharge[t, 0].set_value(discharge)
        model.w[t, 1].set_value(w, skip_validation=True)
    return model


def test_generation_cost(model):
    """1 MW then 2 MW, half an hour each: (2 + 5 + 1) / 2 + (8 + 10 + 1) / 2 $."""
    assert pyo.value(generation_cost(model)) == pytest.approx(4.0 + 9.5)
    assert pyo.value(model.objective) == pytest.approx(13.5)


def test_losses(model):
    """10 MVA times r ell = 0.1 * (0.04 + 0.01)."""
    assert pyo.value(losses_mw(model)) == pytest.approx(0.05)


def test_regulation_power(model):
    assert pyo.value(regulation_power(model)) == pytest.approx(0.3 + 0.5)


def test_curtailment(model):
    """Available 3 and 2 MW, used 1 and 2."""
    assert pyo.value(curtailment(model, ["pv"])) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="generator 'import' has no gen_p_max"):
        curtailment(model)
    with pytest.raises(ValueError, match="no generator 'coal'; there are pv, import"):
        curtailment(model, ["coal"])


def test_voltage_deviation(model):
    """(1.1025 - 1) / 2 = 0.05125 and (0.9025 - 1) / 2 = -0.04875; the substation is at 1.

    They are near 1.05 - 1 and 0.95 - 1.
    """
    assert pyo.value(voltage_deviation(model)) == pytest.approx(0.05125**2 + 0.04875**2)
    with pytest.raises(ValueError, match="v_ref_pu is 0; it must be positive"):
        voltage_deviation(model, 0)


def test_energy_price(model):
    """5 MW for half an hour at 40, then -2 MW at 10 $/MWh."""
    assert pyo.value(energy_price(model, [40.0, 10.0])) == pytest.approx(100.0 - 10.0)
    assert pyo.value(energy_price(model, 40.0)) == pytest.approx(100.0 - 40.0)
    for wrong, told in (
        ([1.0, 2.0, 3.0], r"has shape \(3,\)"),
        (np.nan, "is nan"),
        ([1, np.inf], "of step 1 is inf"),
    ):
        with pytest.raises(
            ValueError,
            match=f"price_per_mwh {told}; give one finite price or one for each of 2 steps",
        ):
            energy_price(model, wrong)
    with pytest.raises(ValueError, match="price_per_mwh is 'high'; give one finite price"):
        energy_price(model, "high")


def test_energy_price_needs_a_grid_above():
    at_the_root = build_distflow_opf(pair(gen_bus=[0, 1], gen_is_grid=[True, False]), "linear")
    with pytest.raises(
        ValueError,
        match="generators stand for the grid above at every substation .*; use generation_cost",
    ):
        energy_price(at_the_root, 10.0)
    beside = build_distflow_opf(pair(gen_bus=[0, 1]), "linear", objective=losses_mw)
    beside.p_substation[0, 0].set_value(0.5)
    assert pyo.value(energy_price(beside, 10.0)) == pytest.approx(50.0), (
        "a generator beside it leaves the grid above"
    )


def test_sums_of_objectives_are_objectives():
    """Selling at 10 $/MWh against a marginal cost of 4 P + 5: P = 1.25 MW, lossless."""
    model = build_distflow_opf(
        pair(), "linear", objective=lambda m: generation_cost(m) + energy_price(m, 10.0)
    )
    model.p_gen[0, 1].fix(0.0)

    solution = solve(model, "ipopt")

    assert 10 * model.p_gen[0, 0].value == pytest.approx(1.25, abs=1e-6)
    assert solution.objective == pytest.approx(2 * 1.25**2 + 5 * 1.25 + 1 - 12.5, abs=1e-6)


def test_voltage_deviation_pulls_the_voltage_to_its_reference():
    """Lossless: w = 1 + 2 * 0.1 p reaches 1.02^2 = 1.0404 at p = 0.202."""
    network = pair()
    model = build_distflow_opf(network, "linear", objective=lambda m: voltage_deviation(m, 1.02))
    model.p_gen[0, 1].fix(0.0)
    solve(model, "highs")
    assert model.p_gen[0, 0].value == pytest.approx(0.202, abs=1e-5)
