"""Optimal power flow by every model and solver here, with its check."""

from feederguard.baselines.opf.methods import (
    OPF_METHODS,
    OpfMethod,
    OpfResult,
    opf_method,
    solve_opf,
)

__all__ = ["OPF_METHODS", "OpfMethod", "OpfResult", "opf_method", "solve_opf"]
