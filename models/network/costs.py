"""Convex piecewise linear costs of generators, as lines of which the greatest counts.

A cost given by points (P_k, f_k) in MW and $/h, convex, is at every P

    (1)  f(P) = max over k of a_k P + b_k,   a_k = (f_{k+1} - f_k) / (P_{k+1} - P_k)

so outside the points the first and the last line go on, as in MATPOWER. `Network.gen_cost_lines`
has a row per line: the generator, a in $/MWh, b in $/h. It comes on top of `gen_cost`.
"""

from __future__ import annotations

import numpy as np

from feederguard.models.arrays import FloatArray
from feederguard.models.network.fields import NetworkFields


def lines_of(p_mw: FloatArray, cost_per_h: FloatArray) -> FloatArray:
    """Return a and b of each line of (1), (n_point - 1, 2); neighbours of equal slope are one.

    Raises ValueError that says what is wrong with the points, for the end of a sentence.
    """
    if len(p_mw) < 2 or not (np.isfinite(p_mw).all() and np.isfinite(cost_per_h).all()):
        raise ValueError("has fewer than two points, or a point that is not finite")
    width = np.diff(p_mw)
    if not (width > 0).all():
        raise ValueError("has points that do not go up in power")
    slope = np.diff(cost_per_h) / width
    scale = 1e-9 * max(1.0, float(np.abs(slope).max()))
    if (np.diff(slope) < -scale).any():
        raise ValueError("is not convex: its slope falls")
    own = np.concatenate([[True], np.diff(slope) > scale])
    lines = np.stack([slope, cost_per_h[:-1] - slope * p_mw[:-1]], axis=1)
    return np.asarray(lines[own])


def cost_per_h(network: NetworkFields, p_mw: FloatArray) -> FloatArray:
    """Return what each generator costs in $/h, (T, n_gen), for its output in MW, (T, n_gen).

    NaN where the costs of the file could not be read (`Network.cost_error`).
    """
    if network.cost_error:
        return np.full_like(p_mw, np.nan)
    c2, c1, c0 = network.gen_cost.T
    cost = c2 * p_mw**2 + c1 * p_mw + c0
    for g, lines in lines_by_generator(network).items():
        cost[:, g] += (p_mw[:, [g]] * lines[:, 0] + lines[:, 1]).max(axis=1)
    return np.asarray(cost)


def lines_by_generator(network: NetworkFields) -> dict[int, FloatArray]:
    """Return a and b of the lines of each generator that has some, (n_line, 2)."""
    of = network.gen_cost_lines[:, 0].astype(int)
    return {g: network.gen_cost_lines[of == g, 1:] for g in dict.fromkeys(of.tolist())}
