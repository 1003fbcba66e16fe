"""Load and PV of a year, per unit: bundled or from a file, split into train and test weeks.

Functions here also say which series each bus follows.

`load_profiles()` gives the bundled year; `load_profiles("my_load.csv")` reads a file by the rules
on top of `feederguard.data.profiles.files` and `feederguard.data.profiles.clock`. Every time is the
beginning of an interval, and every value the mean over it.

Train and test: the first day is day 0; day d lies in week d // 7, and every fourth week (3, 7, 11,
...) is test. Days are calendar days of `time`, so that no day is split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from feederguard.data.profiles.clock import MINUTES_A_DAY, ProfileError
from feederguard.data.profiles.files import read_profile_file
from feederguard.models.arrays import BoolArray, FloatArray, IntArray, TimeArray
from feederguard.models.network import Network

__all__ = ["ProfileError", "Profiles", "bus_series", "list_profiles", "load_profiles"]


@dataclass(frozen=True, eq=False)
class Profiles:
    """Series of n_load loads and n_pv PV plants on one clock of n_step equal intervals.

    Arrays are read-only. Raises `ProfileError` when shapes disagree, the clock is not equally
    spaced, or a value is negative or not finite.
    """

    name: str
    time: TimeArray  # (n_step,) beginning of each interval, in minutes
    step_minutes: int
    load: FloatArray  # (n_step, n_load) per unit of each series' own yearly peak
    pv: FloatArray  # (n_step, n_pv) per unit of installed power; n_pv may be 0
    load_name: tuple[str, ...]
    pv_name: tuple[str, ...]

    def __post_init__(self) -> None:
        for field, kind in (("time", "datetime64[m]"), ("load", np.float64), ("pv", np.float64)):
            array = np.array(getattr(self, field), dtype=kind, order="C")
            array.setflags(write=False)
            object.__setattr__(self, field, array)
        for field, names in (("load", self.load_name), ("pv", self.pv_name)):
            values = getattr(self, field)
            if values.shape != (self.n_step, len(names)):
                raise ProfileError(
                    f"{self.name}: {field} has shape {values.shape}, expected "
                    f"{(self.n_step, len(names))}"
                )
            if not (np.isfinite(values).all() and (values >= 0.0).all()):
                raise ProfileError(
                    f"{self.name}: {field} holds negative or infinite values; give zero or more"
                )
        if not self.n_step or not self.n_load:
            raise ProfileError(
                f"{self.name}: {self.n_step} steps of {self.n_load} loads; give at least one of "
                "each"
            )
        if (np.diff(self.time) != np.timedelta64(self.step_minutes, "m")).any():
            raise ProfileError(
                f"{self.name}: time is not equally spaced by step_minutes={self.step_minutes}"
            )

    @property
    def n_step(self) -> int:
        return len(self.time)

    @property
    def n_load(self) -> int:
        return len(self.load_name)

    @property
    def n_pv(self) -> int:
        return len(self.pv_name)

    @property
    def steps_per_day(self) -> int:
        return MINUTES_A_DAY // self.step_minutes

    @property
    def week(self) -> IntArray:
        """Week of each step, counted from the first day, (n_step,)."""
        day = self.time.astype("datetime64[D]")
        week: IntArray = (day - day[0]).astype(np.int64) // 7
        return week

    @property
    def train_steps(self) -> IntArray:
        """Steps of the train weeks, ascending."""
        return np.flatnonzero(self.week % 4 != 3)

    @property
    def test_steps(self) -> IntArray:
        """Return the steps of the test weeks, ascending.

        Raises `ProfileError` when the series end before the first test week.
        """
        steps = np.flatnonzero(self.week % 4 == 3)
        if not len(steps):
            days = self.n_step / self.steps_per_day
            raise ProfileError(
                f"{self.name}: covers {days:.4g} days, and the first test week begins on day 22; "
                "give at least 22 days"
            )
        return steps

    def resample(self, step_minutes: int) -> Profiles:
        """Return the same series on another step.

        Longer intervals hold means; shorter ones repeat the value.

        Longer intervals count from the first step, and an incomplete one at the end is dropped.
        Peaks are not normalised again: the mean over an hour may stay below 1. Raises
        `ProfileError` for a step that does not divide a day, or is neither a multiple nor a divisor
        of the present one.
        """
        old, new = self.step_minutes, int(step_minutes)
        if new <= 0 or MINUTES_A_DAY % new or (new % old and old % new):
            raise ProfileError(
                f"{self.name}: cannot resample from {old} to {step_minutes} minutes; "
                f"give a divisor of {MINUTES_A_DAY} that is a multiple or a divisor of {old}"
            )
        if new < old:
            repeat = old // new
            time = self.time[0] + np.arange(self.n_step * repeat) * np.timedelta64(new, "m")
            load, pv = np.repeat(self.load, repeat, axis=0), np.repeat(self.pv, repeat, axis=0)
        else:
            block = new // old
            n_step = self.n_step // block
            time = self.time[: n_step * block : block]
            load = self.load[: n_step * block].reshape(n_step, block, self.n_load).mean(axis=1)
            pv = self.pv[: n_step * block].reshape(n_step, block, self.n_pv).mean(axis=1)
        return replace(self, time=time, step_minutes=new, load=load, pv=pv)


def list_profiles() -> list[str]:
    """Return the names of the bundled profiles."""
    return sorted(_bundled())


def load_profiles(name_or_path: str | Path = "simbench_2016", max_gap_h: float = 0.0) -> Profiles:
    """Return bundled profiles by name, or those of a file by path.

    `max_gap_h`: gaps in a file of up to so many hours are filled by the shape of the neighbouring
    weeks; longer ones raise. Raises `ProfileError` for an unknown name, a file that is not there,
    and all that `read_profile_file` names.
    """
    bundled = _bundled()
    if str(name_or_path) in bundled:
        return _load_bundled(bundled[str(name_or_path)])
    path = Path(name_or_path)
    if path.is_file():
        series = read_profile_file(path, max_gap_h)
        return Profiles(path.stem, *series)
    if path.suffix or len(path.parts) > 1:
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise ProfileError(
            f"profile file {path} {what}; give a .csv or .xlsx file, or one of "
            f"{', '.join(sorted(bundled))}"
        )
    raise ProfileError(
        f"unknown profiles {str(name_or_path)!r}; bundled are {', '.join(sorted(bundled))}, "
        "and the path of a .csv or .xlsx file may be given"
    )


def bus_series(
    profiles: Profiles, network: Network, seed: int | None = None
) -> tuple[IntArray, IntArray]:
    """Return the column of each bus among the load series and among the PV series, (n_bus,) each.

    The k-th bus with load (k from 0, in file order) follows load series k mod n_load; the k-th bus
    with local generation follows PV series k mod n_pv. A bus without, and every bus when there is
    no PV series, has -1. A seed shuffles the series first, so that a small feeder meets others than
    the first few.
    """
    order_load, order_pv = np.arange(profiles.n_load), np.arange(profiles.n_pv)
    if seed is not None:
        generator = np.random.default_rng(seed)
        order_load, order_pv = generator.permutation(order_load), generator.permutation(order_pv)
    has_load = (network.p_load != 0.0) | (network.q_load != 0.0)
    has_gen = (network.p_gen != 0.0) | (network.q_gen != 0.0)
    return _deal(order_load, has_load), _deal(order_pv, has_gen)


def _deal(order: IntArray, takes: BoolArray) -> IntArray:
    series = np.full(len(takes), -1, dtype=np.int64)
    if len(order):
        series[takes] = order[np.arange(np.count_nonzero(takes)) % len(order)]
    return series


def _bundled() -> dict[str, Path]:
    # importlib.resources cannot open a folder of a namespace package that is installed editable.
    return {path.stem: path for path in (Path(__file__).parents[1] / "days").glob("*.npz")}


def _load_bundled(path: Path) -> Profiles:
    """Read the layout that `make/days.py` writes."""
    with np.load(path) as arrays:
        step_minutes = int(arrays["step_minutes"])
        load, pv = (arrays[key].T / float(arrays["scale"]) for key in ("load", "pv"))
        start, step = np.datetime64(str(arrays["start"]), "m"), np.timedelta64(step_minutes, "m")
        time = start + np.arange(len(load)) * step
        names = (tuple(str(label) for label in arrays[key]) for key in ("load_name", "pv_name"))
        return Profiles(path.stem, time, step_minutes, load, pv, *names)
