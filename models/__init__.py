"""Physics and algebra: feeders, AC power flow, Pyomo models, their compiled forms, and the judge."""
