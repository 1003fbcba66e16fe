"""The rules of the house: sizes, names, imports and docstrings that keep the code readable.

As a program it lists what breaks a rule below the given paths:

    python tests/test_house.py models/network
"""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
CODE = ("models", "data", "agents", "baselines", "studies")
FILES_PER_FOLDER = 12
LINES_PER_FILE = 500
LINES_PER_FUNCTION = 60
PARAMETERS = 8
WIDTH = 100
README_LINES, README_WORDS = 130, 1000

Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_files() -> list[Path]:
    """Return the files of the five code folders, relative to the root."""
    return sorted(file.relative_to(ROOT) for top in CODE for file in (ROOT / top).rglob("*.py"))


def all_files() -> list[Path]:
    """Return every Python file of the project, relative to the root."""
    others = [
        file.relative_to(ROOT) for top in ("tests", "docs") for file in (ROOT / top).rglob("*.py")
    ]
    return sorted([*code_files(), *others, Path("run.py")])


def tree(file: Path) -> ast.Module:
    """Return the parsed file."""
    return ast.parse((ROOT / file).read_text())


def functions(file: Path) -> Iterator[tuple[str, Function]]:
    """Yield every function of the file with the place to name it by."""
    for node in ast.walk(tree(file)):
        if isinstance(node, Function):
            yield f"{file}:{node.lineno} {node.name}", node


def full_folders() -> list[str]:
    folders: dict[Path, int] = {}
    for file in code_files():
        if file.name != "__init__.py":
            folders[file.parent] = folders.get(file.parent, 0) + 1
    return [f"{folder}: {n} files" for folder, n in folders.items() if n > FILES_PER_FOLDER]


def long_files() -> list[str]:
    sizes = {file: len((ROOT / file).read_text().splitlines()) for file in all_files()}
    return [f"{file}: {n} lines" for file, n in sizes.items() if n > LINES_PER_FILE]


def long_functions() -> list[str]:
    found = []
    for file in all_files():
        for place, node in functions(file):
            n = (node.end_lineno or 0) - node.lineno + 1
            if n > LINES_PER_FUNCTION:
                found.append(f"{place}: {n} lines")
    return found


def many_parameters() -> list[str]:
    found = []
    for file in all_files():
        for place, node in functions(file):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            n = len([argument for argument in every if argument.arg not in ("self", "cls")])
            if n > PARAMETERS:
                found.append(f"{place}: {n} parameters")
    return found


def wide_lines() -> list[str]:
    found = []
    for file in all_files():
        tables = number_tables(file)
        for number, line in enumerate((ROOT / file).read_text().splitlines(), 1):
            if len(line) > WIDTH and number not in tables:
                found.append(f"{file}:{number}: {len(line)} characters")
    return found


def unformatted() -> list[str]:
    """Return where the formatter is switched off for something that is no table of numbers."""
    found = []
    for file in all_files():
        tables = number_tables(file)
        with (ROOT / file).open("rb") as source:
            for token in tokenize.tokenize(source.readline):
                skipped = token.type == tokenize.COMMENT and re.match(
                    r"# fmt: (skip|off)", token.string
                )
                if skipped and token.start[0] not in tables:
                    found.append(f"{file}:{token.start[0]}: {token.string}")
    return found


def number_tables(file: Path) -> set[int]:
    """Return the lines of statements that are mostly numbers, eight of them or more."""
    lines: set[int] = set()
    for node in ast.walk(tree(file)):
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Return | ast.Expr):
            continue
        constants = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
        numbers = [value for value in constants if isinstance(value, int | float)]
        names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
        if len(numbers) >= 8 and len(numbers) >= len(constants) - len(numbers) + len(names):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def without_docstring() -> list[str]:
    found = []
    for file in code_files():
        module = tree(file)
        if not ast.get_docstring(module):
            found.append(f"{file}: the module")
        for node in module.body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                parts = [node, *(public_methods(node) if isinstance(node, ast.ClassDef) else [])]
                found += [
                    f"{file}:{part.lineno} {part.name}"
                    for part in parts
                    if not ast.get_docstring(part)
                ]
    return found


def public_methods(node: ast.ClassDef) -> list[Function]:
    """Return the public methods of more than one statement; shorter ones need no docstring."""
    methods = [
        part for part in node.body if isinstance(part, Function) and not part.name.startswith("_")
    ]
    return [method for method in methods if len(method.body) > 1]


def import_circles() -> list[str]:
    """Return circles of files that import each other, imports inside functions counted."""
    modules = {module_name(file): file for file in code_files()}
    graph = nx.DiGraph()
    for name, file in modules.items():
        graph.add_edges_from((name, other) for other in imported(file, modules) if other != name)
    return [
        " -> ".join(sorted(part))
        for part in nx.strongly_connected_components(graph)
        if len(part) > 1
    ]


def imported(file: Path, modules: dict[str, Path]) -> set[str]:
    """Return which of our modules the file imports anywhere, but for type checkers alone."""
    module = tree(file)
    skipped = {
        id(part)
        for node in ast.walk(module)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(module):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in modules}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found |= {
                    name
                    for name in (whole if whole in modules else node.module,)
                    if name in modules
                }
    return found


def module_name(file: Path) -> str:
    parts = ("feederguard", *file.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def untested_files() -> list[str]:
    """Return code files without a test file of their name, and not named by a test beside it."""
    found = []
    for file in code_files():
        if (
            file.name == "__init__.py"
            or (ROOT / "tests" / file.parent / f"test_{file.name}").exists()
        ):
            continue
        tests = (ROOT / "tests" / file.parent).glob("test_*.py")
        if not any(
            re.search(rf"\b{file.name}\b", ast.get_docstring(tree(test)) or "") for test in tests
        ):
            found.append(f"{file}: no tests/{file.parent}/test_{file.name}")
    return found


RULES = {
    f"folders of at most {FILES_PER_FOLDER} code files": full_folders,
    f"files of at most {LINES_PER_FILE} lines": long_files,
    f"functions of at most {LINES_PER_FUNCTION} lines": long_functions,
    f"functions of at most {PARAMETERS} parameters": many_parameters,
    f"lines of at most {WIDTH} characters outside tables of numbers": wide_lines,
    "the formatter switched off for tables of numbers alone": unformatted,
    "public things with a docstring": without_docstring,
    "no circle of imports": import_circles,
    "a test for every file": untested_files,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds(rule: str) -> None:
    assert RULES[rule]() == [], rule


def test_the_readme_is_one_screen() -> None:
    text = (ROOT / "README.md").read_text()

    assert len(text.splitlines()) <= README_LINES and len(text.split()) <= README_WORDS


if __name__ == "__main__":
    below = tuple(sys.argv[1:]) or ("",)
    for rule, broken in RULES.items():
        for line in broken():
            if (
                line.startswith(below)
                or " -> " in line
                or "tests/" in line
                and line.startswith(below)
            ):
                print(f"{line}    [{rule}]")
