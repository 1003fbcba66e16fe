"""The law of shedding: what a load that is partly shed still draws.

Per bus, with the demand p, q, the shed active power s <= p and its fraction f = s / p:

    (1)  a bus can shed where p > 0; reactive demand without active demand is no load to shed
    (2)  it draws p - s = p (1 - f), and q (p - s) / p = q (1 - f): the power factor stays

These functions are used by the Pyomo models, by the judge and inside the compiled kernels.
"""

from __future__ import annotations

from typing import Any

from numba.extending import register_jitable


@register_jitable
def can_shed(p_load: Any) -> Any:
    """Return whether a bus of this active demand can shed (1); a number or an array."""
    return p_load > 0


@register_jitable
def kept(whole: Any, sheds: Any, shed: Any) -> Any:
    """Return what stays of (2): of a power p where s is shed, or of 1 where the fraction f is.

    sheds: 1 or True where the bus can shed, else 0. Numbers, arrays or Pyomo expressions, which
    take no True.
    """
    return whole - sheds * shed


@register_jitable
def kept_share(p_load: float, fraction: float) -> float:
    """Return what stays of 1 at one bus, for kernels, which work bus by bus."""
    return kept(1.0, 1.0, fraction) if can_shed(p_load) else 1.0


@register_jitable
def net_after_shedding(
    p_load: float, q_load: float, p_gen: float, fraction: float
) -> tuple[float, float]:
    """Return the net active and reactive demand of one bus, for kernels, per unit.

    p_gen: local generation.
    """
    share = kept_share(p_load, fraction)
    return p_load * share - p_gen, q_load * share
