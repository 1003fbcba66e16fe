"""A feeder at deep sag: how far outside the band three margins of the safety QP leave it.

The published margin is 0.002 pu on both sides. The derived one is that of the idle feeder. The
whole layer linearises again at AC states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from feederguard.agents.safety_layer import SafetyLayer
from feederguard.data.networks import load_network
from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.network import Network
from feederguard.models.power_flow import solve_power_flow
from feederguard.models.safety_qp.projection import project
from feederguard.models.voltage_regulation import VoltageState
from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.models.voltage_regulation.rules import band_excess

PUBLISHED_MARGIN_PU = 0.002
SAG_LOADS = (0.8, 1.0, 1.25)  # times nominal demand
# of p_max
SAG_PROPOSALS = {
    "discharging": (-1.0, -0.5),
    "small": (-0.1, 0.1),
    "charging": (0.5, 1.0),
}


@dataclass(frozen=True)
class DeepSag:
    """How far outside the band three answers leave a feeder at deep sag, by AC power flow, pu."""

    idle_lowest_pu: float  # voltage, batteries idle
    lindistflow_error_pu: float  # the largest, batteries idle
    published_excess_pu: float  # both sides tightened by 0.002 pu, one projection
    derived_excess_pu: float  # the derived margin, one projection
    layer_excess_pu: float  # the whole layer, re-linearised at AC states
    layer_certified: bool


def deep_sag(
    load: float = 1.25, proposed: tuple[float, float] = (-0.1, 0.1), n_item: int = 64, seed: int = 0
) -> DeepSag:
    """Return the effect of three margins on ieee33 at `load` times its nominal demand.

    Batteries of 0.6 MW are at nine buses. The band is 0.90..1.05, so that the far end sags below
    it. Proposals are random powers between the two shares of p_max, positive charging. The derived
    margin is enough while batteries move little or raise the voltage. It is not enough while they
    charge: charging adds losses that the idle feeder does not have.
    """
    network = load_network("ieee33")
    network = network.with_changes(
        v_min=np.full(network.n_bus, 0.90), v_max=np.full(network.n_bus, 1.05)
    )
    batteries = Batteries.at(
        network, ["6", "9", "12", "15", "18", "25", "28", "30", "33"], 0.6, 3.0
    )
    rng = np.random.default_rng(seed)
    scale = load * rng.uniform(0.95, 1.0, (n_item, network.n_bus))
    p, q = scale * network.p_load, scale * network.q_load
    v = np.abs(solve_power_flow(network, p, q).voltage)
    layer = SafetyLayer(network, batteries)
    m = layer.matrices
    state = VoltageState(
        p, q, v, np.full((n_item, len(batteries)), 0.5), np.zeros(n_item, dtype=np.int64)
    )
    proposal = rng.uniform(*proposed, (n_item, len(batteries)))
    one = np.ones_like(proposal)
    lossless = m.lossless(p, q)
    low = (np.sqrt(m.w_low) + PUBLISHED_MARGIN_PU) ** 2 - lossless
    high = (np.sqrt(m.w_high) - PUBLISHED_MARGIN_PU) ** 2 - lossless
    published = project(proposal, -one, one, m.columns, low, high, 0.5 * m.rho).a
    derived, _ = layer.project_batch(state, proposal * batteries.p_max)
    safe = layer.correct(state, proposal * batteries.p_max)
    return DeepSag(
        float(v[:, m.bus].min()),
        float(np.abs(np.sqrt(lossless) - v[:, m.bus]).max()),
        _worst_excess(network, batteries, state, published * batteries.p_max),
        _worst_excess(network, batteries, state, derived),
        _worst_excess(network, batteries, state, safe.p),
        bool(safe.certified.all()),
    )


def sag_table() -> Table:
    """Return the table of `deep_sag` over loads and proposals."""
    title = (
        "ieee33 at deep sag, band from 0.90: worst pu outside it by AC flow (below "
        f"{SAFE_TOLERANCE_PU:g} is safe)"
    )
    headings = (
        "load",
        "idle v_min",
        "LinDistFlow errs",
        "proposals",
        "published 0.002",
        "derived margin",
        "whole layer",
        "certified",
    )
    table = Table(*headings, title=title)
    for load in SAG_LOADS:
        for name, shares in SAG_PROPOSALS.items():
            sag = deep_sag(load, shares)
            excess = (sag.published_excess_pu, sag.derived_excess_pu, sag.layer_excess_pu)
            table.add_row(
                f"{load:g}",
                f"{sag.idle_lowest_pu:.4f}",
                f"{sag.lindistflow_error_pu:.4f}",
                f"{name} {shares[0]:g}..{shares[1]:g}",
                *(f"{value:+.6f}" for value in excess),
                "yes" if sag.layer_certified else "NO",
            )
    return table


def _worst_excess(
    network: Network, batteries: Batteries, state: VoltageState, power: FloatArray
) -> float:
    drawn = state.p_net.copy()
    for k, bus in enumerate(batteries.bus.tolist()):
        drawn[:, bus] += power[:, k]
    return float(
        band_excess(network, np.abs(solve_power_flow(network, drawn, state.q_net).voltage)).max()
    )
