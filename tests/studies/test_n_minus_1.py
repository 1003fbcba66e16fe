"""The N-1 sheet as a person makes it: its states recomputed from steps.csv alone, its refusals."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandapower
import pandas as pd
import pytest
from sheet_replay import sheet_states
from small_studies import generator_feeder, quiet, read_table

from feederguard.data.networks import load_network
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.studies.n_minus_1 import NMinus1Config, main, make_sheet, run_n_minus_1
from feederguard.studies.n_minus_1_sheet.tables import Sheet, totals
from feederguard.studies.running.tasks import RunConfig

ALONE = RunConfig(workers=1)


def check_states(network: Network, steps: pd.DataFrame, v_min: float, v_max: float) -> int:
    """Replay every step, check its line against the state, return how many are beyond limits."""
    n_marked = 0
    for state in sheet_states(network, steps):
        row, where = state.row, (state.row["fault"], state.row["step"])
        p_load = np.maximum(network.p_load, 0)
        flow = solve_power_flow(
            network,
            np.minimum(network.p_load, 0) + p_load * (1 - state.shed),
            network.q_load * np.where(p_load > 0, 1 - state.shed, 1),
            state.closed,
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
        ends = flow.energised[network.from_bus] & flow.energised[network.to_bus]
        live = int((state.closed & ends).sum())
        kw = 1e3 * network.base_mva * p_load
        assert bool(flow.converged), where
        assert row["within_limits"] == (excess <= 1e-5), (where, excess)
        assert bool(row["mark"]) != row["within_limits"]
        assert row["v_min_pu"] == pytest.approx(float(v.min()), abs=1e-9)
        assert row["max_loading_pct"] == pytest.approx(100 * float(flow.loading.max()), abs=1e-6)
        assert row["dark_kw"] == pytest.approx(float(kw[~flow.energised].sum()), abs=1e-6)
        assert row["shed_kw"] == pytest.approx(
            float((kw * state.shed)[flow.energised].sum()), abs=1e-6
        )
        assert row["loop_energised"] == (live > flow.energised.sum() - len(network.substation))
        n_marked += not row["within_limits"]
    return n_marked


def test_every_state_of_ieee33_is_what_its_line_says_and_within_limits(
    ieee33: tuple[Path, Sheet],
) -> None:
    folder, _ = ieee33
    network, steps = load_network("ieee33"), read_table(folder, "steps.csv")

    assert check_states(network, steps, 0.90, 1.05) == 0
    assert not steps["loop_energised"].any()
    assert steps["fault"].nunique() == 32 and (steps.groupby("fault").first()["step"] == 0).all()


def test_every_state_of_bus69_is_what_its_line_says_and_within_limits(tmp_path: Path) -> None:
    """A third of the faults, those of the long feeder among them; all of them in the slow test."""
    network = load_network("bus69")
    names = tuple(
        name for k, name in enumerate(network.branch_name) if network.closed[k] and k % 3 == 1
    )
    run_n_minus_1(NMinus1Config("bus69", faults=names, output=tmp_path, run=ALONE), quiet(100))

    steps = read_table(tmp_path, "steps.csv")

    assert check_states(network, steps, 0.90, 1.05) == 0
    assert steps["fault"].nunique() == len(names)


@pytest.mark.slow
@pytest.mark.parametrize(("feeder", "n_fault"), [("bus69", 68), ("kraftringen533", 532)])
def test_whole_sheets_hold_by_an_independent_power_flow(
    feeder: str, n_fault: int, tmp_path: Path
) -> None:
    run_n_minus_1(NMinus1Config(feeder, output=tmp_path), quiet(100))
    sheet, steps = read_table(tmp_path, "sheet.csv"), read_table(tmp_path, "steps.csv")

    check_states(load_network(feeder), steps, 0.90, 1.05)

    assert len(sheet) == n_fault == steps["fault"].nunique()
    assert sheet["safe"].all() and not steps["loop_energised"].any()


def test_make_before_break_is_asked_for_by_its_option(tmp_path: Path) -> None:
    """With the option tie 34 supplies the buses behind line 14 before 14 is opened."""
    told, loops = {}, {}
    for asked in (False, True):
        config = NMinus1Config(
            "ieee33",
            faults=("31",),
            make_before_break=asked,
            output=tmp_path / str(asked),
            run=ALONE,
        )
        sheet = make_sheet(config, quiet(100))
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
    config = NMinus1Config("ieee33", partial_loads=True, output=tmp_path, run=RunConfig(workers=2))
    run_n_minus_1(config, quiet(100))

    for name in ("sheet.csv", "steps.csv"):
        assert (tmp_path / name).read_bytes() == (ieee33[0] / name).read_bytes()


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
            "error: prove_s is 0.0; give the proof some seconds, or None for none",
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


def test_options_restrict_what_is_operated(tmp_path: Path) -> None:
    """Of ieee33 the branches of three ties may be operated, one of them is blocked."""
    config = NMinus1Config(
        "ieee33",
        faults=("10",),
        switchable=("33", "35", "36"),
        blocked=("35",),
        output=tmp_path,
        run=ALONE,
    )

    sheet = make_sheet(config, quiet(100))

    operated = sheet.steps[sheet.steps["action"].isin(["open", "close"])]["element"]
    assert set(operated) and set(operated) <= {"33", "36"}
    assert sheet.setting.blocked == ("35",)


def small_net(n_bus: int, lines: list[tuple[int, int]]) -> pandapower.pandapowerNet:
    """Return a 20 kV net with the ext_grid at bus 0 and 1 MW at its last bus."""
    net = pandapower.create_empty_network(name="t")
    for k in range(n_bus):
        pandapower.create_bus(net, 20.0, name=f"B{k}")
    pandapower.create_ext_grid(net, 0)
    for one, other in lines:
        pandapower.create_line_from_parameters(net, one, other, 5.0, 0.3, 0.35, 250.0, 0.25)
    pandapower.create_load(net, n_bus - 1, p_mw=1.0, q_mvar=0.1)
    return net


def without_its_line() -> pandapower.pandapowerNet:
    net = small_net(3, [(0, 1), (1, 2)])
    pandapower.create_switch(net, 1, 1, et="l", closed=False)
    return net


@pytest.mark.filterwarnings("ignore:t. left out bus")
@pytest.mark.parametrize(
    ("net", "message"),
    [
        (small_net(1, []), "error: t: no branch is in service, so none can fail; give the feeder"),
        (small_net(2, []), "error: t: no branch is in service, so none can fail; give the feeder"),
    ],
)
def test_a_feeder_without_faults_or_supply_ends_with_one_sentence(
    net: pandapower.pandapowerNet, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pandapower.to_json(net, str(tmp_path / "t.json"))
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "t.json"), "--output", str(tmp_path / "out")])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert re.match(message, told) and told.count("\n") == 1


def test_a_bus_that_is_dark_before_any_fault_is_no_matter_of_loops(tmp_path: Path) -> None:
    pandapower.to_json(without_its_line(), str(tmp_path / "t.json"))

    sheet = make_sheet(NMinus1Config(str(tmp_path / "t.json"), output=tmp_path, run=ALONE), quiet())

    assert sheet.faults["fault"].tolist() == ["line 0"]


def test_an_ext_grid_without_a_branch_does_no_harm(tmp_path: Path) -> None:
    net = small_net(3, [(0, 2)])
    pandapower.create_ext_grid(net, 1)
    pandapower.create_load(net, 1, p_mw=0.2)
    pandapower.to_json(net, str(tmp_path / "t.json"))

    sheet = make_sheet(NMinus1Config(str(tmp_path / "t.json"), output=tmp_path, run=ALONE), quiet())

    assert sheet.faults["dark_kw"].tolist() == pytest.approx([1000.0])


def test_feeders_of_equal_name_in_two_folders_have_two_folders_of_results(tmp_path: Path) -> None:
    folders = {NMinus1Config(str(tmp_path / one / "net.json")).folder for one in ("a", "b")}
    assert len(folders) == 2 and all(folder.name.startswith("net-") for folder in folders)
    assert NMinus1Config("ieee33").folder == Path("results/n_minus_1/ieee33")


def test_a_source_outside_the_limits_is_a_note_of_the_sheet(tmp_path: Path) -> None:
    folder = generator_feeder(tmp_path / "feeder")
    (folder / "meta.json").write_text('{"v_slack_pu": 1.07}')
    config = NMinus1Config(str(folder), faults=("S1",), output=tmp_path / "out", run=ALONE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_n_minus_1(config, quiet(100))
    sheet = (tmp_path / "out" / "sheet.html").read_text()
    assert sheet.count("outside their limits with nothing drawn") == 1
    assert read_table(tmp_path / "out", "sheet.csv")["safe"].all()
