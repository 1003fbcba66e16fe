"""Random walks over radial switch states by estimated cost, for the search to start from."""
