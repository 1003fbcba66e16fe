"""Falls of voltage along a chain that is open somewhere, and their tangents.

Lumps k = 1, 2, ... follow each other; R_k, X_k are 2 r, 2 x summed up to lump k, and d_k, e_k what
it draws, between its load less all sheds and its load. The bus of lump K lies lower than its node
by at least

    (1)  sum of min(R_k, R_K) d_k + min(X_k, X_K) e_k + losses

Where the chain is open beyond lump n, wherever that is, all k > n draw nothing, and the fall at n
is for any K at least

    (2)  R_K sum d_k + X_K sum e_k - sum over k < K of ((R_K - R_k) load_k + (X_K - X_k) load_k)
         - sum over k > K of ((R_k - R_K) below_k + (X_k - X_K) below_k)

as d_k <= load_k before K and d_k >= -below_k after it. Where loads only consume, the losses of the
stub are at least those with the nearest lumps drawing all of sum d_k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feederguard.models.arrays import FloatArray
from feederguard.models.bounds.chains import Lump, Sheds, add_sheds, sum_of


@dataclass(frozen=True)
class WorstFall:
    """The fall to one lump with nothing flowing on, what it grows by, and coefficients of sheds."""

    fall: float
    slopes: tuple[float, float]  # with P and Q that flow on behind the chain
    sheds: Sheds


@dataclass(frozen=True)
class StubTangent:
    """A fall of at least slopes times P and Q that the stub draws, less a constant."""

    slopes: tuple[float, float]
    constant: float


def worst_fall(lumps: list[Lump], path: FloatArray) -> WorstFall:
    """Return (1) of the lump that lies lowest with nothing shed.

    path: (3, n) of each branch from the node: R, X, and the weight of P^2 + Q^2 in the fall.
    """
    best = WorstFall(0.0, (0.0, 0.0), {})
    behind = [sum_of(lumps[m:]) for m in range(len(lumps))]
    for k, lump in enumerate(lumps):
        fall, sheds = lump.fall, dict(lump.fall_sheds)
        for at, other in enumerate(lumps):
            nearer = min(at, k)
            part, coefficients = other.load.along(float(path[0, nearer]), float(path[1, nearer]))
            fall, sheds = fall + part, add_sheds(sheds, coefficients)
        for m in range(k + 1):
            weight, p, q = float(path[2, m]), max(behind[m].p, 0.0), max(behind[m].q, 0.0)
            part, coefficients = behind[m].along(2 * weight * p, 2 * weight * q)
            fall += part - weight * (p * p + q * q)
            sheds = add_sheds(sheds, coefficients)
        if k == 0 or fall > best.fall:
            best = WorstFall(fall, (float(path[0, k]), float(path[1, k])), sheds)
    return best


def moved_stub(lumps: list[Lump], path: FloatArray) -> list[StubTangent]:
    """Return tangents of the fall at the last lump that a stub feeds, (2) with losses by P alone.

    path: as of `worst_fall`. The first tangent is zero.
    """
    tangents = [StubTangent((0.0, 0.0), 0.0)]
    r, x, weights = path
    consume = all(lump.below == (0.0, 0.0) for lump in lumps)
    before = np.cumsum([0.0, *(lump.load.p for lump in lumps)])
    for n in range(len(lumps)):
        constant = 0.0
        for k, lump in enumerate(lumps):
            p, q = (lump.load.p, lump.load.q) if k < n else lump.below
            constant += abs(float(r[n] - r[k])) * p + abs(float(x[n] - x[k])) * q
        slope = float(r[n])
        if consume:
            # In the middle of what lump n draws.
            passed = np.maximum(0.5 * (before[n] + before[n + 1]) - before[: n + 1], 0.0)
            slope += float((2 * weights[: n + 1] * passed).sum())
            square = float((weights[: n + 1] * passed**2).sum())
            constant += float((2 * weights[: n + 1] * passed * before[: n + 1]).sum()) + square
        tangents.append(StubTangent((slope, float(x[n])), constant))
    return tangents
