"""Machine code that numba has cached is thrown away when a file that it inlines has changed.

numba notices a change in the file of a cached kernel alone. So a file with cached kernels carries
`STAMP`, a hash of the kernel files that it imports: a new stamp changes the file. As a program this
writes the stamps:  python tests/test_kernel_stamps.py
"""

import ast
import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("models", "agents", "baselines", "data", "studies")
COMPILED = re.compile(r"^@(njit|inner|register_jitable)\b", re.MULTILINE)
CACHED = re.compile(r"^@njit\(.*\bcache=True", re.MULTILINE)
STAMP = re.compile(r'^STAMP = "(.*)"$', re.MULTILINE)
PLACEHOLDER = 'STAMP = ""'


def kernel_files() -> list[str]:
    """Return the files, relative to the root, that hold a compiled function."""
    files = (file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")))
    return [str(file.relative_to(ROOT)) for file in files if COMPILED.search(file.read_text())]


def imported(file: str) -> set[str]:
    """Return the files of the project from which the compiled functions of this one take names."""
    tree = ast.parse((ROOT / file).read_text())
    kernels = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(COMPILED.match(f"@{ast.unparse(decorator)}") for decorator in node.decorator_list)
    ]
    used = {
        node.id for kernel in kernels for node in ast.walk(kernel) if isinstance(node, ast.Name)
    }
    found = set()
    for node in ast.walk(tree):
        module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if module.startswith("feederguard.") and used & {alias.name for alias in node.names}:
            found.add("/".join(module.split(".")[1:]) + ".py")
    return found


def inlined(file: str) -> list[str]:
    """Return the kernel files that this one imports, directly or through other kernel files."""
    known, found, left = set(kernel_files()), set(), [file]
    while left:
        new = (imported(left.pop()) & known) - found - {file}
        found |= new
        left += new
    return sorted(found)


def stamp(file: str) -> str:
    """Return the hash of the files that `file` inlines, their own stamps left out."""
    texts = [STAMP.sub(PLACEHOLDER, (ROOT / name).read_text()) for name in inlined(file)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def stamped_files() -> list[str]:
    """Return the files with cached kernels that inline kernels of other files."""
    return [
        file
        for file in kernel_files()
        if CACHED.search((ROOT / file).read_text()) and inlined(file)
    ]


@pytest.mark.parametrize("file", stamped_files())
def test_a_cached_kernel_carries_the_stamp_of_what_it_inlines(file: str) -> None:
    text = (ROOT / file).read_text()
    written = STAMP.search(text)
    line = text[: written.start()].count("\n") + 1 if written else "after the imports"
    assert written and written.group(1) == stamp(file), (
        f'{file}:{line} must read\nSTAMP = "{stamp(file)}"\nsince one of {inlined(file)} has '
        "changed; python tests/test_kernel_stamps.py writes it"
    )


def test_the_power_flow_inlines_its_subtrees() -> None:
    assert "models/power_flow/subtree.py" in inlined("models/power_flow/newton_sweep.py")
    assert "models/power_flow/loops.py" in inlined("models/load_transfer/shedding_sweep.py")
    assert "models/power_flow/dense.py" in inlined("models/power_flow/newton_sweep.py")


if __name__ == "__main__":
    for name in stamped_files():
        path = ROOT / name
        before = path.read_text()
        if not STAMP.search(before):
            print(f"{name}: write {PLACEHOLDER} after the imports first")
            continue
        after = STAMP.sub(f'STAMP = "{stamp(name)}"', before)
        if after != before:
            path.write_text(after)
            print(f"{name}: new stamp")
