"""The N-1 sheet: its states recomputed from steps.csv alone, totals against the judge, and what a
user may get wrong.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from feederguard.baselines.proven_search import ProvenSearch
from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.models.load_transfer import judge, make_scenarios, resolve_setting
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.studies.n_minus_1 import NMinus1Config, load_bench, main, make_sheet, run_n_minus_1
from feederguard.studies.n_minus_1_sheet.inputs import demand_at_hour, find_hour, read_customers
from feederguard.studies.n_minus_1_sheet.page import page, write_sheet
from feederguard.studies.n_minus_1_sheet.tables import Sheet, totals, worst_first
from feederguard.studies.running.tasks import RunConfig

ALONE = RunConfig(workers=1)
AMPERE_PER_MW = 1e3 / (np.sqrt(3) * 10)  # at 10 kV and unity power factor


def quiet() -> Console:
    return Console(file=StringIO(), width=100)


def read(folder: Path, name: str) -> pd.DataFrame:
    """Return a table of the sheet as another program would read it; names of branches and buses
    stay text.
    """
    texts = (
        "fault element from_bus to_bus v_min_bus max_loading_branch shed_fractions mark operations "
        "dark_buses shed_kw_at"
    ).split()
    return pd.read_csv(
        folder / name,
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values={"v_min_pu": [""]},
    )


def check_states(network: Network, steps: pd.DataFrame, v_min: float, v_max: float) -> int:
    """Replay every step on the feeder and recompute its state; assert what its line says. Return
    the number of states.
    """
    n_marked = 0
    for fault, part in steps.groupby("fault", sort=False):
        closed, shed = network.closed.copy(), np.zeros(network.n_bus)
        for row in part.to_dict("records"):
            if row["action"] == "shed":
                for told in row["shed_fractions"].split():
                    bus, fraction = told.rsplit(":", 1)
                    shed[network.bus_index(bus)] = float(fraction)
            else:
                closed[network.branch_index(row["element"])] = row["action"] == "close"
            p_load = np.maximum(network.p_load, 0)
            flow = solve_power_flow(
                network,
                np.minimum(network.p_load, 0) + p_load * (1 - shed),
                network.q_load * np.where(p_load > 0, 1 - shed, 1),
                closed,
            )
            v = np.abs(flow.voltage[flow.energised])
            free = np.delete(np.arange(network.n_bus), network.substation)
            inside = free[flow.energised[free]]
            band = np.abs(flow.voltage[inside]) if len(inside) else np.ones(1)
            excess = max(
                float(flow.loading.max() ** 2 - 1),
                float(v_min**2 - band.min() ** 2),
                float(band.max() ** 2 - v_max**2),
            )
            live = int(
                (closed & flow.energised[network.from_bus] & flow.energised[network.to_bus]).sum()
            )
            kw = 1e3 * network.base_mva * p_load
            assert bool(flow.converged), (fault, row["step"])
            assert row["within_limits"] == (excess <= 1e-5), (fault, row["step"], excess)
            assert bool(row["mark"]) != row["within_limits"]
            assert row["v_min_pu"] == pytest.approx(float(v.min()), abs=1e-9)
            assert row["max_loading_pct"] == pytest.approx(
                100 * float(flow.loading.max()), abs=1e-6
            )
            assert row["dark_kw"] == pytest.approx(float(kw[~flow.energised].sum()), abs=1e-6)
            assert row["shed_kw"] == pytest.approx(
                float((kw * shed)[flow.energised].sum()), abs=1e-6
            )
            assert row["loop_energised"] == (live > flow.energised.sum() - len(network.substation))
            n_marked += not row["within_limits"]
    return n_marked


@pytest.fixture(scope="module")
def ieee33(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sheet]:
    folder = tmp_path_factory.mktemp("ieee33")
    config = NMinus1Config("ieee33", output=folder, run=ALONE)
    sheet = make_sheet(config, quiet())
    write_sheet(sheet, folder)
    return folder, sheet


def test_every_state_of_ieee33_is_what_its_line_says_and_within_limits(
    ieee33: tuple[Path, Sheet],
) -> None:
    folder, _ = ieee33
    network, steps = load_network("ieee33"), read(folder, "steps.csv")

    assert check_states(network, steps, 0.90, 1.05) == 0
    assert not steps["loop_energised"].any()
    assert steps["fault"].nunique() == 32 and (steps.groupby("fault").first()["step"] == 0).all()


def test_every_state_of_bus69_is_what_its_line_says_and_within_limits(tmp_path: Path) -> None:
    """A third of the faults, those of the long feeder among them; all of them in the slow test."""
    network = load_network("bus69")
    names = tuple(
        name for k, name in enumerate(network.branch_name) if network.closed[k] and k % 3 == 1
    )
    run_n_minus_1(NMinus1Config("bus69", faults=names, output=tmp_path, run=ALONE), quiet())

    steps = read(tmp_path, "steps.csv")

    assert check_states(network, steps, 0.90, 1.05) == 0
    assert steps["fault"].nunique() == len(names)


@pytest.mark.slow
@pytest.mark.parametrize(("feeder", "n_fault"), [("bus69", 68), ("kraftringen533", 532)])
def test_whole_sheets_hold_by_an_independent_power_flow(
    feeder: str, n_fault: int, tmp_path: Path
) -> None:
    run_n_minus_1(NMinus1Config(feeder, output=tmp_path), quiet())
    sheet, steps = read(tmp_path, "sheet.csv"), read(tmp_path, "steps.csv")

    check_states(load_network(feeder), steps, 0.90, 1.05)

    assert len(sheet) == n_fault == steps["fault"].nunique()
    assert sheet["safe"].all() and not steps["loop_energised"].any()


def test_totals_are_the_judges(ieee33: tuple[Path, Sheet]) -> None:
    """kW without supply, operations, voltage and loading of every fault, from the decisions judged
    anew.
    """
    folder, sheet = ieee33
    network = load_network("ieee33")
    scenarios = make_scenarios(network, np.flatnonzero(network.closed))
    decisions = ProvenSearch(network, "radial").decide(scenarios)
    outcomes = judge(network, scenarios, decisions, "radial")
    table = read(folder, "sheet.csv")

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
    table = read(ieee33[0], "sheet.csv").set_index("fault")

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


class _Page(HTMLParser):
    """Collects what a browser would have to fetch, anchors, and links to them."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.headings: list[str] = []
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "link", "img", "iframe") or given.get("src"):
            self.outside.append(tag)
        if given.get("id"):
            self.anchors.add(str(given["id"]))
        if tag == "a":
            self.links.add(str(given["href"]))
        self._in_heading = tag == "th"

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.headings.append(data)
            self._in_heading = False


def test_the_page_is_whole_in_itself_and_every_fault_has_its_anchor(
    ieee33: tuple[Path, Sheet],
) -> None:
    text = (ieee33[0] / "sheet.html").read_text()
    parsed = _Page()
    parsed.feed(text)

    assert not parsed.outside and "http" not in text and "url(" not in text
    assert parsed.links == {f"#{anchor}" for anchor in parsed.anchors} and len(parsed.anchors) == 32
    assert {
        "Dark, kW",
        "Shed, kW",
        "Lowest voltage, pu",
        "Highest loading, %",
        "Gap, %",
        "Decision, ms",
    } <= set(parsed.headings)
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    assert "load points: buses with load (no customer file was given)" in text


def test_names_are_escaped_in_the_page(ieee33: tuple[Path, Sheet]) -> None:
    sheet = ieee33[1]
    steps, faults, times = (
        table.replace({"fault": {"5": "<b>5</b>"}})
        for table in (sheet.steps, sheet.faults, sheet.times)
    )
    odd = Sheet(
        sheet.network,
        sheet.setting,
        "<i>peak</i>",
        False,
        False,
        (),
        sheet.command,
        faults,
        steps,
        times,
        1.0,
    )

    text = page(odd)

    assert "<b>5" not in text and "&lt;b&gt;5" in text and "<i>" not in text
    assert 'id="fault-%3Cb%3E5%3C%2Fb%3E"' in text


def test_console_has_the_worst_faults_and_the_totals(tmp_path: Path) -> None:
    console = quiet()
    run_n_minus_1(NMinus1Config("ieee33", faults=("1", "10"), output=tmp_path, run=ALONE), console)

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in text.splitlines() if "wrote" not in line) <= 100
    assert "dark: no tie" in text and "close 35" in text and re.search(r"run time, s +\d", text)


def write_generator_feeder(folder: Path, load_4: float = 0.5, generation_4: float = 0.0) -> Path:
    """Write the feeder on which no order is within limits: 3 brings 2 MW, 5 takes 1.5 MW, and S4
    bears 1 MW.
    """
    folder.mkdir()
    (folder / "buses.csv").write_text(
        f"bus,vn_kv,type,p_mw,q_mvar,vmin_pu,vmax_pu,sgen_p_mw\nS,10,slack,0,0,0.9,1.1,0\n1,10,pq,0,0,0.9,1.1,0\n3,10,pq,0,0,0.9,1.1,2\n4,10,pq,{load_4},0,0.9,1.1,{generation_4}\n5,10,pq,1.5,0,0.9,1.1,0\n"
    )
    rows = [
        ("S1", "S", "1", 0, 9.0),
        ("13", "1", "3", 0, 0.3),
        ("15", "1", "5", 0, 9.0),
        ("S4", "S", "4", 0, 1.0),
        ("t3", "4", "3", 1, 9.0),
        ("t5", "4", "5", 1, 9.0),
    ]
    (folder / "branches.csv").write_text(
        "branch,from_bus,to_bus,kind,normally_open,r_ohm,x_ohm,b_us,rating_a\n"
        + "".join(
            f"{n},{i},{j},{'tie' if t else 'line'},{t},0.01,0.01,0,{mw * AMPERE_PER_MW}\n"
            for n, i, j, t, mw in rows
        )
    )
    (folder / "meta.json").write_text("{}")
    return folder


def test_a_timed_overload_is_marked_with_its_size(tmp_path: Path) -> None:
    """13 bears 0.3 MW, so 3 and 5 cannot share a tie: one is opened from the other, and one stands
    alone for a step.

    With 3 alone S4 carries 1.5 MW back to the substation, 50 % over its 1 MW.
    """
    folder = write_generator_feeder(tmp_path / "feeder")
    run_n_minus_1(
        NMinus1Config(str(folder), faults=("S1",), output=tmp_path / "out", run=ALONE), quiet()
    )
    steps = read(tmp_path / "out", "steps.csv").set_index("step")
    table = read(tmp_path / "out", "sheet.csv")

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
    """4 brings 6 MW that nobody can shed, over the 1 MW of S4: overloaded from the fault on, and in
    every decision.
    """
    folder = write_generator_feeder(tmp_path / "feeder", load_4=0.0, generation_4=6.0)

    sheet = make_sheet(
        NMinus1Config(str(folder), faults=("S1",), output=tmp_path / "out", run=ALONE), quiet()
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
    folder = write_generator_feeder(tmp_path / "feeder", load_4=90.0)
    text = (
        (folder / "branches.csv")
        .read_text()
        .replace("S4,S,4,line,0,0.01,0.01", "S4,S,4,line,0,0.9,0.9")
    )
    (folder / "branches.csv").write_text(text)

    sheet = make_sheet(
        NMinus1Config(str(folder), faults=("S1",), output=tmp_path / "out", run=ALONE), quiet()
    )

    first = sheet.steps.iloc[0]
    assert not first["within_limits"] and np.isnan(first["v_min_pu"]) and first["v_min_bus"] == ""
    assert re.match(r"timed no power flow solution(, .*)? for \d steps?", first["mark"])
    assert "?" in page(sheet)


def test_make_before_break_is_asked_for_by_its_option(tmp_path: Path) -> None:
    """Line 14 feeds buses that have supply: with the option tie 34 takes them over before it is
    opened.
    """
    told, loops = {}, {}
    for asked in (False, True):
        config = NMinus1Config(
            "ieee33",
            faults=("31",),
            make_before_break=asked,
            output=tmp_path / str(asked),
            run=ALONE,
        )
        sheet = make_sheet(config, quiet())
        told[asked], loops[asked] = (
            sheet.faults["operations"].iloc[0],
            totals(sheet)["states with a loop energised"],
        )
        assert sheet.faults["steps_beyond_limits"].tolist() == [0]
        assert ("--make-before-break" in sheet.command) == asked

    assert told == {False: "open 14; close 34; close 36", True: "close 34; open 14; close 36"}
    assert loops == {False: 0, True: 1}


@pytest.mark.slow
def test_two_workers_and_one_make_the_same_tables(
    ieee33: tuple[Path, Sheet], tmp_path: Path
) -> None:
    run_n_minus_1(NMinus1Config("ieee33", output=tmp_path, run=RunConfig(workers=2)), quiet())

    for name in ("sheet.csv", "steps.csv"):
        assert (tmp_path / name).read_bytes() == (ieee33[0] / name).read_bytes()


def test_customers_are_counted_where_a_file_tells_them(tmp_path: Path) -> None:
    """Fault 32 leaves nothing dark; fault 22 sheds a part of one bus: that part of its customers,
    rounded up.
    """
    network = load_network("ieee33")
    file = tmp_path / "who.csv"
    file.write_text(
        "bus,customers\n" + "".join(f"{name},{10}\n" for name in network.bus_name[1:32])
    )
    config = NMinus1Config(
        "ieee33", faults=("1", "22"), customers=file, output=tmp_path / "out", run=ALONE
    )

    sheet = make_sheet(config, quiet())

    assert sheet.faults["customers_dark"].tolist() == [310, 0]
    assert sheet.faults["customers_shed"].tolist()[1] == 1
    assert sheet.notes == (f"1 buses with load have no line in {file} and count no customers",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "bus,customers\n2,5\n99,4\n",
            r"line 3: bus '99' is not in ieee33 \(1, 2, 3, 4, 5, \.\.\.\); correct or delete",
        ),
        (
            "bus,people\n2,5\n",
            "column customers is missing; its first line must name bus,customers",
        ),
        ("bus,customers\n2,5\n2,6\n", "line 3: bus '2' has a line already; give each bus one"),
        (
            "bus,customers\n2,many\n",
            "line 2: customers of bus '2' is 'many'; give a whole number, zero or more",
        ),
        ("bus,customers\n2,-1\n", "customers of bus '2' is '-1'; give a whole number"),
    ],
)
def test_customer_files_that_cannot_be_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "who.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_customers(file, load_network("ieee33"))


def test_the_peak_hour_carries_the_nominal_load() -> None:
    network, profiles = load_network("ieee33"), load_profiles().resample(60)
    step = find_hour(profiles, network, "peak")

    arrays = demand_at_hour(profiles, network, step)

    assert arrays["p_load"].sum() == pytest.approx(network.p_load.sum())
    assert not arrays["p_gen"].any()
    assert (
        find_hour(profiles, network, str(profiles.time[step]))
        == find_hour(profiles, network, str(step))
        == step
    )


@pytest.mark.parametrize(
    ("hour", "message"),
    [
        ("9000", r"hour 9000 is outside simbench_2016; its rows are 0 to 87\d\d"),
        (
            "1999-01-01T00:00",
            "hour 1999-01-01T00:00 is outside simbench_2016, which runs from 2016-01-01T00:00 to",
        ),
        (
            "noon",
            r"hour 'noon' is no hour; give nominal, peak, a row \(0 to 87\d\d\) or a time such as "
            r"2016-01-01T00:00",
        ),
    ],
)
def test_hours_outside_the_profile_are_refused(hour: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_bench(NMinus1Config("ieee33", hour=hour))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atlantis"], "error: no feeder 'atlantis'; the bundled ones are bus69"),
        (
            ["ieee33", "--faults", "33"],
            "error: ieee33: branch '33' is normally open; only a branch in service can",
        ),
        (["ieee33", "--faults", "2", "2"], "error: ieee33: a fault is named twice; name each once"),
        (
            ["kraftringen533", "--setting", "paper"],
            "error: kraftringen533: the paper setting needs a uniform active",
        ),
        (
            ["ieee33", "--prove-s", "0"],
            "error: prove_s is 0.0; give the solver some seconds, or leave it out",
        ),
        (["ieee33", "--customers", "nowhere.csv"], "error: .*nowhere.csv"),
        (["ieee33", "--workers", "0"], "error: workers is 0; use at least one process"),
    ],
)
def test_wrong_values_end_the_program_with_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--output", str(tmp_path / "out")])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert re.match(message, told) and told.count("\n") == 1


def test_the_paper_setting_marks_what_is_beyond_limits_before_anything_is_switched(
    tmp_path: Path,
) -> None:
    """Nominal load breaks the uniform 0.9 MW as it is: the tripped state is marked, in MW and %,
    and the decision is safe.
    """
    config = NMinus1Config("ieee33", setting="paper", faults=("5",), output=tmp_path, run=ALONE)

    sheet = make_sheet(config, quiet())

    first, last = sheet.steps.iloc[0], sheet.steps.iloc[-1]
    assert not first["within_limits"] and first["overload_mw"] == pytest.approx(
        0.9 * first["overload_pct"] / 100
    )
    assert last["within_limits"] and sheet.faults["safe"].all()
    limit = resolve_setting(sheet.network, "paper").active_limit_mw
    assert last["max_loading_mw"] == pytest.approx(limit * last["max_loading_pct"] / 100)
