"""What the SOC tube is worth: the same policies under the safety layer with the tube and without.

    python studies/voltage/tube_worth.py [--feeder cigre_lv18] [--days 91]

A policy that uses in the morning the energy that the evening needs reaches states in which no
action holds the band. The table shows what that costs, for each policy given and for two wasteful
ones, all behind the same layer:

    discharges all it can    -p_max of every battery in every step
    charges all it can       +p_max of every battery in every step

    each from soc_start      every day begins at the batteries' soc_start
    carried over             the first day begins at soc_start, every other with the SOC at the end
                             of the day before, whether or not the calendar joins them

Days carried over must be simulated one after another. All policies, with the tube and without, are
therefore simulated as one batch, which takes little longer than one policy.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.safe_powers.answers import STATUSES
from feederguard.models.soc_tube import SocTube, compute_soc_tube
from feederguard.models.voltage_regulation import VoltageDays, VoltageState, simulate

FRESH, CARRIED = "each from soc_start", "carried over"
_SHORT_KWH = 1e-6  # more than rounding leaves
COLUMNS = (
    "policy",
    "tube",
    "days",
    "steps",
    "steps_outside",
    "worst_excess_pu",
    "slack_steps",
    "tube_left_steps",
    "short_days",
    "missing_kwh_day",
    "missing_kwh_last",
)


class Proposer(Protocol):
    """A policy in front of the layer: a `VoltageAgent`, or anything like it."""

    def propose(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        ...


@dataclass(frozen=True, eq=False)
class Always:
    """A policy that proposes the same share of every battery's power in every step."""

    batteries: Batteries
    share: float  # of p_max, positive charging

    def propose(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        return np.tile(self.share * self.batteries.p_max, (len(state), 1))


def tube_table(
    network: Network,
    batteries: Batteries,
    days: VoltageDays,
    tube: SocTube,
    policies: Mapping[str, Proposer],
) -> pd.DataFrame:
    """Return a line per policy, with the tube and without, for both kinds of days.

    policies: by name; the two wasteful ones are added. Columns: policy; tube ("with", "without");
    days (FRESH, CARRIED); steps, and of these steps_outside (AC, over 1e-5 pu), slack_steps (the
    layer used slack, or failed) and tube_left_steps; worst_excess_pu; short_days, which end below
    soc_start; missing_kwh_day and missing_kwh_last, the energy missing at the end of a day, mean
    over the days and on the last day.

    Raises ValueError for days of another feeder, and for a policy with the name of a wasteful one.
    """
    wasteful: dict[str, Proposer] = {
        "discharges all it can": Always(batteries, -1.0),
        "charges all it can": Always(batteries, 1.0),
    }
    taken = sorted(set(policies) & set(wasteful))
    if taken:
        raise ValueError(
            f"tube_table: {taken[0]!r} is the name of a wasteful policy; choose another name"
        )
    everyone = {**policies, **wasteful}
    layers = {kept: SafetyLayer(network, batteries, days.step_h, kept) for kept in (tube, None)}
    lines = []
    for name, policy in everyone.items():
        for kept, layer in layers.items():
            method = _SideBySide([policy], [layer], len(days))
            outcome = simulate(network, batteries, days, method)
            told = _Told(outcome.n_violation_steps, outcome.worst_excess_pu, outcome.soc_short_mwh)
            lines.append(_line(name, kept, FRESH, days, told, method.counts[0]))
    both = [(name, policy, kept) for name, policy in everyone.items() for kept in layers]
    method = _SideBySide(
        [policy for _, policy, _ in both], [layers[kept] for _, _, kept in both], 1
    )
    carried = _carry(network, batteries, days, method)
    for (name, _, kept), told, counts in zip(both, carried, method.counts, strict=True):
        lines.append(_line(name, kept, CARRIED, days, told, counts))
    return pd.DataFrame(lines, columns=list(COLUMNS))


class _SideBySide:
    """Policies with a layer each, in one batch: `rows` neighbouring rows belong to one policy.

    counts: (n_policy, n_status) statuses of the layers.
    """

    name = "side by side"

    def __init__(
        self, policies: Sequence[Proposer], layers: Sequence[SafetyLayer], rows: int
    ) -> None:
        self.policies, self.rows = policies, rows
        self.counts: IntArray = np.zeros((len(policies), len(STATUSES)), dtype=np.int64)
        # A layer is called once for all policies that share it.
        self.shares = [
            (layer, np.array([k for k, other in enumerate(layers) if other is layer]))
            for layer in dict.fromkeys(layers)
        ]

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu."""
        by_policy = np.arange(len(state)).reshape(len(self.policies), self.rows)
        wanted = np.empty(state.soc.shape)
        for policy in {id(policy): policy for policy in self.policies}.values():
            mine = by_policy[[other is policy for other in self.policies]].ravel()
            wanted[mine] = policy.propose(state[mine])
        answer = np.empty_like(wanted)
        for layer, members in self.shares:
            mine = by_policy[members].ravel()
            actions = layer.correct(state[mine], wanted[mine])
            answer[mine] = actions.p
            np.add.at(self.counts, (np.repeat(members, self.rows), actions.status), 1)
        return answer


@dataclass(frozen=True, eq=False)
class _Told:
    """What the judge found for one policy, day by day."""

    outside: IntArray  # (n_day,) steps
    worst_pu: FloatArray  # (n_day,)
    short_mwh: FloatArray  # (n_day,)


def _carry(
    network: Network, batteries: Batteries, days: VoltageDays, method: _SideBySide
) -> list[_Told]:
    """Return the judge's findings of days carried over, policy by policy."""
    n = len(method.policies)
    soc = np.tile(batteries.soc_start, (n, 1))
    outside, worst, short = (
        np.zeros((len(days), n), np.int64),
        np.zeros((len(days), n)),
        np.zeros((len(days), n)),
    )
    for k in range(len(days)):
        outcome = simulate(network, batteries, days[[k] * n], method, soc)
        soc = outcome.soc[:, -1]
        outside[k], worst[k], short[k] = (
            outcome.n_violation_steps,
            outcome.worst_excess_pu,
            outcome.soc_short_mwh,
        )
    return [_Told(outside[:, j], worst[:, j], short[:, j]) for j in range(n)]


def _line(
    name: str, kept: SocTube | None, mode: str, days: VoltageDays, told: _Told, counts: IntArray
) -> dict[str, object]:
    by_status = dict(zip(STATUSES, counts.tolist(), strict=True))
    missing_kwh = 1e3 * told.short_mwh
    return {
        "policy": name,
        "tube": "without" if kept is None else "with",
        "days": mode,
        "steps": len(days) * days.n_step,
        "steps_outside": int(told.outside.sum()),
        "worst_excess_pu": float(told.worst_pu.max(initial=0.0)),
        "slack_steps": by_status["slack_used"] + by_status["failed"],
        "tube_left_steps": by_status["tube_left"],
        "short_days": int((missing_kwh > _SHORT_KWH).sum()),
        "missing_kwh_day": float(missing_kwh.mean()),
        "missing_kwh_last": float(missing_kwh[-1]),
    }


def print_tube_table(table: pd.DataFrame, console: Console) -> None:
    """Print the table of `tube_table`."""
    shown = Table(
        title="What the SOC tube is worth, under the same safety layer",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    headings = (
        "policy",
        "days",
        "tube",
        "steps\noutside",
        "worst\npu",
        "slack\nused",
        "tube\nleft",
        "days\nshort",
        "missing\nkWh/day",
        "at the\nend, kWh",
    )
    for heading in headings:
        left = heading in ("policy", "days", "tube")
        shown.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for line in table.to_dict("records"):
        shown.add_row(
            line["policy"],
            line["days"],
            line["tube"],
            str(line["steps_outside"]),
            f"{line['worst_excess_pu']:.4f}",
            str(line["slack_steps"]),
            str(line["tube_left_steps"]),
            str(line["short_days"]),
            f"{line['missing_kwh_day']:.1f}",
            f"{line['missing_kwh_last']:.1f}",
        )
    console.print(shown)


def main() -> None:
    """Run the study as a program, for the idle policy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feeder", default="cigre_lv18", help="feeder with a bundled voltage case")
    parser.add_argument("--days", type=int, default=91, help="number of test days, from the first")
    options = parser.parse_args()
    if options.days < 1:
        parser.error(f"--days is {options.days}; it must be at least 1")
    try:
        train, test = (load_voltage_case(options.feeder, weeks) for weeks in ("train", "test"))
    except ValueError as error:
        parser.error(str(error))
    tube = compute_soc_tube(test.network, test.batteries, train.days)
    idle = {"idle": Always(test.batteries, 0.0)}
    console = Console(width=130)
    print_tube_table(
        tube_table(test.network, test.batteries, test.days[: options.days], tube, idle), console
    )


if __name__ == "__main__":
    main()
