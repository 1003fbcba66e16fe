"""Make the bundled profiles `days/simbench_2016.npz` from SimBench: a year of load and PV series.

    pip install simbench
    python data/make/days.py            # writes days/simbench_2016.npz
    python data/make/days.py --check    # writes nothing; exit status 1 if the bundled file differs

Source: the tables LoadProfile.csv and RESProfile.csv of the SimBench code
1-complete_data-mixed-all-0-sw, shipped in the PyPI package `simbench` (Meinecke et al., Energies
13(12):3290, 2020; Open Database License). What is taken:

- active power of 33 loads, in this order: households (H0-*), whole low-voltage grids (lv_*),
  agriculture (L*), commerce (G*), and BL-H and WB-H. So a feeder with few loads gets households
  first. Left out are charging points, heat pumps, storages, and the medium- and high-voltage
  aggregates, which nearly repeat one another (correlation up to 0.996) or turn negative.
- the eight photovoltaic series PV1 to PV8, per unit of installed power as they are.

What is changed: the first 365 of the 366 days are kept (35 040 steps). Every load series is divided
by its peak in them. Everything is rounded to 1e-4. The table's labels follow the Central European
clock and jump at both ends of daylight saving time, while its rows do not. Here the rows are
numbered in standard time (CET) all year.

Layout of the file (numpy .npz, no pickled objects): `load` (n_load, n_step) and `pv` (n_pv,
n_step), uint16 counts of 1 / `scale`; `load_name`, `pv_name`; `start`, the beginning of the first
interval; `step_minutes`.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feederguard.models.arrays import FloatArray

CODE = "1-complete_data-mixed-all-0-sw"
OUTPUT = Path(__file__).resolve().parents[1] / "days" / "simbench_2016.npz"
N_STEP = 365 * 96
SCALE = 10_000
FAMILIES = ("H0-", "lv_", r"L\d-", r"G\d-", "BL-H|WB-H")


def make_arrays(folder: Path) -> dict[str, Any]:
    """Return the arrays of the bundled file, made from the SimBench tables in `folder`."""
    loads = pd.read_csv(folder / "LoadProfile.csv", sep=";")
    plants = pd.read_csv(folder / "RESProfile.csv", sep=";")
    _check_clock(loads["time"])
    _check_clock(plants["time"])
    load_name = [
        column.removesuffix("_pload")
        for family in FAMILIES
        for column in sorted(map(str, loads))
        if re.fullmatch(f"({family}).*_pload", column)
    ]
    pv_name = [column for column in sorted(map(str, plants)) if re.fullmatch(r"PV\d", column)]
    load = loads[[f"{name}_pload" for name in load_name]].to_numpy()[:N_STEP].T
    pv = plants[pv_name].to_numpy()[:N_STEP].T
    return {
        "load": _counts(load / load.max(axis=1, keepdims=True)),
        "pv": _counts(pv),
        "load_name": np.array(load_name),
        "pv_name": np.array(pv_name),
        "start": np.array("2016-01-01T00:00"),
        "step_minutes": np.array(15),
        "scale": np.array(SCALE),
    }


def _check_clock(label: pd.Series[str]) -> None:
    """Check the clock of the table, as the module states it.

    It has 366 days, and its labels jump twice, at daylight saving time.
    """
    time = pd.to_datetime(label, format="%d.%m.%Y %H:%M")
    jump = time.diff().dropna() != pd.Timedelta(minutes=15)
    first = time[jump[jump].index].dt.strftime("%m-%d %H:%M").tolist()
    if (
        len(time) != 366 * 96
        or str(time.iloc[0]) != "2016-01-01 00:00:00"
        or first != ["03-27 03:00", "10-30 02:00"]
    ):
        sys.exit(
            f"{CODE}: the clock of the table is not the one this script was written for; jumps at "
            f"{first}"
        )


def _counts(values: FloatArray) -> NDArray[np.uint16]:
    if not (np.isfinite(values).all() and values.min() >= 0.0 and values.max() <= 1.0):
        sys.exit(f"{CODE}: a series leaves 0..1; choose other columns")
    return np.rint(values * SCALE).astype(np.uint16)


def _simbench_folder() -> Path:
    spec = find_spec("simbench")
    if spec is None or spec.origin is None:
        sys.exit("this script needs the SimBench tables: pip install simbench")
    return Path(spec.origin).parent / "networks" / CODE


def _same(arrays: dict[str, Any]) -> bool:
    """Compare contents, not bytes: another zlib compresses the same numbers differently."""
    if not OUTPUT.is_file():
        return False
    with np.load(OUTPUT) as bundled:
        return set(bundled) == set(arrays) and all(
            np.array_equal(bundled[key], arrays[key]) for key in arrays
        )


def main() -> int:
    """Write or check the file; return the exit status."""
    parser = argparse.ArgumentParser(
        description="Make data/days/simbench_2016.npz from the PyPI package simbench."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if the bundled file differs"
    )
    check = parser.parse_args().check
    arrays = make_arrays(_simbench_folder())
    if check:
        same = _same(arrays)
        print(f"{OUTPUT.name}: {'as bundled' if same else 'differs; run python data/make/days.py'}")
        return 0 if same else 1
    OUTPUT.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        OUTPUT, **arrays
    )  # numpy stamps every member 1980-01-01, so equal input gives equal bytes
    n_load, n_pv = len(arrays["load_name"]), len(arrays["pv_name"])
    print(
        f"{OUTPUT.name}: {n_load} loads, {n_pv} PV, {N_STEP} steps, "
        f"{OUTPUT.stat().st_size / 1e6:.2f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
