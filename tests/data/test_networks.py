"""The bundled feeders against published figures, and what is wrong in a user's own."""

import csv
import json
from pathlib import Path

import numpy as np
import pandapower
import pandapower.networks
import pandas as pd
import pytest

from feederguard.data.make import feeders as make_feeders
from feederguard.data.networks import list_networks, load_meta, load_network, read_network
from feederguard.models.network import NetworkError
from feederguard.models.power_flow import solve_power_flow

FEEDERS = Path(make_feeders.__file__).parents[1] / "feeders"
REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "networks"
MATPOWER_FEEDERS = ["bus69", "bus69_zhou", "caracas141", "ieee33", "kraftringen533", "mantovani136"]
LADDER_FEEDERS = ["bus69", "bus69_zhou", "caracas141", "mantovani136"]

# buses, lines and transformers, ties, MW, Mvar, kW lost, lowest voltage, at bus; of cigre_lv18 only
# the counts are published, its other figures are those of pandapower's own power flow of the whole
# benchmark
FIGURES = {
    "ieee33": (33, 32, 5, 3.715, 2.300, 202.677, 0.91309, "18"),
    "bus69": (69, 68, 5, 3.8021, 2.6947, 224.99, 0.90919, "65"),
    "bus69_zhou": (69, 68, 5, 3.8021, 2.6947, 224.99, 0.90919, "65"),
    "caracas141": (141, 140, 9, 11.9446, 7.4026, 632.70, 0.92786, "87"),
    "mantovani136": (136, 135, 21, 18.3138, 7.9326, 320.36, 0.93065, "117"),
    "kraftringen533": (533, 532, 45, 44.6206, 0.4462, 525.37, 0.95875, "295"),
    "cigre_lv18": (20, 19, 0, 0.3838, 0.1261, 14.3745, 0.91690, "R15"),
}


def test_the_bundled_feeders_are_listed():
    assert list_networks() == sorted(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_base_figures(name):
    n_bus, n_closed, n_tie, load_mw, load_mvar, loss_kw, v_min, at_bus = FIGURES[name]
    network = load_network(name)
    flow = solve_power_flow(network)

    assert network.name == name
    assert (network.n_bus, int(network.closed.sum()), int(network.is_tie.sum())) == (
        n_bus,
        n_closed,
        n_tie,
    )
    assert network.kind.count("tie") == n_tie
    assert network.p_load.sum() * network.base_mva == pytest.approx(load_mw, abs=6e-5)
    assert network.q_load.sum() * network.base_mva == pytest.approx(load_mvar, abs=6e-5)
    assert 1e3 * flow.loss_mw == pytest.approx(loss_kw, abs=0.006)
    magnitude = np.abs(flow.voltage)
    assert magnitude.min() == pytest.approx(v_min, abs=6e-6)
    assert network.bus_name[magnitude.argmin()] == at_bus


@pytest.mark.parametrize("name", FIGURES)
def test_meta_says_where_the_data_are_from(name):
    meta = load_meta(name)

    assert all(len(meta[key]) > 10 for key in ("title", "source", "licence"))
    assert (
        meta["base_mva"] == load_network(name).base_mva == (1.0 if name == "cigre_lv18" else 10.0)
    )
    assert meta["v_slack_pu"] == 1.0
    assert (
        "kraftringen" not in name or "CC BY 4.0" in meta["licence"] and "Malmer" in meta["licence"]
    )


def test_the_paper_limit_of_ieee33_is_recorded():
    assert load_meta("ieee33")["paper_limit_mw"] == load_network("ieee33").paper_limit_mw == 0.9
    assert load_network("kraftringen533").paper_limit_mw == np.inf


@pytest.mark.parametrize("name", MATPOWER_FEEDERS)
def test_feeders_equal_the_reference_copies(name):
    if not REFERENCE.is_dir():
        pytest.skip("the reference copies ../shared/data/networks are not here")
    for file in ("buses.csv", "branches.csv"):
        ours, reference = pd.read_csv(FEEDERS / name / file), pd.read_csv(REFERENCE / name / file)
        assert list(ours) == list(reference) and len(ours) == len(reference)
        for column in set(ours) - {"z_source", "rating_source"}:
            if column == "rating_a" and name in LADDER_FEEDERS:
                assert reference[column].isna().all()
            elif ours[column].dtype.kind in "fi":
                np.testing.assert_allclose(
                    ours[column], reference[column], rtol=1e-9, err_msg=f"{file} {column}"
                )
            else:
                assert ours[column].tolist() == reference[column].tolist()


@pytest.mark.parametrize("name", LADDER_FEEDERS)
def test_the_ladder_rule_of_ratings(name):
    network = load_network(name)
    rows = list(csv.DictReader((FEEDERS / name / "branches.csv").open(encoding="utf-8")))
    rating_a = network.rating * network.base_current_a
    current_a = np.abs(solve_power_flow(network).series_current) * network.base_current_a
    ladder = np.array(make_feeders.LADDER_A)

    assert all("ladder rule" in row["rating_source"] for row in rows)
    wanted = np.maximum(200, 1.3 * current_a)
    np.testing.assert_allclose(
        rating_a[network.closed], ladder[np.searchsorted(ladder, wanted)][network.closed]
    )
    for k in np.flatnonzero(network.is_tie):
        ends = [network.from_bus[k], network.to_bus[k]]
        # In these feeders every branch at a bus but the one that feeds it carries less, so has no
        # larger rating.
        at_ends = network.closed & (np.isin(network.from_bus, ends) | np.isin(network.to_bus, ends))
        assert rating_a[k] == pytest.approx(min(400, rating_a[at_ends].max()))


def test_published_ratings_are_kept():
    ieee33, kraftringen, cigre = (
        load_network(name) for name in ("ieee33", "kraftringen533", "cigre_lv18")
    )

    np.testing.assert_allclose(ieee33.rating * ieee33.base_current_a, 255)
    assert (kraftringen.rating * kraftringen.base_current_a)[:2] == pytest.approx([7650, 7875])
    # breaker without limit, transformer 0.5 MVA, cables 1 kA
    assert cigre.rating[:2].tolist() == [np.inf, pytest.approx(0.5)]
    np.testing.assert_allclose((cigre.rating * cigre.base_current_a)[2:], 1000)


def test_the_residential_feeder_is_that_of_the_benchmark():
    net = pandapower.networks.create_cigre_network_lv()
    pandapower.runpp(net, numba=False)
    network = load_network("cigre_lv18")
    names = net.bus["name"].str.removeprefix("Bus ")

    assert network.bus_name == ("0", *(f"R{i}" for i in range(19)))
    assert network.kind.count("line") == 18 and network.kind.count("trafo") == 1
    assert set(network.v_min) == {0.95} and set(network.v_max) == {1.05}
    expected = [net.res_bus.vm_pu[names == bus].item() for bus in network.bus_name]
    # The breaker of 1 milliohm at 20 kV drops 4e-7.
    np.testing.assert_allclose(np.abs(solve_power_flow(network).voltage), expected, atol=5e-7)


BUSES = """bus,vn_kv,type,p_mw,q_mvar,vmin_pu,vmax_pu,sgen_p_mw,remark
sub,20,slack,0,0,1,1,0,
a,20,pq,0.5,0.2,0.9,1.1,0,"long, quoted"
b,0.4,pq,0.1,0,0.95,1.05,0.04,
c,20,pq,0,0,0.9,1.1,0,
"""
BRANCHES = """branch,from_bus,to_bus,kind,normally_open,r_ohm,x_ohm,b_us,rating_a
s-a,sub,a,line,0,0.4,0.8,50,288.67513459481287
t,a,b,trafo,0,8,32,0,14.43375672974065

a-c,a,c,line,0,0,1,0,
c-s,c,sub,tie,1,2,2,0,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A feeder sub - a - (c | b through a transformer), with a tie c - sub."""
    path = tmp_path / "mine"
    path.mkdir()
    (path / "buses.csv").write_text(BUSES)
    (path / "branches.csv").write_text(BRANCHES)
    (path / "meta.json").write_text(
        json.dumps({"title": "mine", "base_mva": 2, "v_slack_pu": 1.02})
    )
    return path


def test_negative_generation_is_demand_as_in_pandapower(folder):
    (folder / "buses.csv").write_text(BUSES.replace("0.04,", "-0.04,"))

    network = load_network(folder)
    for read in (network, network.from_pandapower(network.to_pandapower())):
        np.testing.assert_allclose(read.p_load, [0, 0.25, 0.07, 0])
        assert not read.p_gen.any()


@pytest.mark.newest
def test_units_of_a_hand_written_folder(folder):
    network = load_network(folder)

    # z_base = 20^2 / 2 = 200 ohm, also for the transformer, which is given at its 20 kV side;
    # 57.735 A per pu
    assert network.name == "mine" and network.base_mva == 2
    assert network.bus_name == ("sub", "a", "b", "c") and network.branch_name == (
        "s-a",
        "t",
        "a-c",
        "c-s",
    )
    np.testing.assert_allclose(network.r, [0.002, 0.04, 0, 0.01])
    np.testing.assert_allclose(network.x, [0.004, 0.16, 0.005, 0.01])
    np.testing.assert_allclose(network.b_from, [0.005, 0, 0, 0])
    np.testing.assert_allclose(network.b_to, [0.005, 0, 0, 0])
    np.testing.assert_allclose(network.rating, [5, 0.25, np.inf, np.inf])
    np.testing.assert_allclose(network.p_load, [0, 0.25, 0.05, 0])
    np.testing.assert_allclose(network.q_load, [0, 0.1, 0, 0])
    np.testing.assert_allclose(network.p_gen, [0, 0, 0.02, 0])
    assert network.kind == ("line", "trafo", "line", "tie") and network.closed.tolist() == [
        True,
        True,
        True,
        False,
    ]
    assert network.tap.tolist() == [1, 1, 1, 1]
    assert network.substation.tolist() == [0] and network.v_substation.tolist() == [1.02]


def test_priorities_are_read_where_there_is_a_column(folder):
    assert load_network(folder).priority.tolist() == [1, 1, 1, 1]
    rows = [line.rsplit(",", 1)[0] for line in BUSES.splitlines()]
    cells = ("priority", "", "2.5", "", "1")
    rows[2] = "a,20,pq,0.5,0.2,0.9,1.1,0"
    text = "\n".join(f"{row},{cell}" for row, cell in zip(rows, cells, strict=True))
    (folder / "buses.csv").write_text(text + "\n")
    assert load_network(folder).priority.tolist() == [1, 2.5, 1, 1]


def test_base_and_slack_voltage_have_defaults(folder):
    (folder / "meta.json").write_text("{}")
    network = read_network(folder)

    assert network.base_mva == 10 and network.v_substation.tolist() == [1.0]


BAD_TABLES = [
    ("buses.csv", "p_mw,", "p,", r"buses\.csv: column p_mw is missing; the first line must name"),
    ("branches.csv", "r_ohm,x_ohm", "r_pu,x_pu", r"branches\.csv: column r_ohm, x_ohm is missing"),
    ("branches.csv", "from_bus", "von", r"branches\.csv: column from_bus is missing"),
    (
        "branches.csv",
        "t,a,b",
        "t,a,zz",
        r"branches\.csv, line 3 \(branch 't'\): to_bus 'zz' is not in buses\.csv; add",
    ),
    (
        "branches.csv",
        "a-c,a",
        "a-c,",
        r"branches\.csv, line 5 \(branch 'a-c'\): from_bus '' is not in",
    ),
    (
        "buses.csv",
        "\nc,",
        "\na,",
        r"buses\.csv, line 5 \(bus 'a'\): line 3 has that name too; give every bus its own",
    ),
    (
        "branches.csv",
        "\na-c,",
        "\nt,",
        r"branches\.csv, line 5 \(branch 't'\): line 3 has that name too",
    ),
    ("buses.csv", "\nc,", "\n ,", r"buses\.csv, line 5: bus is empty; give it a name"),
    (
        "branches.csv",
        "0,0.4,0.8",
        "0,-0.4,0.8",
        r"line 2 \(branch 's-a'\): r_ohm is -0\.4; give .* ohm, zero or more",
    ),
    (
        "branches.csv",
        "0.4,0.8",
        "0.4,-0.8",
        r"x_ohm is -0\.8; give the series reactance in ohm, zero or more",
    ),
    (
        "branches.csv",
        "0,0,1,0,",
        "0,0,0,0,",
        r"line 5 \(branch 'a-c'\): r_ohm and x_ohm are both 0; give one",
    ),
    (
        "buses.csv",
        "0.5,0.2",
        ",0.2",
        r"buses\.csv, line 3 \(bus 'a'\): p_mw is empty; give the active demand in MW",
    ),
    (
        "buses.csv",
        "0.5,0.2",
        "NaN,0.2",
        r"\(bus 'a'\): p_mw is NaN; give the active demand in MW, 0 where",
    ),
    (
        "buses.csv",
        "0.5,0.2",
        "0.5,inf",
        r"\(bus 'a'\): q_mvar is inf; give the reactive demand in Mvar",
    ),
    ("buses.csv", "0.5,0.2", "half,0.2", r"\(bus 'a'\): p_mw is half; give"),
    (
        "buses.csv",
        "0.04",
        "none",
        r"\(bus 'b'\): sgen_p_mw is none; give the local generation in MW",
    ),
    (
        "branches.csv",
        "s-a,sub,a,line",
        "s-a,sub,a,cable",
        r"kind is 'cable'; use line or tie or trafo",
    ),
    ("buses.csv", "0.4,pq", "0.4,pv", r"\(bus 'b'\): type is 'pv'; use slack or pq"),
    ("branches.csv", "tie,1", "tie,yes", r"\(branch 'c-s'\): normally_open is 'yes'; use 0 or 1"),
    (
        "branches.csv",
        "tie,1",
        "tie,0",
        r"\(branch 'c-s'\): a tie is normally open; set normally_open to 1",
    ),
    (
        "branches.csv",
        "t,a,b,trafo,0,8,32,0,14.43375672974065\n",
        "",
        r"mine: 1 bus\(es\) form an island .*: b; add",
    ),
    ("branches.csv", "t,a,b", "t,a,a", r"mine: branch 't' starts and ends at bus 'a'; remove it"),
    ("buses.csv", "slack", "pq", r"buses\.csv: no bus is of type 'slack'; mark the one that feeds"),
    (
        "buses.csv",
        '0.9,1.1,0,"',
        '1.1,0.9,0,"',
        r"mine: bus 'a' has v_min 1\.1 above v_max 0\.9; swap them",
    ),
    (
        "buses.csv",
        "sub,20,",
        "sub,20000,",
        r"\(bus 'sub'\): vn_kv is 20000; give the nominal .* in kV, 0\.1 to 1000",
    ),
    (
        "buses.csv",
        '0.9,1.1,0,"',
        '90,110,0,"',
        r"\(bus 'a'\): vmin_pu is 90; give .* per unit of vn_kv, 0\.5 to 1\.5",
    ),
    (
        "buses.csv",
        "0.5,0.2",
        "500,200",
        r"\(bus 'a'\): 538\.516 MVA at 20 kV would be 16 kA; write .*MW.*not kW",
    ),
    (
        "buses.csv",
        "0.04",
        "-40",
        r"\(bus 'b'\): -40 MVA at 0\.4 kV would be 58 kA; write sgen_p_mw in MW",
    ),
    (
        "buses.csv",
        "0.5,0.2",
        "200,40",
        r"buses\.csv: the loads add up to 204\.\d+ MVA, over 100 times the base_mva of 2",
    ),
    (
        "branches.csv",
        "0.4,0.8",
        "400,30000",
        r"r_ohm 400 and x_ohm 30000 are beyond 100 pu of 200 ohm; give ohms",
    ),
    (
        "branches.csv",
        "a,b,trafo",
        "a,b,line",
        r"\(branch 't'\): a line cannot join 20 kV and 0\.4 kV; make its kind",
    ),
    (
        "branches.csv",
        ",288.67513459481287",
        ",0.2887",
        r"rating_a is 0\.2887; give the current limit in A, .*not .* kA",
    ),
    (
        "branches.csv",
        ",288.67513459481287",
        ",0",
        r"rating_a is 0; give .* or nothing for no limit",
    ),
    (
        "branches.csv",
        "\na-c,a,c",
        "\na-c,a,c,d",
        r"branches\.csv, line 5: 10 values for 9 columns; give one each",
    ),
    ("meta.json", "{", "", r"meta\.json, line 1: not JSON \(.*\); correct it"),
    (
        "meta.json",
        '"base_mva": 2',
        '"base_mva": "two"',
        r"meta\.json: base_mva is 'two'; give a number from 0\.001",
    ),
    (
        "meta.json",
        '"title": "mine"',
        '"paper_limit_mw": 0',
        r"meta\.json: paper_limit_mw is 0; give a number",
    ),
    (
        "meta.json",
        "1.02",
        "20.4",
        r"meta\.json: v_slack_pu is 20\.4; give a number from 0\.5 to 1\.5",
    ),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"), BAD_TABLES, ids=[row[3][:50] for row in BAD_TABLES]
)
def test_a_wrong_table_is_named_with_place_and_remedy(folder, file, old, new, message):
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))

    with pytest.raises(NetworkError, match=message) as caught:
        read_network(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("file", ["buses.csv", "branches.csv", "meta.json"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()

    with pytest.raises(
        NetworkError, match=f"{file}: no such file; a feeder folder holds buses.csv"
    ):
        read_network(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("meta.json", b"[1]", r"meta\.json: an object is expected"),
        (
            "buses.csv",
            BUSES.splitlines()[0].encode(),
            r"buses\.csv: no rows; write one for each bus",
        ),
        ("buses.csv", b"", r"buses\.csv: column bus, .* is missing"),
        (
            "buses.csv",
            BUSES.replace("long", "l\u00e4nge").encode("latin-1"),
            r"buses\.csv: not UTF-8 text",
        ),
    ],
)
def test_a_wrong_file_is_named(folder, file, content, message):
    (folder / file).write_bytes(content)

    with pytest.raises(NetworkError, match=message):
        read_network(folder)


def test_an_unknown_name_lists_the_feeders():
    for load in (load_network, load_meta):
        with pytest.raises(
            NetworkError,
            match=r"no feeder 'ieee34'; the bundled ones are bus69, .*ieee33.*; a path may",
        ):
            load("ieee34")


def test_a_path_that_is_no_feeder_is_named(tmp_path):
    (tmp_path / "feeder.xlsx").write_text("")
    with pytest.raises(
        NetworkError, match=r"feeder\.xlsx: not a feeder; give a folder with buses\.csv"
    ):
        read_network(tmp_path / "feeder.xlsx")
    with pytest.raises(
        NetworkError, match=r"nowhere: no such file or folder; give the path of a feeder"
    ):
        read_network(tmp_path / "nowhere")
    (tmp_path / "feeder.json").write_text('{"not": "a net"}')
    with pytest.raises(
        NetworkError, match=r"feeder\.json: pandapower cannot read it .*; write it with pandapower"
    ):
        read_network(tmp_path / "feeder.json")


@pytest.mark.newest
def test_pandapower_and_matpower_files_are_read(tmp_path):
    net = pandapower.networks.case33bw()
    pandapower.to_json(net, str(tmp_path / "net.json"))
    (tmp_path / "two.m").write_text(
        "function mpc = two\nmpc.version = '2';\nmpc.baseMVA = 1;\n"
        "mpc.bus = [1 3 0 0 0 0 1 1 0 10 1 1.1 0.9; 2 1 0.3 0 0 0 1 1 0 10 1 1.1 0.9];\n"
        "mpc.gen = [1 0 0 9 -9 1 1 1 9 0];\nmpc.branch = [1 2 0.01 0.01 0 0 0 0 0 0 1];\n"
    )
    for read in (read_network, load_network):
        from_pandapower, from_matpower = read(tmp_path / "net.json"), read(tmp_path / "two.m")

        assert from_pandapower.n_bus == 33
        assert from_pandapower.p_load.sum() * from_pandapower.base_mva == pytest.approx(3.715)
        assert from_matpower.bus_name == ("1", "2") and from_matpower.p_load.tolist() == [0, 0.3]
