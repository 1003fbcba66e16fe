"""The law of shedding: what a load that is partly shed still draws, and what dark buses draw.

Per bus, with the demand p, q, the shed active power s <= p and its fraction f = s / p:

    (1)  a bus can shed where p > 0; reactive demand without active demand is no load to shed
    (2)  it draws p - s = p (1 - f), and q (p - s) / p = q (1 - f): the power factor stays

A generator may be curtailed by any fraction c of its output g: it then feeds in g (1 - c).

Nothing must be fed. A switch state may leave any part dark, whether a path could feed it or not: a
tie stays open, or a line is opened and nothing closed.

    (3)  a dark bus sheds its whole load, and its generators trip: it draws nothing. Its branches
         and shunts draw nothing either, and no limit holds there
    (4)  the cost (1) of `rules.py`, and nothing else, tells whether that is worth it

Often few of these states can be the cheapest. Take a part that an opened line made dark. Close the
line again, with every load there shed and every generator off: one operation less, the same shed,
and no voltage or current moves if the part then draws nothing. So where `draws_nothing_empty`, the
cheapest decision opens no line for the dark. It leaves dark only whole parts that the fault itself
cut off.

These functions are used by the Pyomo models, by the judge and inside the compiled kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba.extending import register_jitable

from feederguard.models.load_transfer.setting import Setting, voltage_band
from feederguard.models.network import Network

if TYPE_CHECKING:
    from feederguard.models.load_transfer.scenario import Scenarios


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
    p_load: float, q_load: float, p_gen: float, fraction: float, curtail: float
) -> tuple[float, float]:
    """Return the net active and reactive demand of one bus, for kernels, per unit.

    p_gen: local generation; fraction, curtail: of the load shed and of the generation curtailed.
    """
    share = kept_share(p_load, fraction)
    return p_load * share - p_gen * kept(1.0, 1.0, curtail), q_load * share


def draws_nothing_empty(network: Network, scenario: Scenarios, setting: Setting) -> bool:
    """Return whether any part of the network, all shed, draws nothing and breaks no limit.

    That is so without shunts, taps and reactive demand that nobody can shed, where one band of
    voltages holds at every bus, the substations included.
    """
    at_buses, at_from = (network.g_shunt, network.b_shunt), (network.g_from, network.b_from)
    shunts = (*at_buses, *at_from, network.g_to, network.b_to)
    alone = ~can_shed(scenario.p_load) & ((scenario.q_load != 0) | (scenario.p_load != 0))
    source = np.abs(network.v_substation)
    others = np.delete(np.arange(network.n_bus), network.substation)
    band = voltage_band(network, setting)
    low, high = band.low[others], band.high[others]
    one_band = np.ptp(low) == 0 and np.ptp(high) == 0
    inside = (low.max() <= source).all() and (source <= high.min()).all()
    return bool(
        not any(values.any() for values in shunts)
        and (network.tap == 1).all()
        and not alone.any()
        and one_band
        and inside
    )
