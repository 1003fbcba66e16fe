"""The language of MATPOWER case files, carried out.

A case file is a small program. The distribution cases write ohms, kW or kVA into their matrices and
convert them to per unit and MW in the statements below. A reader that only copies the matrices is
wrong by orders of magnitude. This one carries out what such files are made of: matrices, cells of
names, arithmetic, column names from idx_bus, idx_brch, idx_gen and idx_cost, row and column
indexing, find, any, all, sum, and if. Every other statement raises. It knows nothing of networks.

Source of the format and of the meaning of each column: MATPOWER 8.1, caseformat.m and idx_*.m.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feederguard.models.arrays import FloatArray, IntArray
from feederguard.models.network.fields import NetworkError

# What the idx_* functions of MATPOWER return, in the order in which they return it.
_IDX_TABLE = {
    "idx_bus": (
        "PQ=1 PV=2 REF=3 NONE=4 BUS_I=1 BUS_TYPE=2 PD=3 QD=4 GS=5 BS=6 BUS_AREA=7 VM=8 VA=9 "
        "BASE_KV=10 ZONE=11 VMAX=12 VMIN=13 LAM_P=14 LAM_Q=15 MU_VMAX=16 MU_VMIN=17"
    ),
    "idx_brch": (
        "F_BUS=1 T_BUS=2 BR_R=3 BR_X=4 BR_B=5 RATE_A=6 RATE_B=7 RATE_C=8 TAP=9 SHIFT=10 "
        "BR_STATUS=11 PF=14 QF=15 PT=16 QT=17 MU_SF=18 MU_ST=19 ANGMIN=12 ANGMAX=13 "
        "MU_ANGMIN=20 MU_ANGMAX=21"
    ),
    "idx_gen": (
        "GEN_BUS=1 PG=2 QG=3 QMAX=4 QMIN=5 VG=6 MBASE=7 GEN_STATUS=8 PMAX=9 PMIN=10 "
        "MU_PMAX=22 MU_PMIN=23 MU_QMAX=24 MU_QMIN=25 PC1=11 PC2=12 QC1MIN=13 QC1MAX=14 "
        "QC2MIN=15 QC2MAX=16 RAMP_AGC=17 RAMP_10=18 RAMP_30=19 RAMP_Q=20 APF=21"
    ),
    "idx_cost": "PW_LINEAR=1 POLYNOMIAL=2 MODEL=1 STARTUP=2 SHUTDOWN=3 NCOST=4 COST=5",
}
_IDX = {
    function: {name: int(number) for name, number in (pair.split("=") for pair in table.split())}
    for function, table in _IDX_TABLE.items()
}
COLUMN = {name: number for names in _IDX.values() for name, number in names.items()}

Value = Any  # a 2-D array (numbers are 1 x 1, as in MATLAB), a str, or a list of these for a cell
Variables = dict[str, Value]


class _NotUnderstood(ValueError):
    """Why a statement cannot be interpreted; `offset` counts the lines from its first one."""

    def __init__(self, reason: str, offset: int = 0) -> None:
        super().__init__(reason)
        self.offset = offset


_NAME = r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)*"
_QUOTED = r"'(?:[^'\n]|'')*'|\"(?:[^\"\n]|\"\")*\""
# A quote after an operand transposes; anywhere else it opens a string.
_MARK = re.compile(rf"(?<![\w)\]}}'.])(?:{_QUOTED})|%.*|\.\.\..*|[\[\](){{}};,]")
_TOKEN = re.compile(
    rf"(?:\d+(?:\.(?![*/^'])\d*)?|\.\d+)(?:[eE][+-]?\d+)?|{_NAME}|"
    r"\.\*|\./|\.\^|[=~<>]=|&&|\|\||[-+*/^<>&|~(),;:\[\]{}=']"
)
_STRING = re.compile(_QUOTED)
_STARTS_OPERAND = re.compile(r"[\w.(\[{'\"]|~(?!=)|[-+](?=[\w.(\[])")
_HEADER = re.compile(r"function\s+(\w+)\s*=\s*\w+\s*(?:\(\s*\))?")
_OUTPUTS = re.compile(r"\[([\w\s,~]*)\]\s*=\s*(\w+)")
_PLAIN_MATRIX = re.compile(rf"({_NAME})\s*=\s*\[([^\[\]'\"]*)\]")
_OPENS_BLOCK = re.compile(r"(if|for|while|switch|try|parfor)\b(.*)", re.DOTALL)
_LEVEL = {
    "||": 1,
    "&&": 2,
    "|": 3,
    "&": 4,
    "<": 5,
    "<=": 5,
    ">": 5,
    ">=": 5,
    "==": 5,
    "~=": 5,
    "+": 6,
    "-": 6,
    "*": 7,
    "/": 7,
    ".*": 7,
    "./": 7,
    "^": 9,
    ".^": 9,
}
_UNARY_LEVEL = 8
_OPERATION: dict[str, Callable[..., Any]] = {
    "||": np.logical_or,
    "|": np.logical_or,
    "&&": np.logical_and,
    "&": np.logical_and,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "~=": np.not_equal,
    "+": np.add,
    "-": np.subtract,
    ".*": np.multiply,
    "./": np.divide,
    ".^": np.power,
}
_CONSTANT = {"pi": np.pi, "Inf": np.inf, "inf": np.inf, "NaN": np.nan, "nan": np.nan}
_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "sqrt": np.sqrt,
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "isinf": np.isinf,
    "isnan": np.isnan,
}
_ALONG_COLUMNS: dict[str, Callable[..., Any]] = {"any": np.any, "all": np.all, "sum": np.sum}


def column(matrix: FloatArray, name: str) -> FloatArray:
    """Return the column that MATPOWER calls `name`, such as PD of mpc.bus."""
    return matrix[:, COLUMN[name] - 1]


def run_case_file(path: Path, text: str) -> Variables:
    """Return the fields of the struct that the file's function returns."""
    struct: str | None = None
    variables = Variables()
    blocks: list[bool] = []  # for each open if: are its statements carried out?
    for line, statement in _statements(path, text):
        try:
            opens = _OPENS_BLOCK.fullmatch(statement)
            if opens and (opens[1] == "if" or not all(blocks)):
                blocks.append(all(blocks) and _is_true(_evaluate(opens[2], variables)))
            elif statement == "end" and blocks:
                blocks.pop()
            elif statement == "else" and blocks and all(blocks[:-1]):
                blocks[-1] = not blocks[-1]
            elif statement.startswith("elseif") and all(blocks[:-1]):
                raise _NotUnderstood("elseif is not read")
            elif not all(blocks) or statement == "end":
                continue
            elif statement == "return":
                break
            elif struct is None and (header := _HEADER.fullmatch(statement)):
                struct = header[1]
            elif statement.startswith("function"):
                raise _NotUnderstood(
                    "one function that returns one struct is read, format version 2"
                )
            else:
                _execute(statement, variables)
        except (ValueError, ArithmeticError, IndexError) as reason:
            place = f"{path}, line {line + getattr(reason, 'offset', 0)}"
            raise NetworkError(
                f"{place}: cannot interpret {' '.join(statement.split())[:80]!r}: {reason}; use "
                "plain "
                "matrices, column names and arithmetic, or let MATPOWER's savecase write the case "
                "out"
            ) from None
    else:
        if blocks:
            raise NetworkError(f"{path}: an if is never ended; add its end")
    prefix = f"{struct or 'mpc'}."
    return {
        name[len(prefix) :]: value for name, value in variables.items() if name.startswith(prefix)
    }


def _statements(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement without its comments, with the number of the line on which it begins."""
    parts: list[str] = []
    depth, first, in_comment = 0, 1, False
    for number, line in enumerate(text.replace("\r", "").split("\n"), start=1):
        if line.strip() in ("%{", "%}"):
            in_comment = line.strip() == "%{"
        if in_comment:
            continue
        first = first if parts else number
        start, stop, ending = 0, len(line), "\n"
        for mark in _MARK.finditer(line):
            token = mark[0]
            if token[0] == "%" or token[:3] == "...":
                stop, ending = mark.start(), "\n" if token[0] == "%" else " "
                break
            depth += (token in "([{") - (token in ")]}")
            if depth == 0 and token in ";,":
                if statement := "".join([*parts, line[start : mark.start()]]).strip():
                    yield first, statement
                parts, start, first = [], mark.end(), number
        parts.append(line[start:stop] + ending)
        if depth <= 0 and ending == "\n":
            if statement := "".join(parts).strip():
                yield first, statement
            parts = []
    if parts:
        raise NetworkError(
            f"{path}, line {first}: the statement begun here never ends; close its bracket"
        )


def _execute(statement: str, variables: Variables) -> None:
    """Carry out one assignment."""
    if outputs := _OUTPUTS.fullmatch(statement):
        names = outputs[1].replace(",", " ").split()
        if len(names) > len(_IDX.get(outputs[2], ())):
            raise _NotUnderstood(f"{outputs[2]} does not return {len(names)} values")
        variables.update(zip(names, map(_scalar, _IDX[outputs[2]].values()), strict=False))
    elif statement == "define_constants":
        variables.update({name: _scalar(number) for name, number in COLUMN.items()})
    elif matrix := _PLAIN_MATRIX.fullmatch(statement):
        variables[matrix[1]] = _plain_matrix(matrix[2], variables)
    else:
        tokens = _tokens(statement)
        if "=" not in tokens or not re.fullmatch(_NAME, tokens[0]):
            raise _NotUnderstood("it is not an assignment to a name")
        equals = tokens.index("=")
        name, value = tokens[0], _Expression(tokens[equals + 1 :], variables).whole()
        if equals > 1:
            target = _Expression(tokens[1:equals], variables)
            value = _with_replaced(variables.get(name), target.whole(subscripts=True), value)
        variables[name] = value


def _plain_matrix(body: str, variables: Variables) -> Value:
    """Return a matrix without inner brackets; rows of plain numbers are not evaluated."""
    rows: list[list[float]] = []
    for offset, line in enumerate(body.split("\n")):
        for row in line.split(";"):
            try:
                values = [float(entry) for entry in row.replace(",", " ").split()]
            except ValueError:
                values = _evaluate(f"[{row}]", variables).ravel().tolist()
            if rows and values and len(values) != len(rows[0]):
                width = len(rows[0])
                raise _NotUnderstood(
                    f"a row has {len(values)} values, those above have {width}", offset
                )
            if values:
                rows.append(values)
    return np.array(rows) if rows else np.zeros((0, 0))


def _scalar(number: float) -> Value:
    return np.full((1, 1), float(number))


def _is_true(value: Value) -> bool:
    return bool(np.size(value) and np.all(_number(value)))


def _number(value: Value) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise _NotUnderstood("text or a cell stands where a number should be")
    return value


def _evaluate(text: str, variables: Variables) -> Value:
    return _Expression(_tokens(text), variables).whole()


def _tokens(text: str) -> list[str]:
    """Split an expression into tokens.

    Inside [ ] and { } blanks between operands become commas, and line ends semicolons.
    """
    tokens: list[str] = []
    brackets: list[str] = []
    position = 0
    while position < len(text):
        begin = position
        while position < len(text) and text[position] in " \t":
            position += 1
        if position == len(text):
            break
        spaced, in_matrix = position > begin, bool(brackets) and brackets[-1] in "[{"
        after_operand = bool(tokens) and (tokens[-1][-1].isalnum() or tokens[-1][-1] in "_)]}'\".")
        if spaced and in_matrix and after_operand and _STARTS_OPERAND.match(text, position):
            tokens.append(",")
            after_operand = False
        match = (None if after_operand else _STRING.match(text, position)) or _TOKEN.match(
            text, position
        )
        if text[position] == "\n" and in_matrix:
            tokens.append(";")
        elif match is None:
            raise _NotUnderstood(f"{text[position]!r} is no MATLAB this reader knows")
        else:
            tokens.append(match[0])
            if match[0] in ("(", "[", "{"):
                brackets.append(match[0])
            elif match[0] in (")", "]", "}") and brackets:
                brackets.pop()
        position = match.end() if match else position + 1
    return tokens


class _Expression:
    """Evaluates tokens while reading them, by MATLAB's precedence of operators."""

    def __init__(self, tokens: list[str], variables: Variables) -> None:
        self.tokens, self.variables, self.at = [*tokens, "", ""], variables, 0

    def whole(self, subscripts: bool = False) -> Value:
        """Return the value of all the tokens, or the list of subscripts that they are."""
        value = self.arguments() if subscripts else self.binary(1)
        if self.tokens[self.at]:
            raise _NotUnderstood(f"{self.tokens[self.at]!r} is out of place")
        return value

    def take(self, *expected: str) -> str:
        token = self.tokens[self.at]
        if expected and token not in expected:
            raise _NotUnderstood(f"{' or '.join(expected)} expected before {token or 'its end'!r}")
        self.at += 1
        return token

    def binary(self, level: int) -> Value:
        left = self.unary()
        while _LEVEL.get(self.tokens[self.at], 0) >= level:
            operator = self.take()
            left = _apply(operator, _number(left), _number(self.binary(_LEVEL[operator] + 1)))
        return left

    def unary(self) -> Value:
        if self.tokens[self.at] not in ("-", "+", "~"):
            return self.postfix()
        sign, operand = self.take(), _number(self.binary(_UNARY_LEVEL))
        return (
            np.logical_not(operand) if sign == "~" else -1.0 * operand if sign == "-" else operand
        )

    def postfix(self) -> Value:
        token = self.take()
        if token == "(":
            value = self.binary(1)
            self.take(")")
        elif token in ("[", "{"):
            value = self.rows("]" if token == "[" else "}")
        elif token[:1] in ("'", '"') and len(token) > 1:
            value = token[1:-1].replace(token[0] * 2, token[0])
        elif token[:1].isdigit() or (token[:1] == "." and token[1:2].isdigit()):
            value = _scalar(float(token))
        else:
            value = self.named(token)
        while self.tokens[self.at] == "'":
            self.take()
            value = _number(value).T
        return value

    def named(self, name: str) -> Value:
        has_arguments = self.tokens[self.at] == "("
        if name in self.variables:
            value = self.variables[name]
            return _indexed(_number(value), self.arguments()) if has_arguments else value
        if name in _CONSTANT and not has_arguments:
            return _scalar(_CONSTANT[name])
        if has_arguments and (name in _ELEMENTWISE or name in _ALONG_COLUMNS or name == "find"):
            arguments = self.arguments()
            if len(arguments) != 1:
                raise _NotUnderstood(f"{name} takes one number or matrix here")
            return _call(name, _number(arguments[0]))
        raise _NotUnderstood(
            f"{name or 'its end'!r} is no variable, constant or function this reader knows"
        )

    def arguments(self) -> list[Value]:
        """Return what stands between parentheses; a lone colon comes back as ':'."""
        self.take("(")
        values: list[Value] = []
        while True:
            if self.tokens[self.at] == ":" and self.tokens[self.at + 1] in (",", ")"):
                values.append(self.take())
            else:
                values.append(self.binary(1))
            if self.take(",", ")") == ")":
                return values

    def rows(self, closing: str) -> Value:
        """Return a matrix, or a cell as one list."""
        rows: list[list[Value]] = [[]]
        while (token := self.tokens[self.at]) != closing:
            if token in (",", ";"):
                self.take()
                rows += [[]] if token == ";" else []
            else:
                rows[-1].append(self.binary(1))
        self.take(closing)
        if closing == "}":
            return [value for row in rows for value in row]
        blocks = [np.hstack([_number(value) for value in row]) for row in rows if row]
        return np.vstack(blocks) if blocks else np.zeros((0, 0))


def _apply(operator: str, left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    if operator in ("*", "/", "^"):
        if (
            right.size != 1
            and (operator != "*" or left.size != 1)
            or (operator == "^" and left.size != 1)
        ):
            raise _NotUnderstood(
                f"{operator} of matrices is not read; write .{operator} for element by element"
            )
        operator = f".{operator}"
    with np.errstate(
        divide="ignore", invalid="raise"
    ):  # 1/0 is Inf in MATLAB too; sqrt(-1) is complex there
        return np.asarray(_OPERATION[operator](left + 0.0, right + 0.0))


def _call(name: str, value: NDArray[Any]) -> NDArray[Any]:
    if name == "find":
        found = np.flatnonzero(value.ravel(order="F")) + 1.0
        return found.reshape((1, -1) if value.shape[0] == 1 and value.shape[1] != 1 else (-1, 1))
    if name in _ALONG_COLUMNS:
        axis = 1 if value.shape[0] == 1 else 0
        return np.asarray(_ALONG_COLUMNS[name](value + 0.0, axis=axis, keepdims=True))
    with np.errstate(divide="ignore", invalid="raise"):
        return np.asarray(_ELEMENTWISE[name](value + 0.0))  # a mask counts as zeros and ones


def _positions(subscript: Value, length: int) -> IntArray:
    """Return places from 0 for a subscript that is a colon, a mask or numbers from 1."""
    if isinstance(subscript, str) and subscript == ":":
        return np.arange(length)
    flat = _number(subscript).ravel(order="F")
    places = np.flatnonzero(flat) if flat.dtype == np.bool_ else flat - 1.0
    if not ((places >= 0) & (places < length) & (places == np.floor(places))).all():
        raise _NotUnderstood(f"a subscript is outside 1 to {length}")
    return places.astype(np.int64)


def _indexed(value: NDArray[Any], subscripts: list[Value]) -> NDArray[Any]:
    if len(subscripts) == 1:
        taken = value.ravel(order="F")[_positions(subscripts[0], value.size)]
        lies_flat = value.shape[0] == 1 and not isinstance(subscripts[0], str)
        return taken.reshape((1, -1) if lies_flat else (-1, 1))
    if len(subscripts) != 2:
        raise _NotUnderstood("a matrix has two subscripts")
    rows, columns = (_positions(s, n) for s, n in zip(subscripts, value.shape, strict=True))
    return value[np.ix_(rows, columns)]


def _with_replaced(value: Value, subscripts: list[Value], new: Value) -> NDArray[Any]:
    """Return the matrix with the named part replaced; growing or deleting rows is not read."""
    if value is None or len(subscripts) != 2:
        raise _NotUnderstood(
            "only part of a matrix that exists, by row and column, can be assigned"
        )
    changed = _number(value).copy()
    rows, columns = (_positions(s, n) for s, n in zip(subscripts, changed.shape, strict=True))
    if _number(new).size != 1 and new.shape != (rows.size, columns.size):
        found, wanted = f"{new.shape[0]} x {new.shape[1]}", f"{rows.size} x {columns.size}"
        raise _NotUnderstood(f"{found} values do not fit {wanted} places")
    changed[np.ix_(rows, columns)] = new
    return changed
