"""The laws, each written once, as Pyomo constraints; none of these files states a problem."""
