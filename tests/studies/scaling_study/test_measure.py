"""A process of the scaling study: it is measured for what it takes itself."""

from dataclasses import replace

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import make_scenarios
from feederguard.studies.scaling_study.measure import (
    Piece,
    four_buses,
    least_thinkable_cost,
    measure,
)

PIECE = Piece("ieee33", "power_flow", 4, "simbench_2016", 0, 1.0, 10, "nowhere")


def test_least_thinkable_cost_counts_one_operation_and_the_load_that_no_path_reaches() -> None:
    toy = four_buses()
    # Losing the head darkens all: 0.3 MW of C_load (0.3 / 0.1)^2 = 198. Losing line a or b takes
    # the tie: C_switch = 3.
    costs = least_thinkable_cost(toy, make_scenarios(toy, ["head", "a", "b"]))
    assert costs == pytest.approx([198.0, 3.0, 3.0])
    # Nobody misses what a tie feeds.
    assert least_thinkable_cost(toy, make_scenarios(toy, ["tie"])) == pytest.approx([0.0])


def test_a_process_is_measured_for_what_it_takes_itself() -> None:
    held = np.ones(100_000_000)  # 763 MiB, which its maxrss would inherit
    done = measure(PIECE, make_scenarios(load_network("ieee33"), ["6", "7", "6"]), limit_s=100.0)
    assert done.trouble == "" and held[-1] == 1.0
    assert [line["scenario"] for line in done.decisions] == [4, 5, 6]
    assert [line["fault_branch"] for line in done.decisions] == ["6", "7", "6"]
    assert all(0 < line["seconds"] < 1 and line["solver_s"] is None for line in done.decisions)
    mark = done.footprint
    assert 50 < mark["import_mb"] <= mark["ready_mb"] <= mark["peak_mb"] < 700
    assert mark["peak_mb"] - mark["ready_mb"] < 30


def test_a_process_that_fails_or_takes_too_long_says_so() -> None:
    nothing = make_scenarios(four_buses(), [1])
    assert measure(PIECE, nothing, limit_s=0.2).trouble == "stopped after 0.2 s"
    failed = measure(replace(PIECE, feeder="nowhere_x3"), nothing, limit_s=100.0)
    assert "no feeder 'nowhere'" in failed.trouble
    assert (failed.decisions, failed.footprint) == ([], {})


def test_four_buses_is_what_its_drawing_says() -> None:
    toy = four_buses()
    assert toy.n_bus == 4 and toy.is_tie.tolist() == [False, False, False, True]
    assert load_network("ieee33").n_bus > toy.n_bus
