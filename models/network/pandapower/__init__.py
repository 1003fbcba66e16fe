"""pandapower nets in and out: `read` reads one, `write` writes one.

Both directions keep the flow: the voltages of a `Network` are those of `pandapower.runpp(net,
calculate_voltage_angles=True)` on its net, with the T model of transformers that is its default.
"""
