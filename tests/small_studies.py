"""Small studies for tests: agents that train for seconds, judged decisions, and what reports hold.

pytest puts tests/ on the import path (`pythonpath` in pyproject.toml), so any test writes

    from small_studies import quiet, tiny_agents
"""

import base64
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from feederguard.agents.ddpg_transfer import DdpgTransferConfig
from feederguard.agents.learning.td3 import TD3Config
from feederguard.agents.ranked_switching import RankedSwitchingConfig
from feederguard.agents.safe_ddpg import LinearSafetyConfig
from feederguard.agents.voltage_agent import VoltageAgentConfig
from feederguard.baselines.no_transfer import NoTransfer
from feederguard.baselines.plan_search import PlanSearch
from feederguard.data.profiles import load_profiles
from feederguard.data.sampling import SampledScenarios, sample_scenarios
from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.load_transfer import Report, judge, resolve_setting
from feederguard.models.network import Network
from feederguard.studies.pages.blocks import Picker, Section
from feederguard.studies.running.provenance import Provenance
from feederguard.studies.trained.transfer_agents import AgentConfigs
from feederguard.studies.trained.voltage_makers import SafeDdpgConfig, VoltageAgentConfigs
from feederguard.studies.transfer.tables import Question, Row
from feederguard.studies.voltage.bench import VoltageBench
from feeders import demand_days, pair

HERE = Provenance(
    "python study.py",
    "7",
    (("numpy", "2.0"),),
    "CPython 3.12",
    "Linux",
    "a processor",
    2,
    8.0,
    "2026-01-01",
)

# Net demand at bus 1 of `toy_bench`, hour by hour. There V^2 - V + 0.1 p = 0: at 0.6 pu V = 0.936,
# at -0.6 pu 1.057; the ends of the band are p = 0.475 and -0.525.
HARD = [-0.6, -0.6, 0.1, 0.1, 0.6, 0.6, 0.1, 0.1]
CALM = [0.1] * 8


def quiet(width: int = 200) -> Console:
    """Return a console that prints nothing and keeps what it was told."""
    return Console(width=width, record=True, file=StringIO())


def unpacked(spec: Any) -> FloatArray:
    """Return the numbers that `figure_style.packed` made short."""
    short = np.frombuffer(base64.b64decode(spec["i2"]), dtype="<i2").astype(float)
    return np.where(short == -32768, np.nan, short * spec["step"])


def picker_of(section: Section) -> Picker:
    """Return the picker of a chapter."""
    return next(block for block in section.blocks if isinstance(block, Picker))


def tiny_agents() -> AgentConfigs:
    """Return load-transfer agents that train within a second."""
    learner = TD3Config.ddpg(hidden=(16,), warmup=8, batch=8)
    ddpg = DdpgTransferConfig(learner=learner, steps=3, num_envs=8)
    ranked = RankedSwitchingConfig(search_beam=2, search_rounds=1, hidden=8, epochs=2)
    return AgentConfigs(ddpg, ddpg, ranked)


def judged_rows(network: Network, count: int) -> tuple[SampledScenarios, list[Row]]:
    """Return scenarios and decisions in both settings of the cheapest method and the best one."""
    sampled = sample_scenarios(network, load_profiles(), count, seed=0)
    rows = []
    for name in ("paper", "radial"):
        setting = resolve_setting(network, name)
        for method in (NoTransfer(network), PlanSearch(network, setting)):
            for k in range(count):
                question = Question(name, method.name, k, network, sampled)
                decision = method.decide(question.scenario)
                outcome = judge(network, question.scenario, decision, setting)
                reports: list[Report] = getattr(method, "reports", [])
                rows.append(Row.judged(question, 0.01, decision, outcome, reports))
    return sampled, rows


def toy_bench() -> VoltageBench:
    """Return `pair` with a battery at bus 1, and hard and calm days to train and test on."""
    network = pair(p_gen=[0, 1.0])
    batteries = Batteries(np.array([1]), 0.5, 2.0, name=("b",))
    days = [HARD, CALM, HARD]
    return VoltageBench(
        "pair", network, batteries, demand_days(days), demand_days(days, first="2016-02-10")
    )


def tiny_voltage_agents(hidden: int = 16, sac_steps: int = 64, ppo_steps: int = 64) -> Any:
    """Return voltage agents that learn next to nothing, on days of eight steps."""
    learner = TD3Config(hidden=(hidden,), warmup=16, batch=16, noise=0.1)
    agent = VoltageAgentConfig(learner=learner, num_envs=4, episodes=8, learn_steps=1)
    plain = replace(agent, learner=replace(learner, twin=False, policy_delay=1, target_noise=0.0))
    linear = LinearSafetyConfig(samples=64, hidden=(8,), epochs=2)
    whole = VoltageAgentConfigs()
    off_policy = {"batch_size": 16, "learning_starts": 16, "buffer_size": 1_000}
    on_policy = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
    sac = replace(whole.sac, steps=sac_steps, num_envs=2, hidden=(8,), settings=off_policy)
    ppo = replace(whole.ppo, steps=ppo_steps, num_envs=2, hidden=(8,), settings=on_policy)
    return VoltageAgentConfigs(agent, agent, plain, SafeDdpgConfig(plain, linear), sac, ppo)


AMPERE_PER_MW = 1e3 / (np.sqrt(3) * 10)  # at 10 kV and unity power factor


def generator_feeder(folder: Path, load_4: float = 0.5, generation_4: float = 0.0) -> Path:
    """Write the feeder on which no order of switches is within limits, and return its folder.

    Bus 3 brings 2 MW, bus 5 takes 1.5 MW, and S4 bears 1 MW.
    """
    folder.mkdir()
    buses = [
        ("S", "slack", 0.0, 0.0),
        ("1", "pq", 0.0, 0.0),
        ("3", "pq", 0.0, 2.0),
        ("4", "pq", load_4, generation_4),
        ("5", "pq", 1.5, 0.0),
    ]
    (folder / "buses.csv").write_text(
        "bus,vn_kv,type,p_mw,q_mvar,vmin_pu,vmax_pu,sgen_p_mw\n"
        + "".join(f"{bus},10,{kind},{p},0,0.9,1.1,{made}\n" for bus, kind, p, made in buses)
    )
    branches = [
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
            for n, i, j, t, mw in branches
        )
    )
    (folder / "meta.json").write_text("{}")
    return folder


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Return a table of an N-1 sheet as another program would read it; names stay text."""
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
