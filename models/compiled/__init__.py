"""Pyomo models compiled to arrays: evaluated in batch, or read term by term."""

from feederguard.models.compiled.quadratic import (
    CompiledModel,
    CompileError,
    QuadraticRows,
    compile_model,
)

__all__ = ["CompileError", "CompiledModel", "QuadraticRows", "compile_model"]
