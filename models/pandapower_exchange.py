"""pandapower nets in and out: `network_from_pandapower` reads one, `network_to_pandapower` writes one.

Both directions keep the flow: the voltages of a `Network` are those of
`pandapower.runpp(net, calculate_voltage_angles=True)` on its net, with the T model of transformers that is its
default.
"""

from __future__ import annotations

from feederguard.models.pandapower_export import network_to_pandapower
from feederguard.models.pandapower_import import network_from_pandapower

__all__ = ["network_from_pandapower", "network_to_pandapower"]
