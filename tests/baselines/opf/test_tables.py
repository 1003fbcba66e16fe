"""Tables of an OPF answer, cell by cell: states written down, not solved; 10 MVA and 10 kV."""

import numpy as np
import pandas as pd
import pytest

import feeders
from feederguard.baselines.opf.tables import battery_table, branch_table, bus_table, generator_table
from feederguard.models.battery import Batteries
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.network import Network
from feederguard.models.opf_objectives import losses_mw
from feederguard.models.power_flow import PowerFlow

AMPERE = 1e4 / (np.sqrt(3) * 10)  # of one pu of current


def feeder(**changes) -> Network:
    """s --a-- m --b-- e and the open tie c from s to e.

    a: r = 0.1 and 1 pu of current; b: r = 0.2 and no rating.
    """
    values = {
        "name": "feeder",
        "base_mva": 10.0,
        "bus_name": ("s", "m", "e"),
        "v_min": 0.5,
        "v_max": 1.2,
        "r": [0.1, 0.2, 0.1],
        "x": 0.0,
        "rating": [1.0, np.inf, 0.5],
    }
    return feeders.feeder("a:0-1 b:1-2 c:0~2", **values | changes)


GENERATORS = {
    "gen_name": ("sun", "mill"), "gen_bus": [2, 1], "gen_p_min": [0, 0], "gen_p_max": [1, 1], "gen_q_min": [-1, -1],
    "gen_q_max": [1, 1], "gen_cost": [[0, 0, 0], [2.0, 5.0, 1.0]],
}  # fmt: skip

# Two steps: 0.5 pu drawn through a, of which 0.25 through b, at V = 1, 0.95, 0.9; then nothing
# flows.
VOLTAGE = np.array([[1.0, 0.95, 0.9j], [1.0, 1.0, 1.0]], dtype=complex)
CURRENT = np.array([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]], dtype=complex)


def model_of(network: Network, **data):
    shape = {"p_load": np.zeros((2, 3)), "objective": losses_mw} | data
    return build_distflow_opf(network, "exact", **shape)


def flow_of(network: Network, voltage=VOLTAGE) -> PowerFlow:
    zero = np.zeros((2, 3))
    return PowerFlow(
        network,
        voltage,
        CURRENT,
        np.ones(2, dtype=bool),
        np.ones((2, 3), dtype=bool),
        np.ones(2, dtype=np.int64),
        network.closed,
        zero,
        zero,
    )


def test_buses() -> None:
    network = feeder()
    model = model_of(
        network, p_load=np.array([[0, 0.1, 0.2], [0, 0.3, 0.4]]), q_load=np.array([0, 0.05, 0.06]),
        p_gen=np.array([0, 0.0, 0.07]),
    )  # fmt: skip
    for index, w in {(0, 1): 0.81, (0, 2): 0.64, (1, 1): 1.0, (1, 2): 1.21}.items():
        model.w[index].set_value(w)

    table = bus_table(model, flow_of(network))

    expected = pd.DataFrame(
        {
            "step": [0, 0, 0, 1, 1, 1], "bus": ["s", "m", "e"] * 2, "v_pu": [1.0, 0.9, 0.8, 1.0, 1.0, 1.1],
            "v_pu_ac": [1.0, 0.95, 0.9, 1.0, 1.0, 1.0], "angle_deg_ac": [0.0, 0.0, 90.0, 0.0, 0.0, 0.0],
            "p_load_mw": [0.0, 1.0, 2.0, 0.0, 3.0, 4.0], "q_load_mvar": [0.0, 0.5, 0.6] * 2,
            "p_gen_mw": [0.0, 0.0, 0.7] * 2,
        }
    )  # fmt: skip
    pd.testing.assert_frame_equal(table, expected, rtol=0, atol=1e-12)


def test_branches() -> None:
    """a takes 5 MW and loses 0.1 * 0.5^2 pu = 250 kW.

    b takes 2.375 MW at 0.95 pu and loses 0.2 * 0.25^2 pu = 125 kW.
    """
    network = feeder()
    model = model_of(network)
    model.P[:, :].set_value(0.0)
    model.Q[:, :].set_value(0.0)
    model.P[0, 0].set_value(0.4)
    model.Q[1, 1].set_value(-0.3)
    straight = VOLTAGE * [1, 1, -1j] + [[0, 0, 0], [0, 0, 1 + 1j]]  # all in phase

    table = branch_table(model, flow_of(network, straight))

    expected = pd.DataFrame(
        {
            "step": [0, 0, 0, 1, 1, 1], "branch": ["a", "b", "c"] * 2, "from_bus": ["s", "m", "s"] * 2,
            "to_bus": ["m", "e", "e"] * 2, "closed": [True, True, False] * 2, "p_mw": [4.0, 0, 0, 0, 0, 0],
            "q_mvar": [0, 0, 0, 0, -3.0, 0], "p_mw_ac": [5.0, 2.375, 0, 0, 0, 0], "q_mvar_ac": np.zeros(6),
            "loss_kw_ac": [250.0, 125.0, 0, 0, 0, 0], "current_a_ac": AMPERE * np.array([0.5, 0.25, 0, 0, 0, 0]),
            "loading_percent_ac": [50.0, 0, 0, 0, 0, 0],
        }
    )  # fmt: skip
    pd.testing.assert_frame_equal(table, expected, rtol=0, atol=1e-9)


def test_the_current_of_a_transformer_is_that_of_its_larger_end_in_amperes_of_its_from_side() -> (
    None
):
    """0.5 pu at the to end of 0.4 kV is 0.5 / 0.8 pu at the from end of 10 kV.

    That is 62.5 % of the rating.
    """
    network = feeder(tap=[0.8, 1, 1], vn_kv=[10.0, 0.4, 0.4])

    table = branch_table(model_of(network), flow_of(network))

    assert table.current_a_ac[0] == pytest.approx(0.625 * AMPERE)
    assert table.loading_percent_ac[0] == pytest.approx(62.5)


def test_charging_counts_at_the_end_where_it_flows() -> None:
    """0.1 pu of susceptance at the to end, at 0.95 pu: its current is 0.5 - 0.095j.

    The other end stays at 0.5.
    """
    network = feeder(b_to=[0.1, 0, 0])

    table = branch_table(model_of(network), flow_of(network))

    assert table.current_a_ac[0] == pytest.approx(np.hypot(0.5, 0.095) * AMPERE)


def test_generators_come_before_the_grid_above() -> None:
    """mill makes 3 MW: 2 * 9 + 5 * 3 + 1 = 34 $/h, and 1 $/h standing still.

    The supply of the grid above has no cost.
    """
    network = feeder(**GENERATORS)
    model = model_of(network)
    powers = {(0, 0): (0.2, 0.01), (0, 1): (0.3, 0.02), (1, 0): (0.1, 0.0), (1, 1): (0.0, 0.0)}
    for index, (p, q) in powers.items():
        model.p_gen[index].set_value(p)
        model.q_gen[index].set_value(q)
    for t, (p, q) in enumerate([(0.5, -0.1), (-0.4, 0.2)]):
        model.p_substation[t, 0].set_value(p)
        model.q_substation[t, 0].set_value(q)

    table = generator_table(model)

    expected = pd.DataFrame(
        {
            "step": [0, 0, 0, 1, 1, 1], "generator": ["sun", "mill", "s"] * 2,
            "kind": ["generator", "generator", "substation"] * 2, "bus": ["e", "m", "s"] * 2,
            "p_mw": [2.0, 3.0, 5.0, 1.0, 0.0, -4.0], "q_mvar": [0.1, 0.2, -1.0, 0.0, 0.0, 2.0],
            "cost_per_h": [0.0, 34.0, np.nan, 0.0, 1.0, np.nan],
        }
    )  # fmt: skip
    pd.testing.assert_frame_equal(table, expected, rtol=0, atol=1e-12)


def test_a_substation_with_a_generator_is_that_generator() -> None:
    """Of two substations s has a generator, and the grid above supplies e alone."""
    network = feeder(
        substation=[0, 2], v_substation=[1.0, 1.0], closed=[True, False, False], gen_name=("plant",), gen_bus=[0],
        gen_p_min=[0], gen_p_max=[1], gen_q_min=[0], gen_q_max=[1], gen_is_grid=[True],
    )  # fmt: skip
    model = model_of(network)
    model.p_gen[:, :].set_value(0.6)
    model.p_substation[:, :].set_value(0.25)
    model.q_substation[:, :].set_value(0.0)

    table = generator_table(model)

    assert table.generator.tolist() == ["plant", "e"] * 2
    assert table.bus.tolist() == ["s", "e"] * 2
    assert table.p_mw.to_numpy() == pytest.approx([6.0, 2.5] * 2)


def test_batteries() -> None:
    """Stores of 4 and 2 MWh."""
    network = feeder()
    batteries = Batteries.at(
        network, ["e", "m"], p_max_mw=5.0, energy_mwh=[4.0, 2.0], names=["one", "two"]
    )
    model = model_of(network, batteries=batteries)
    for index, (charge, discharge, soc) in {
        (0, 0): (0.1, 0.0, 0.6),
        (0, 1): (0.0, 0.2, 0.5),
        (1, 0): (0.0, 0.3, 0.25),
        (1, 1): (0.0, 0.0, 0.75),
    }.items():
        model.p_charge[index].set_value(charge)
        model.p_discharge[index].set_value(discharge)
        model.soc[index].set_value(soc)

    table = battery_table(model)

    expected = pd.DataFrame(
        {
            "step": [0, 0, 1, 1], "battery": ["one", "two"] * 2, "bus": ["e", "m"] * 2,
            "p_charge_mw": [1.0, 0, 0, 0], "p_discharge_mw": [0, 2.0, 3.0, 0], "energy_mwh": [2.4, 1.0, 1.0, 1.5],
            "soc": [0.6, 0.5, 0.25, 0.75],
        }
    )  # fmt: skip
    pd.testing.assert_frame_equal(table, expected, rtol=0, atol=1e-12)


def test_without_things_tables_keep_their_columns() -> None:
    model = model_of(
        feeder(
            gen_name=("plant",),
            gen_bus=[0],
            gen_p_min=[0],
            gen_p_max=[1],
            gen_q_min=[0],
            gen_q_max=[1],
            gen_is_grid=[True],
        )
    )
    assert len(model.substation) == 0

    batteries = battery_table(model)

    assert batteries.empty
    assert list(batteries) == [
        "step",
        "battery",
        "bus",
        "p_charge_mw",
        "p_discharge_mw",
        "energy_mwh",
        "soc",
    ]
    assert generator_table(model).kind.tolist() == ["generator"] * 2
