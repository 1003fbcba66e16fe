"""The sizing of a voltage case: how often the feeder leaves its band, and that batteries hold it.

    python studies/evidence/size_voltage_case.py                    cigre_lv18
    python studies/evidence/size_voltage_case.py --feeder ieee33
    python studies/evidence/size_voltage_case.py --no-tube          layer without SOC tube

It prints

- the sizes of batteries and plants beside load and generation;
- the share of steps with a bus below or above its band without control, in train weeks, test weeks
  and the year;
- for every day of the year, the AC optimum with perfect information
  (`baselines/voltage/optimum.py`);
- for every day, the idle policy, which proposes no power, under the safety layer with the SOC tube
  of the train weeks: steps outside the band by the AC power flow, steps with slack, steps outside
  the tube, days that end short of energy, largest loading;
- wasteful policies under the layer, with the tube and without.

The last line, and the exit status 0 or 1, say whether the case is as intended:

    (1)  the optimum holds every day of the year and ends it with the required energy
    (2)  the idle policy under the layer is never outside; each step has a certificate, none slack

The line also gives the days that the idle policy ends short of energy: it never charges to make up
for them, and by (1) that would be possible. The program is a study because it needs agents and
baselines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.baselines.voltage.optimum import VoltageOpf, VoltageOptimumError
from feederguard.data.voltage_cases import VoltageCase, load_voltage_case
from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safe_powers.answers import STATUSES
from feederguard.models.soc_tube import SocTube, compute_soc_tube
from feederguard.models.voltage_regulation import VoltageOutcomes, VoltageState, simulate
from feederguard.models.voltage_regulation.demand import battery_demand, idle_voltages, net_demand
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import judged_buses


@dataclass(frozen=True)
class SizeConfig:
    """Options of the program."""

    feeder: str = "cigre_lv18"  # with a bundled voltage case
    tube: bool = True  # the layer keeps the SOC inside the tube


Ask = Callable[[VoltageState], FloatArray]


class UnderLayer:
    """A policy under a safety layer, by default the idle one, with counts of the statuses."""

    name = "under layer"

    def __init__(
        self, layer: SafetyLayer, ask: Ask = lambda state: np.zeros(state.soc.shape)
    ) -> None:
        self.layer, self.ask = layer, ask
        self.count: IntArray = np.zeros(len(STATUSES), dtype=np.int64)
        self.uncertified = 0

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the safe power nearest to the policy's, (B, n_bat) pu."""
        actions = self.layer.correct(state, self.ask(state))
        self.count += np.bincount(actions.status, minlength=len(STATUSES))
        self.uncertified += int((~actions.certified).sum())
        return actions.p


def main() -> int:
    """Run the study as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feeder", default=SizeConfig.feeder)
    parser.add_argument(
        "--no-tube", action="store_true", help="allow every SOC that the batteries allow"
    )
    options = parser.parse_args()
    config = SizeConfig(options.feeder, not options.no_tube)
    console = Console(width=120)
    try:
        year = load_voltage_case(config.feeder, "all")
    except ValueError as error:
        parser.error(str(error))
    console.print(sizes(year))
    console.print(uncontrolled(config.feeder))
    begun = perf_counter()
    tube = (
        compute_soc_tube(
            year.network, year.batteries, load_voltage_case(config.feeder, "train").days
        )
        if config.tube
        else None
    )
    if tube is not None:
        console.print(f"SOC tube of the training weeks: {perf_counter() - begun:.0f} s\n")
    begun = perf_counter()
    best = optimum(year)
    console.print(best.table)
    console.print(f"AC optimum of {len(year.days)} days: {perf_counter() - begun:.0f} s\n")
    idle = controlled(year, tube)
    console.print(idle.table)
    if tube is not None:
        console.print(what_the_tube_is_for(year, tube))
    words, fine = verdict(best, idle)
    console.print(words, soft_wrap=True, markup=False, highlight=False)
    return 0 if fine else 1


@dataclass(frozen=True, eq=False)
class Held:
    """The findings over a year."""

    table: Table
    n_day: int
    # Days without a plan, or with a plan that the judge does not find safe and full.
    lost_days: tuple[str, ...] = ()
    outside: int = 0  # steps
    slack: int = 0  # steps in which the layer used slack or failed
    uncertified: int = 0  # steps
    short_days: int = 0


def verdict(best: Held, idle: Held) -> tuple[str, bool]:
    """Return the last line, and whether (1) and (2) hold."""
    broken = []
    if best.lost_days:
        broken.append(
            f"no AC optimum holds {len(best.lost_days)} days, the first {best.lost_days[0]}"
        )
    for n, what in (
        (idle.outside, "steps of the idle policy are outside the band"),
        (idle.slack, "of its steps needed slack"),
        (idle.uncertified, "of its steps have no certificate"),
    ):
        if n:
            broken.append(f"{n} {what}")
    short = f"the idle policy ends {idle.short_days} of {idle.n_day} days short of energy"
    if broken:
        return f"NOT as intended: {'; '.join(broken)} ({short})", False
    return (
        f"As intended: the AC optimum holds all {best.n_day} days, and the idle policy under the "
        f"layer every step of {idle.n_day} days, certified and without slack; {short}",
        True,
    )


def optimum(case: VoltageCase) -> Held:
    """Return the findings of the AC optimum with perfect information, judged like any method."""
    planner, batteries, days = VoltageOpf(case.network, case.batteries), case.batteries, case.days
    lost: list[str] = []
    used, worst = [], 0.0
    for k in range(len(days)):
        try:
            outcome = simulate(case.network, batteries, days[k], planner)
        except VoltageOptimumError:
            lost.append(str(days.date[k]))
            continue
        worst = max(worst, float(outcome.worst_excess_pu[0]))
        used.append(outcome.regulation_mwh[0])
        if outcome.n_violation_steps[0] or outcome.soc_short_mwh[0] > 1e-9 * case.network.base_mva:
            lost.append(str(days.date[k]))
    table = Table(title="AC optimum with perfect information, all days", show_header=False)
    for label, value in (
        ("days held to their end", f"{len(days) - len(lost)} of {len(days)}"),
        ("farthest outside", f"{worst:.2e} pu"),
        ("regulation energy, mean day", f"{np.mean(used) if used else np.nan:.3f} MWh"),
    ):
        table.add_row(label, value)
    return Held(table, len(days), tuple(lost))


def what_the_tube_is_for(case: VoltageCase, tube: SocTube) -> Table:
    """Return the table of wasteful policies under the layer, with the tube and without."""
    p_max, rng = case.batteries.p_max, np.random.default_rng(0)
    policies: dict[str, Ask] = {
        "discharges all it can": lambda state: np.broadcast_to(-p_max, state.soc.shape),
        "charges all it can": lambda state: np.broadcast_to(p_max, state.soc.shape),
        "acts at random": lambda state: rng.uniform(-1.0, 1.0, state.soc.shape) * p_max,
    }
    table = Table(title="Wasteful policies under the safety layer, all days")
    for column in (
        "policy",
        "SOC tube",
        "steps outside",
        "worst, pu",
        "slack used",
        "tube left",
        "days short",
        "MWh/day",
    ):
        table.add_column(column, justify="left" if column in ("policy", "SOC tube") else "right")
    for name, ask in policies.items():
        for kept in (tube, None):
            method = UnderLayer(
                SafetyLayer(case.network, case.batteries, case.days.step_h, kept), ask
            )
            outcome = simulate(case.network, case.batteries, case.days, method)
            count = dict(zip(STATUSES, method.count.tolist(), strict=True))
            short = outcome.soc_short_mwh > 1e-9 * case.network.base_mva
            table.add_row(
                name,
                "with" if kept else "without",
                str(outcome.n_violation_steps.sum()),
                f"{outcome.worst_excess_pu.max():.4f}",
                str(count["slack_used"] + count["failed"]),
                str(count["tube_left"]),
                str(short.sum()),
                f"{outcome.regulation_mwh.mean():.2f}",
            )
    return table


def sizes(case: VoltageCase) -> Table:
    """Return the sizes of batteries and plants beside demand."""
    network, batteries, days = case.network, case.batteries, case.days
    base, day_mwh = network.base_mva, network.base_mva * days.step_h
    load, made = days.p_load.sum(axis=2), days.p_gen.sum(axis=2)
    table = Table(title=f"Sizes of {network.name}", show_header=False)
    for label, value in (
        ("highest load", f"{base * load.max():.3f} MW"),
        ("energy used, mean day", f"{day_mwh * load.sum(axis=1).mean():.2f} MWh"),
        (
            "photovoltaics installed",
            f"{base * network.p_gen.sum():.3f} MWp at {(network.p_gen > 0).sum()} buses",
        ),
        (
            "energy made, mean and best day",
            f"{day_mwh * made.sum(axis=1).mean():.2f}, {day_mwh * made.sum(axis=1).max():.2f} MWh",
        ),
        (
            "batteries",
            f"{base * batteries.p_max.sum():.3f} MW, {base * batteries.energy.sum():.2f} MWh at "
            f"{len(batteries)} buses",
        ),
    ):
        table.add_row(label, value)
    return table


def uncontrolled(feeder: str) -> Table:
    """Return the shares of steps outside the band without control."""
    table = Table(title="Without control: % of steps with a bus outside its band")
    for column in (
        "weeks",
        "days",
        "below",
        "above",
        "either",
        "days with any",
        "lowest pu",
        "highest pu",
    ):
        table.add_column(column, justify="left" if column == "weeks" else "right")
    for weeks in ("train", "test", "all"):
        case = load_voltage_case(feeder, weeks)
        buses = judged_buses(case.network)
        v = idle_voltages(case.network, case.days)[..., buses]
        below = ~(v >= case.network.v_min[buses] - SAFE_TOLERANCE_PU).all(axis=2)
        above = (v > case.network.v_max[buses] + SAFE_TOLERANCE_PU).any(axis=2)
        either = np.asarray(below | above)
        percent = [
            f"{100 * np.mean(share):.1f}" for share in (below, above, either, either.any(axis=1))
        ]
        table.add_row(weeks, str(len(v)), *percent, f"{np.nanmin(v):.4f}", f"{np.nanmax(v):.4f}")
    return table


def controlled(case: VoltageCase, tube: SocTube | None) -> Held:
    """Return the findings of the idle policy under the layer over all days."""
    layer = SafetyLayer(case.network, case.batteries, case.days.step_h, tube)
    method = UnderLayer(layer)
    outcome = simulate(case.network, case.batteries, case.days, method)
    table = Table(
        title=f"Idle policy under the safety layer, {'SOC tube' if tube else 'no tube'}, all days",
        show_header=False,
    )
    short = outcome.soc_short_mwh > 1e-9 * case.network.base_mva
    slack = int(method.count[STATUSES.index("slack_used")] + method.count[STATUSES.index("failed")])
    for label, value in (
        ("days, steps", f"{len(outcome)}, {outcome.converged.size}"),
        (
            "steps outside the band (AC, over 1e-5 pu)",
            f"{outcome.n_violation_steps.sum()} on {(outcome.n_violation_steps > 0).sum()} days",
        ),
        ("farthest outside", f"{outcome.worst_excess_pu.max():.2e} pu"),
        (
            "statuses",
            ", ".join(
                f"{name} {n}" for name, n in zip(STATUSES, method.count.tolist(), strict=True)
            ),
        ),
        ("steps without a certificate", str(method.uncertified)),
        ("SOC, lowest and highest", f"{outcome.soc.min():.3f}, {outcome.soc.max():.3f}"),
        (
            "days that end below soc_start",
            f"{short.sum()}, at most {outcome.soc_short_mwh.max():.2e} MWh",
        ),
        ("regulation energy, mean day", f"{outcome.regulation_mwh.mean():.3f} MWh"),
        (
            "largest loading of a branch",
            f"{100 * largest_loading(case, outcome):.0f} % of its rating",
        ),
    ):
        table.add_row(label, value)
    outside = int(outcome.n_violation_steps.sum())
    return Held(table, len(outcome), (), outside, slack, method.uncertified, int(short.sum()))


def largest_loading(case: VoltageCase, outcome: VoltageOutcomes) -> float:
    """Return the largest current over rating of any branch in any step."""
    p_net, q_net = net_demand(case.network, case.days)
    p = p_net + battery_demand(case.network, case.batteries, outcome.p_battery)
    largest = 0.0
    for day_p, day_q in zip(p, q_net, strict=True):
        largest = max(largest, float(solve_power_flow(case.network, day_p, day_q).loading.max()))
    return largest


if __name__ == "__main__":
    sys.exit(main())
