"""The lines of an N-1 sheet: marks, customers and limits on feeders drawn by hand."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_studies import AMPERE_PER_MW, generator_feeder, quiet, read_table

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import resolve_setting
from feederguard.studies.n_minus_1 import NMinus1Config, make_sheet, run_n_minus_1
from feederguard.studies.n_minus_1_sheet.page import page
from feederguard.studies.n_minus_1_sheet.tables import totals
from feederguard.studies.running.tasks import RunConfig

ALONE = RunConfig(workers=1)


def test_a_timed_overload_is_marked_with_its_size(tmp_path: Path) -> None:
    """13 bears 0.3 MW, so 3 and 5 cannot share a tie: one of them is alone for a step.

    With 3 alone S4 carries 1.5 MW back to the substation, 50 % over its 1 MW.
    """
    folder = generator_feeder(tmp_path / "feeder")
    run_n_minus_1(
        NMinus1Config(str(folder), faults=("S1",), output=tmp_path / "out", run=ALONE), quiet(100)
    )
    steps = read_table(tmp_path / "out", "steps.csv").set_index("step")
    table = read_table(tmp_path / "out", "sheet.csv")

    marked = steps[~steps["within_limits"]]
    assert len(marked) == 1 and marked["lasts_steps"].tolist() == [1]
    mark = marked["mark"].iloc[0]
    assert re.fullmatch(r"timed overload (49|50)\.\d+ % for 1 step", mark), mark
    assert marked["max_loading_branch"].iloc[0] == "S4"
    assert float(marked["overload_a"].iloc[0]) == pytest.approx(0.5 * AMPERE_PER_MW, rel=0.01)
    assert table["steps_beyond_limits"].tolist() == [1] and table["safe"].all()
    assert table["worst_overload_pct"].iloc[0] == pytest.approx(50, abs=1)
    assert mark in (tmp_path / "out" / "sheet.html").read_text()


def test_what_nothing_makes_safe_is_said_so_and_has_no_gap(tmp_path: Path) -> None:
    """20 Mvar at 6 that nobody can shed go through S6, which bears 1 MVA and nobody can open."""
    folder = generator_feeder(tmp_path / "feeder")
    with (folder / "buses.csv").open("a") as file:
        file.write("6,10,pq,0,20,0.9,1.1,0\n")
    with (folder / "branches.csv").open("a") as file:
        file.write(f"S6,S,6,line,0,0.01,0.01,0,{AMPERE_PER_MW}\n")

    sheet = make_sheet(
        NMinus1Config(str(folder), faults=("S1",), output=tmp_path / "out", run=ALONE), quiet(100)
    )

    fault, last = sheet.faults.iloc[0], sheet.steps.iloc[-1]
    assert fault["status"] == "NOT SAFE" and not fault["safe"] and np.isinf(fault["gap_pct"])
    assert fault["proof"] == "no plan tried can be made safe"
    assert (
        re.match(r"lasting overload \d+(\.\d+)? % for \d steps?", last["mark"])
        and last["overload_pct"] > 100
    )
    assert (
        totals(sheet)["without a safe decision"] == 1
        and totals(sheet)["decisions proven to a gap of 0.01 %"] == 0
    )
    assert '<span class="badge bad">NOT SAFE</span>' in page(
        sheet
    ) and "beyond limits before anything" in page(sheet)


def test_a_state_without_a_power_flow_is_marked_and_never_fine(tmp_path: Path) -> None:
    """1 GW at 4 has no power flow through S4: unknown until it is shed."""
    folder = generator_feeder(tmp_path / "feeder", load_4=90.0)
    text = (
        (folder / "branches.csv")
        .read_text()
        .replace("S4,S,4,line,0,0.01,0.01", "S4,S,4,line,0,0.9,0.9")
    )
    (folder / "branches.csv").write_text(text)

    sheet = make_sheet(
        NMinus1Config(str(folder), faults=("S1",), output=tmp_path / "out", run=ALONE), quiet(100)
    )

    first = sheet.steps.iloc[0]
    assert not first["within_limits"] and np.isnan(first["v_min_pu"]) and first["v_min_bus"] == ""
    assert re.match(r"timed no power flow solution(, .*)? for \d steps?", first["mark"])
    assert "?" in page(sheet)


def test_customers_are_counted_where_a_file_tells_them(tmp_path: Path) -> None:
    """Fault 22 sheds one bus. Shed in part, that part of its customers counts, rounded up."""
    network = load_network("ieee33")
    file = tmp_path / "who.csv"
    file.write_text(
        "bus,customers\n" + "".join(f"{name},{10}\n" for name in network.bus_name[1:32])
    )
    config = NMinus1Config(
        "ieee33", faults=("1", "22"), customers=file, output=tmp_path / "out", run=ALONE
    )

    sheet = make_sheet(config, quiet(100))

    assert sheet.faults["customers_dark"].tolist() == [310, 0]
    assert sheet.faults["customers_shed"].tolist()[1] == 10
    assert sheet.faults["shed_kw"].tolist()[1] == 60 and "or not at all" in page(sheet)
    partly = make_sheet(replace(config, partial_loads=True), quiet(100))
    assert partly.faults["customers_shed"].tolist()[1] == 1
    assert partly.faults["shed_kw"].tolist()[1] == pytest.approx(4.42, abs=0.01)
    assert partly.command.endswith("--partial-loads") and "may be shed in part" in page(partly)
    assert sheet.notes == (
        "ieee33 has no device data: a switch is assumed in every tie and in every line on a loop",
        f"1 buses with load have no line in {file} and count no customers",
    )


def test_the_paper_setting_marks_what_is_beyond_limits_before_anything_is_switched(
    tmp_path: Path,
) -> None:
    """Nominal load exceeds the uniform 0.9 MW: the tripped state is marked in MW and %."""
    config = NMinus1Config("ieee33", setting="paper", faults=("5",), output=tmp_path, run=ALONE)

    sheet = make_sheet(config, quiet(100))

    first, last = sheet.steps.iloc[0], sheet.steps.iloc[-1]
    assert not first["within_limits"] and first["overload_mw"] == pytest.approx(
        0.9 * first["overload_pct"] / 100
    )
    assert last["within_limits"] and sheet.faults["safe"].all()
    limit = resolve_setting(sheet.network, "paper").active_limit_mw
    assert last["max_loading_mw"] == pytest.approx(limit * last["max_loading_pct"] / 100)
