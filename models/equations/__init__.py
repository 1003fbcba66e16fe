"""Each network and battery law once, as Pyomo constraints; the problems made of them lie above.

periods               steps, generators, substations, injections: what every OPF has
ac, ac_voltages       AC flow of branches and buses; voltages in polar form or as a cone
distflow              DistFlow, exact, as a cone, or linear
switched_distflow     DistFlow on branches that can be switched
lossless              the flow of a radial feeder without losses, as arrays
branch_limits         current, apparent power and angle limits
radiality             who is energised, and that the energised buses form trees
feeding_direction     which way each branch of a radial feeder feeds
shedding              which demand is shed
battery               state of charge and power of batteries
"""
