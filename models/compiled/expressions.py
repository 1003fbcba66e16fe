"""Pyomo expressions taken apart into numbers, linear parts and shared nonlinear terms.

Sums are opened and products by numbers pulled out; what is left of a summand is a term: a *shape*
of few variables ("slots") and numbers. An expression is walked once, by the class of its nodes,
which decides what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyomo.environ as pyo
from pyomo.core.base.expression import NamedExpressionData
from pyomo.core.expr import numeric_expr as pe
from pyomo.core.expr.numvalue import native_numeric_types

# In prefix notation: a slot's place, "p" for the next number, "sum" and its length, "power" and its
# exponent, or an operation. An exponent belongs to the shape, since the derivative of a power by
# its exponent does not exist at zero.
Shape = tuple[Any, ...]

FUNCTIONS = (
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "exp",
    "log",
    "log10",
    "sqrt",
    "abs",
)


class UnreadableExpressionError(ValueError):
    """An expression that is not read into terms; the message names model, component and kind."""


@dataclass
class Row:
    """A sum that is being read: constant, linear part, and weighted nonlinear terms."""

    constant: float = 0.0
    linear: dict[int, float] = field(default_factory=dict)  # column -> coefficient
    # term -> weight, terms counted as they are met
    terms: dict[int, float] = field(default_factory=dict)

    def add(self, other: Row, factor: float) -> None:
        """Add `factor` times another row."""
        self.constant += factor * other.constant
        for mine, theirs in ((self.linear, other.linear), (self.terms, other.terms)):
            for k, value in theirs.items():
                mine[k] = mine.get(k, 0.0) + factor * value


class TermReader:
    """Walks expressions; keeps the variables, terms and named expressions met so far."""

    def __init__(self) -> None:
        self.variables: list[Any] = []
        # term, columns, numbers
        self.members: dict[Shape, list[tuple[int, tuple[int, ...], tuple[float, ...]]]] = {}
        self.n_term = 0
        self._column: dict[int, int] = {}
        self._term: dict[tuple[Any, ...], int] = {}
        self._named: dict[int, Row] = {}

    def row(self, component: Any, expression: Any) -> Row:
        """Return the row of a component's expression.

        Raises `UnreadableExpressionError` for an expression without a shape, nested too deeply, or
        whose numbers (fixed variables, parameters) have no value or give none.
        """
        row = Row()
        try:
            self._add(expression, 1.0, row)
        except (UnreadableExpressionError, RecursionError) as error:
            what = (
                "expressions nested too deeply" if isinstance(error, RecursionError) else str(error)
            )
            raise UnreadableExpressionError(
                f"{component.model().name}: {component.name} holds {what}; write it flat, with "
                "arithmetic, powers and "
                f"{', '.join(FUNCTIONS)}"
            ) from None
        except (ArithmeticError, ValueError) as error:
            raise UnreadableExpressionError(
                f"{component.model().name}: the numbers of {component.name} give no value "
                f"({str(error).splitlines()[0]}); "
                "give every fixed variable and parameter in it a value at which it is defined"
            ) from None
        return row

    def _add(self, e: Any, factor: float, row: Row) -> None:
        """Add factor * e to the row.

        Sums are opened and products by numbers pulled out. The rest becomes terms.
        """
        kind = _KIND.get(e.__class__) or _learn(e)
        if kind == "number":
            row.constant += factor * pyo.value(e)
        elif kind == "variable":
            self._add_variable(e, factor, row)
        elif kind == "monomial":
            coefficient, variable = e.args
            self._add_variable(variable, factor * pyo.value(coefficient), row)
        elif kind == "sum":
            for part in e.args:
                self._add(part, factor, row)
        elif kind == "named":
            if id(e) not in self._named:
                own = Row()
                self._add(e.expr, 1.0, own)
                self._named[id(e)] = own
            row.add(self._named[id(e)], factor)
        elif kind == "-":
            self._add(e.args[0], -factor, row)
        elif not self._add_scaled(e, kind, factor, row):
            self._add_term(e, factor, row)

    def _add_variable(self, variable: Any, factor: float, row: Row) -> None:
        if variable.fixed:
            row.constant += factor * pyo.value(variable)
        else:
            column = self._column_of(variable)
            row.linear[column] = row.linear.get(column, 0.0) + factor

    def _add_scaled(self, e: Any, kind: str, factor: float, row: Row) -> bool:
        """Open a product or quotient by a number, and a first power; return whether it was one."""
        if kind == "*":
            left, right = e.args
            for number, rest in ((left, right), (right, left)):
                value = _number(number)
                if value is not None:
                    if value:
                        self._add(rest, factor * value, row)
                    return True
        elif kind == "/":
            value = _number(e.args[1])
            if value is not None:
                self._add(e.args[0], factor / value, row)
                return True
        elif kind == "^" and _number(e.args[1]) == 1:
            self._add(e.args[0], factor, row)
            return True
        return False

    def _add_term(self, e: Any, factor: float, row: Row) -> None:
        tokens: list[Any] = []
        slots: dict[int, int] = {}
        numbers: list[float] = []
        self._write(e, tokens, slots, numbers)
        if not slots:
            row.constant += factor * pyo.value(e)
            return
        key = (tuple(tokens), tuple(slots), tuple(numbers))
        term = self._term.setdefault(key, self.n_term)
        if term == self.n_term:
            self.n_term += 1
            self.members.setdefault(key[0], []).append((term, key[1], key[2]))
        row.terms[term] = row.terms.get(term, 0.0) + factor

    def _write(
        self, e: Any, tokens: list[Any], slots: dict[int, int], numbers: list[float]
    ) -> None:
        """Append e to a shape: its tokens, the columns of its slots and its numbers."""
        kind = _KIND.get(e.__class__) or _learn(e)
        if kind == "variable" and not e.fixed:
            tokens.append(slots.setdefault(self._column_of(e), len(slots)))
        elif kind == "number" or kind == "variable":
            tokens.append("p")
            numbers.append(float(pyo.value(e)))
        elif kind == "named":
            self._write(e.expr, tokens, slots, numbers)
        elif kind == "^" and (exponent := _number(e.args[1])) is not None:
            tokens += ("power", exponent)
            self._write(e.args[0], tokens, slots, numbers)
        else:
            args = e.args
            if kind == "sum":
                tokens += ("sum", len(args))
            elif kind == "function":
                tokens.append(_function(e))
            else:
                tokens.append("*" if kind == "monomial" else kind)
            for part in args:
                self._write(part, tokens, slots, numbers)

    def _column_of(self, variable: Any) -> int:
        column = self._column.get(id(variable))
        if column is None:
            column = self._column[id(variable)] = len(self.variables)
            self.variables.append(variable)
        return column


# What each class of expression is; filled as classes are met, since Pyomo has several for one kind.
_KIND: dict[type, str] = {}


def _learn(e: Any) -> str:
    if e.__class__ in native_numeric_types or not e.is_potentially_variable():
        kind = "number"
    elif not e.is_expression_type():
        kind = "variable"
    else:
        kind = next((kind for base, kind in _EXPRESSIONS if isinstance(e, base)), "")
    if not kind:
        raise UnreadableExpressionError(f"an expression of kind {e.__class__.__name__}")
    _KIND[e.__class__] = kind
    return kind


_EXPRESSIONS = (
    (NamedExpressionData, "named"),
    (pe.MonomialTermExpression, "monomial"),
    (pe.SumExpression, "sum"),
    (pe.ProductExpression, "*"),
    (pe.DivisionExpression, "/"),
    (pe.PowExpression, "^"),
    (pe.NegationExpression, "-"),
    (pe.UnaryFunctionExpression, "function"),
)


def _function(e: Any) -> str:
    name = str(e.getname())
    if name not in FUNCTIONS:
        raise UnreadableExpressionError(f"the function {name}")
    return "fabs" if name == "abs" else name


def _number(e: Any) -> float | None:
    """Return the value of a number, a fixed variable, a product or quotient of such, or None."""
    kind = _KIND.get(e.__class__) or _learn(e)
    if kind == "number" or (kind == "variable" and e.fixed):
        return float(pyo.value(e))
    if kind in ("*", "/", "-", "monomial") and all(_number(part) is not None for part in e.args):
        return float(pyo.value(e))
    return None
