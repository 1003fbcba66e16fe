"""The totals of an N-1 sheet are the judge's, and the worst fault comes first."""

import re
from pathlib import Path

import numpy as np
import pytest
from small_studies import quiet, read_table

from feederguard.baselines.proven_search import ProvenSearch
from feederguard.data.networks import load_network
from feederguard.models.load_transfer import judge, make_scenarios
from feederguard.studies.n_minus_1 import NMinus1Config, run_n_minus_1
from feederguard.studies.n_minus_1_sheet.tables import Sheet, totals, worst_first
from feederguard.studies.running.tasks import RunConfig

ALONE = RunConfig(workers=1)


def test_totals_are_the_judges(ieee33: tuple[Path, Sheet]) -> None:
    """kW without supply, operations, voltage and loading of every fault, judged again."""
    folder, sheet = ieee33
    network = load_network("ieee33")
    scenarios = make_scenarios(network, np.flatnonzero(network.closed))
    decisions = ProvenSearch(network, "radial").decide(scenarios)
    outcomes = judge(network, scenarios, decisions, "radial")
    table = read_table(folder, "sheet.csv")

    unserved = (table["dark_kw"] + table["shed_kw"]).to_numpy()
    np.testing.assert_allclose(unserved, 3715 * outcomes.shed_ratio, atol=1e-6)
    np.testing.assert_array_equal(table["n_operations"], outcomes.n_operations)
    np.testing.assert_allclose(table["v_min_pu"], outcomes.v_min_pu, atol=1e-9)
    np.testing.assert_allclose(table["max_loading_pct"], 100 * outcomes.max_loading, atol=1e-7)
    np.testing.assert_allclose(table["cost"], outcomes.cost)
    assert table["safe"].all() == outcomes.safe.all()
    told = totals(sheet)
    assert told["dark, summed over faults, kW"] + told[
        "shed, summed over faults, kW"
    ] == pytest.approx(unserved.sum())
    assert told["faults"] == 32 and told["states on the way beyond limits"] == 0
    assert told["decisions proven to a gap of 0.01 %"] == 32


def test_a_fault_without_any_tie_is_dark_and_said_so(ieee33: tuple[Path, Sheet]) -> None:
    table = read_table(ieee33[0], "sheet.csv").set_index("fault")

    head = table.loc["1"]
    assert (
        head["status"] == "dark: no tie"
        and head["dark_kw"] == pytest.approx(3715.0)
        and head["operations"] == ""
    )
    assert head["load_points_dark"] == 32 and head["load_points_shed"] == 0
    assert table.loc["22", "status"] == "restored, load shed" and table.loc[
        "22", "shed_kw"
    ] == pytest.approx(4.42, abs=0.01)
    assert table.loc["10", "status"] == "restored" and table.loc["10", "operations"] == "close 35"


def test_the_worst_comes_first(ieee33: tuple[Path, Sheet]) -> None:
    assert worst_first(ieee33[1])["fault"].tolist()[:3] == ["1", "2", "29"]


def test_console_has_the_worst_faults_and_the_totals(tmp_path: Path) -> None:
    console = quiet(100)
    run_n_minus_1(NMinus1Config("ieee33", faults=("1", "10"), output=tmp_path, run=ALONE), console)

    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines() if "wrote" not in line) <= 100
    assert "dark: no tie" in text and "close 35" in text and re.search(r"run time, s +\d", text)
