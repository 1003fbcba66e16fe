"""Least shedding against hand calculations, the MISOCP of the same topology, and the AC judge."""

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.baselines.misocp import read_decision
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Decisions, Scenarios, Setting, judge, make_scenarios
from feederguard.models.load_transfer.shedding_opf import LeastSheddingSolver, build_transfer_opf
from feederguard.models.network import Network, NetworkError
from feederguard.models.reconfiguration import build_load_transfer
from feederguard.models.solver import solve
from feeders import row_with_spare


def least_shed(
    network: Network, setting: str | Setting, scenario: Scenarios | None = None
) -> np.ndarray:
    """Return the least shedding with the spare line failed.

    The judge must find it safe, and a tenth less of it unsafe.
    """
    scenario = scenario or make_scenarios(network, "spare")
    closed = np.array(network.branch_name) != "spare"
    answer = LeastSheddingSolver(network, setting).solve(scenario, closed)
    assert answer.found, answer.reason
    assert judge(network, scenario, Decisions(closed[None], answer.shed[None]), setting).safe[0]
    if answer.shed.any():
        assert not judge(
            network, scenario, Decisions(closed[None], 0.9 * answer.shed[None]), setting
        ).safe[0]
    return answer.shed


def test_current_limit_by_hand() -> None:
    # x I = 2.8 * 0.1 = 0.28, and V1 is in phase with I: V1 = sqrt(1 - 0.28^2) = 0.96, P = 0.96 *
    # 0.1 = 0.096 pu. Of 0.12 MW a fifth is shed.
    shed = least_shed(row_with_spare([0.12], [0.0], [2.8], rating=0.1), "radial")
    assert shed == pytest.approx([0.0, 0.2, 0.0], abs=1e-5)


def test_voltage_limit_by_hand() -> None:
    # r = 1: V1 = 1 - I = 0.9 at I = 0.1, P = 0.9 * 0.1 = 0.09 pu. Of 0.12 MW a quarter is shed.
    shed = least_shed(row_with_spare([0.12], [1.0], [0.0]), "radial")
    assert shed == pytest.approx([0.0, 0.25, 0.0], abs=1e-5)


def test_power_limit_by_hand() -> None:
    # The limit is on l2 (l1 is at the substation, and drops nothing): 0.09 = 1 * I, and bus 2
    # receives 0.09 - 0.5 * 0.09^2 = 0.08595. Of 0.1 MW, 0.1405 is shed.
    shed = least_shed(
        row_with_spare([0.0, 0.1], [0.0, 0.5], [0.0, 0.0], paper_limit_mw=0.09), "paper"
    )
    assert shed == pytest.approx([0.0, 0.0, 0.1405, 0.0], abs=1e-4)


def test_power_limit_spares_the_branch_at_the_substation() -> None:
    # l1 carries 0.09 + 0.5 MW, far over the limit that only l2 has.
    shed = least_shed(
        row_with_spare([0.5, 0.12], [0.0, 0.0], [0.01, 0.01], paper_limit_mw=0.09), "paper"
    )
    assert shed == pytest.approx([0.0, 0.0, 0.25, 0.0], abs=1e-5)


def test_generation_beside_the_load_saves_shedding() -> None:
    # As the voltage limit, but 0.02 of the 0.11 MW left over is made on the spot: 0.01 of 0.12 MW
    # is shed.
    shed = least_shed(row_with_spare([0.12], [1.0], [0.0], gen_mw=0.02), "radial")
    assert shed == pytest.approx([0.0, 0.01 / 0.12, 0.0], abs=1e-5)


def test_nothing_is_shed_where_nothing_binds() -> None:
    assert not least_shed(
        row_with_spare([0.05, 0.05], [0.1, 0.1], [0.1, 0.1], rating=1.0), "radial"
    ).any()


def test_shed_power_falls_on_the_bus_that_relieves_most() -> None:
    # Both loads draw on the sagging row; a MW less at its end lifts the end voltage more than a MW
    # less on the way.
    shed = least_shed(row_with_spare([0.08, 0.08], [0.5, 0.5], [0.0, 0.0]), "radial")
    assert shed[1] == pytest.approx(0.0, abs=1e-4)
    assert 0.1 < shed[2] < 1.0


def test_a_users_own_setting() -> None:
    # V1 = 0.95 at I = 0.05, P = 0.0475 pu.
    own = Setting("own", True, 0.95, 1.05)
    assert least_shed(row_with_spare([0.1], [1.0], [0.0]), own) == pytest.approx(
        [0.0, 0.525, 0.0], abs=1e-5
    )


def test_dark_load_is_not_shed_by_choice() -> None:
    network = row_with_spare([0.12], [1.0], [0.0])
    answer = LeastSheddingSolver(network, "radial").solve(
        make_scenarios(network, "l1"), np.array([False, True])
    )
    assert answer.found
    assert answer.shed.tolist() == [0.0, 0.0, 0.0]


def test_generation_that_lifts_the_voltage_out_of_the_band_is_curtailed() -> None:
    # V1 = 1 + I, V1 I = 0.2 gives V1 = 1.17; at V1 = 1.05, 0.0525 of the 0.2 may stay.
    network = row_with_spare([0.0], [1.0], [0.0], gen_mw=0.2)
    answer = LeastSheddingSolver(network, "radial").solve(
        make_scenarios(network, "spare"), np.array([True, False])
    )
    assert answer.found
    assert 0.2 * (1 - answer.curtail[1]) == pytest.approx(0.0525, rel=1e-5)


def test_reactive_demand_alone_cannot_be_shed() -> None:
    # 2 Mvar at a bus without active demand pull the voltage down, and nothing there can be shed.
    network = load_network("ieee33")
    bus = network.bus_name.index("18")
    p, q = network.p_load.copy(), network.q_load.copy()
    p[bus], q[bus] = 0.0, 2.0 / network.base_mva
    scenario = make_scenarios(network, "33", p, q)
    closed = np.array(network.closed)
    closed[scenario.fault[0]] = False
    answer = LeastSheddingSolver(network, "radial").solve(scenario, closed)
    everything = Decisions(closed[None], np.ones((1, network.n_bus)))
    assert not answer.found and answer.shed[bus] == 0
    assert not judge(network, scenario, everything, "radial").safe[0]


def test_one_solver_serves_many_scenarios_in_any_order() -> None:
    network = row_with_spare([0.12], [1.0], [0.0])
    solver = LeastSheddingSolver(network, "radial")
    closed = np.array([True, False])
    levels = [1.0, 2.0, 0.5, 1.0]
    shed = [
        solver.solve(make_scenarios(network, "spare", p_load=level * network.p_load), closed).shed[
            1
        ]
        for level in levels
    ]
    assert shed == pytest.approx([0.25, 0.625, 0.0, 0.25], abs=1e-5)


def test_agrees_with_the_misocp_on_a_hand_feeder() -> None:
    network = row_with_spare([0.08, 0.08], [0.5, 0.5], [0.3, 0.3], rating=0.12)
    scenario = make_scenarios(network, "spare")
    model = build_load_transfer(network, scenario, "radial", switchable=["l1"])
    solve(model, rel_gap=1e-6)
    decision = read_decision(model, scenario)
    answer = LeastSheddingSolver(network, "radial").solve(scenario, decision.closed[0])
    total = float(answer.shed @ network.p_load)
    assert total > 0.01
    assert total == pytest.approx(pyo.value(model.total_shed), rel=1e-4)


def test_agrees_with_the_misocp_on_ieee33() -> None:
    # Ties alone may switch, so that the topology is soon found: the shedding is what is compared.
    network = load_network("ieee33")
    scenario = make_scenarios(network, 1, 1.6 * network.p_load, 1.6 * network.q_load)
    ties = [network.branch_name[b] for b in np.flatnonzero(network.is_tie)]
    model = build_load_transfer(network, scenario, "radial", switchable=ties)
    solve(model, rel_gap=1e-5)
    decision = read_decision(model, scenario)
    answer = LeastSheddingSolver(network, "radial").solve(scenario, decision.closed[0])
    total = float(answer.shed @ scenario.p_load[0])
    assert total > 0.01
    assert total == pytest.approx(pyo.value(model.total_shed), rel=1e-4)
    assert judge(network, scenario, Decisions(decision.closed, answer.shed[None]), "radial").safe[0]


def test_the_model_can_be_read_and_solved_on_its_own() -> None:
    model = build_transfer_opf(row_with_spare([0.12], [1.0], [0.0]), "radial")
    solve(model)
    assert pyo.value(model.objective) == pytest.approx(0.03, abs=1e-6)
    assert pyo.value(model.v[1]) == pytest.approx(0.9, abs=1e-6)


def test_settings_are_refused_as_everywhere() -> None:
    network = row_with_spare([0.12], [1.0], [0.0])
    with pytest.raises(
        ValueError, match="unknown setting 'looped'; use one of paper, radial, meshed"
    ):
        build_transfer_opf(network, "looped")
    with pytest.raises(NetworkError, match="the paper setting needs a uniform active-power limit"):
        LeastSheddingSolver(network, "paper")
