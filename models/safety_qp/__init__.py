"""The safety QP of voltage regulation: statement, matrices, and batched projection."""

from feederguard.models.safety_qp.statement import build_safety_qp

__all__ = ["build_safety_qp"]
