"""The same methods when the safety layer sees another demand than that of the step it decides.

    python studies/evidence/stale_demand.py [--feeder cigre_lv18] [--days 91] [--noise 0.05]

The guarantee of the safety layer holds for the demand that it sees, on an exact model of the
feeder. In the rest of this package that is the demand of the step it decides. Here policy and
layer, inside the SOC tube, see in each step

    exact            its own demand and generation
    one step late    those of the step before; the first step of a day sees its own
    with noise       its own, times 1 + noise x for each bus and step, x standard normal

and the idle voltages of that demand. The state of charge is the true one. Each step is judged by
the AC power flow of its true demand. The policies are the idle one and, if the cache has it, the
`df_srl` of the study with seed 0; nothing is trained here. `steps certified, outside` counts the
steps outside the band that the layer certified by the demand it saw.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.data.voltage_cases import load_voltage_case
from feederguard.models.arrays import FloatArray
from feederguard.models.network import Network
from feederguard.models.voltage_regulation import VoltageDays, VoltageState, simulate
from feederguard.models.voltage_regulation.demand import idle_voltages, net_demand
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import band_excess
from feederguard.studies.trained.voltage_agents import kept_df_srl, kept_tube
from feederguard.studies.trained.voltage_makers import VoltageCourse
from feederguard.studies.voltage.tube_worth import Always, Proposer

COLUMNS = (
    "policy",
    "demand",
    "steps",
    "steps_outside",
    "worst_excess_pu",
    "days_outside",
    "certified_outside",
)


def main() -> None:
    """Run the study as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feeder", default="cigre_lv18", help="feeder with a bundled voltage case")
    parser.add_argument("--days", type=int, default=91, help="number of test days, from the first")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.05,
        help="standard deviation, as a share of each bus's demand",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument(
        "--agents-cache", type=Path, default=Path("results/agents"), help="folder of trained agents"
    )
    options = parser.parse_args()
    if options.days < 1:
        parser.error(f"--days is {options.days}; it must be at least 1")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}; it must be zero or more")
    if options.agents_cache.exists() and not options.agents_cache.is_dir():
        parser.error(f"--agents-cache {options.agents_cache} is a file; name a folder")
    try:
        train, test = (load_voltage_case(options.feeder, weeks) for weeks in ("train", "test"))
        days = test.days[: options.days]
        given = given_days(days, options.noise, options.seed)
    except ValueError as error:
        parser.error(str(error))
    network, batteries, console = test.network, test.batteries, Console(width=130)
    tube = kept_tube(network, batteries, train.days, options.agents_cache)
    course = VoltageCourse(
        options.feeder, network, batteries, train.days, tube, options.agents_cache
    )
    policies: dict[str, Proposer] = {"idle": Always(batteries, 0.0)}
    agent = kept_df_srl(course)
    if agent is None:
        console.print(
            f"no trained df_srl of {options.feeder} in {options.agents_cache}: the idle policy "
            "alone"
        )
    else:
        policies["df_srl"] = agent
    print_stale_table(stale_table(course.layer(), days, given, policies), console)


def given_days(days: VoltageDays, noise: float = 0.05, seed: int = 0) -> dict[str, VoltageDays]:
    """Return the days as the layer sees them, by name: exact, one step late, with noise.

    Raises ValueError if noise is not finite or is below zero.
    """
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise is {noise}; give a share of demand, zero or more")
    before = np.maximum(np.arange(days.n_step) - 1, 0)
    error = 1.0 + noise * np.random.default_rng(seed).standard_normal(days.p_load.shape)
    names = ("p_load", "q_load", "p_gen")
    late = replace(days, **{name: getattr(days, name)[:, before] for name in names})
    noisy = replace(days, **{name: getattr(days, name) * error for name in names})
    return {"exact": days, "one step late": late, f"{noise:.0%} noise per bus": noisy}


def stale_table(
    layer: SafetyLayer,
    days: VoltageDays,
    given: Mapping[str, VoltageDays],
    policies: Mapping[str, Proposer],
) -> pd.DataFrame:
    """Return a line per policy and demand seen; each day begins at the batteries' soc_start.

    Columns: policy; demand; steps, and of these steps_outside (AC, over 1e-5 pu) and
    certified_outside, the steps outside that the layer certified; days_outside, days with a step
    outside; worst_excess_pu. Raises ValueError as `simulate` does.
    """
    lines = []
    for name, policy in policies.items():
        for words, seen in given.items():
            method = _Given(policy, layer, seen)
            outcome = simulate(layer.network, layer.batteries, days, method)
            outside = band_excess(layer.network, outcome.v) > SAFE_TOLERANCE_PU
            lines.append(
                (
                    name,
                    words,
                    outside.size,
                    int(outside.sum()),
                    float(outcome.worst_excess_pu.max(initial=0.0)),
                    int(outside.any(axis=1).sum()),
                    int((outside & method.certified).sum()),
                )
            )
    return pd.DataFrame(lines, columns=list(COLUMNS))


class _Given:
    """A policy and its layer, which see the demand of other days than those judged."""

    name = "given demand"

    def __init__(self, policy: Proposer, layer: SafetyLayer, seen: VoltageDays) -> None:
        self.policy, self.layer = policy, layer
        network: Network = layer.network
        p, q = net_demand(network, seen)
        self.p: FloatArray = p
        self.q: FloatArray = np.broadcast_to(q, p.shape)
        self.v = idle_voltages(network, seen)
        self.certified = np.zeros(p.shape[:2], dtype=bool)

    def decide(self, state: VoltageState) -> FloatArray:
        """Return the power of each battery, (B, n_bat) pu; row k of the state is day k."""
        day, step = np.arange(len(state)), state.step
        seen = VoltageState(
            self.p[day, step], self.q[day, step], self.v[day, step], state.soc, step
        )
        answer = self.layer.correct(seen, self.policy.propose(seen))
        self.certified[day, step] = answer.certified
        return answer.p


def print_stale_table(table: pd.DataFrame, console: Console) -> None:
    """Print the table of `stale_table`."""
    shown = Table(title="Demand that the layer sees, and the AC power flow of the true demand")
    headings = (
        "policy",
        "demand seen",
        "steps",
        "steps\noutside",
        "worst\npu",
        "days\noutside",
        "steps certified,\noutside",
    )
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in headings[:2] else "right")
    for line in table.to_dict("records"):
        shown.add_row(
            line["policy"],
            line["demand"],
            str(line["steps"]),
            str(line["steps_outside"]),
            f"{line['worst_excess_pu']:.4f}",
            str(line["days_outside"]),
            str(line["certified_outside"]),
        )
    console.print(shown)


if __name__ == "__main__":
    main()
