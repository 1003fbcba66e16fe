"""Active and reactive power that a radial feeder carries at least, whatever it loses.

Source of the branch equations: `equations/distflow.py`. In a tree a branch passes on P - r ell and
Q - x ell of the P, Q it takes in, and r, x >= 0. So for what flows into it at its sending end

    (1)  P >= sum of p_k + losses behind it,   Q >= sum of q_k + losses behind it

over the buses k behind it. Lower bounds P', Q' of P, Q bound the rest:

    (2)  |S| >= cos(a) P' + sin(a) Q'                    for any angle a from 0 to 90 degrees
    (3)  w_j <= w_i - 2 (r P' + x Q') - |z|^2 ell        P', Q' at the far end; w_i - w_j =
                                                         2 (r P + x Q) - |z|^2 ell, P = P_j + r ell
    (4)  ell >= 2 (P0 P' + Q0 Q') / v - (P0^2 + Q0^2) w / v^2      for any P0, Q0 >= 0 and v > 0,
                                                         a tangent of ell = (P^2 + Q^2) / w

p_k counts all generation, q_k all that shunts may supply, at the highest voltage of their bus and
connected or not. What shunts draw is left out. Of a load with q_k < 0 shedding takes no reactive
power.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.load_transfer import Scenarios
from feederguard.models.network import Network
from feederguard.models.network.pi_model import branch_admittances


@dataclass(frozen=True, eq=False)
class LeastDemand:
    """p_k and q_k of the module with nothing shed, in MW and Mvar; column 0 is p, column 1 is q."""

    load: FloatArray  # (n_bus, 2)
    per_shed: FloatArray  # (n_bus, 2) what they lose for each MW that is shed
    below: FloatArray  # (n_bus, 2) how far below zero they come with all shed
    angle: float  # of all loads together, in rad


def least_demand(
    network: Network, scenario: Scenarios, usable: BoolArray, top: FloatArray
) -> LeastDemand:
    """Return the least demand of a scenario, a batch of one.

    usable: (n_branch,) branches that may be closed; top: (n_bus,) highest squared voltages.
    """
    base = network.base_mva
    p, q, g = base * scenario.p_load[0], base * scenario.q_load[0], base * scenario.p_gen[0]
    given, supplied = (base * values for values in _shunts(network, usable, top))
    made = np.stack([g + given, supplied + np.maximum(-q, 0.0)], axis=1)
    drawn = np.stack([p, np.maximum(q, 0.0)], axis=1)
    # Reactive demand that nobody can shed goes where its bus is dark.
    drawn[p <= 0] = 0.0
    per_shed = np.divide(drawn, p[:, None], out=np.zeros_like(drawn), where=p[:, None] > 0)
    angle = float(np.arctan2(max(drawn[:, 1].sum(), 0.0), max(p.sum(), 1e-9)))
    return LeastDemand(drawn - made, per_shed, made, angle)


def _shunts(network: Network, usable: BoolArray, top: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the most active and reactive power in pu that shunts may supply at each bus."""
    y = branch_admittances(network)
    admittance = network.g_shunt + 1j * network.b_shunt
    given, supplied = np.maximum(-admittance.real, 0.0), np.maximum(admittance.imag, 0.0)
    for column, bus in enumerate((network.from_bus, network.to_bus)):
        closed, hanging = np.where(usable, y.closed[:, column], 0), y.hanging[:, column]
        np.add.at(given, bus, np.maximum(np.maximum(-closed.real, -hanging.real), 0.0))
        np.add.at(supplied, bus, np.maximum(np.maximum(closed.imag, hanging.imag), 0.0))
    return given * top, supplied * top
