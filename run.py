"""From a fresh checkout to a result.

Makes a virtual environment, installs FeederGuard into it, and runs a job there.

    python3 run.py compare [options]          the main study, studies/compare_methods.py
    python3 run.py test [options]             the test suite (pytest, a process per core)
    python3 run.py test --newest [options]    part of the suite on the newest versions admitted
    python3 run.py lock                       write requirements.txt and requirements-test.txt anew

The environment is .venv beside this file (.venv-newest for the newest versions), or the folder
given as --venv FOLDER before the job. It holds the exact versions of requirements.txt, for tests
those of requirements-test.txt, and is refreshed when one of these files or pyproject.toml changes.
Where uv is installed, it takes pip's place for them. Needs Python 3.11 or later and nothing else.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent
TORCH = "torch==2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
RUN_LOCK, TEST_LOCK = ROOT / "requirements.txt", ROOT / "requirements-test.txt"
PYTEST = ["-m", "pytest", "-n", "auto", "--dist", "loadfile"]
COMPARE = [str(ROOT / "studies" / "compare_methods.py")]


def main() -> int:
    """Run the job named on the command line and return its exit status."""
    arguments = sys.argv[1:]
    folder = None
    if arguments[:1] == ["--venv"] and len(arguments) > 1:
        folder, arguments = Path(arguments[1]).resolve(), arguments[2:]
    job, options = arguments[:1], arguments[1:]
    if sys.version_info < (3, 11):  # noqa: UP036 (this file runs before anything has checked it)
        sys.exit(f"FeederGuard needs Python 3.11 or later; this is {sys.version.split()[0]}")
    if job == ["lock"]:
        return write_locks()
    if job == ["compare"]:
        command = [prepare(folder or ROOT / ".venv", RUN_LOCK), *COMPARE, *options]
    elif job == ["test"] and "--newest" in options:
        options.remove("--newest")
        command = [
            prepare_newest(folder or ROOT / ".venv-newest"),
            *PYTEST,
            "-m",
            "newest",
            *options,
        ]
    elif job == ["test"]:
        command = [prepare(folder or ROOT / ".venv", TEST_LOCK), *PYTEST, *options]
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return subprocess.run(command, cwd=ROOT).returncode


def prepare(folder: Path, lock: Path, package: tuple[str, ...] = ("-e", str(ROOT))) -> str:
    """Make or refresh the environment in `folder`, and return the path of its Python.

    It has the versions of `lock`.

    package: what pip installs as FeederGuard, this checkout unless told otherwise.
    """
    stamp = folder / "feederguard-installed"
    # Tests need all that a run needs.
    enough = [_digest(lock), _digest(TEST_LOCK)]
    if stamp.exists() and stamp.read_text() in enough:
        return str(_python(folder))
    begin = perf_counter()
    python = _environment(folder)
    uv = shutil.which("uv")
    locked = [uv, "pip", "install", "--quiet", "--python", python] if uv else _pip(python)
    subprocess.run([*locked, "--no-deps", "--require-hashes", "-r", str(lock)], check=True)
    subprocess.run([*_pip(python), "--no-deps", *package], check=True)
    stamp.write_text(_digest(lock))
    print(f"set up in {perf_counter() - begin:.0f} s", flush=True)
    return python


def prepare_newest(folder: Path) -> str:
    """Make or refresh an environment of the newest versions that pyproject.toml admits.

    torch stays as pinned.
    """
    python = _environment(folder)
    newest = ["--upgrade", "--upgrade-strategy", "eager", TORCH, "-e", f"{ROOT}[dev]"]
    subprocess.run([*_pip(python), *newest], check=True)
    return python


def write_locks() -> int:
    """Write both files of exact versions and hashes, for every platform, by a uv of its own."""
    with tempfile.TemporaryDirectory() as name:
        venv.create(name, with_pip=True)
        python = str(_python(Path(name)))
        subprocess.run([*_pip(python), "uv"], check=True)
        torch = Path(name, "torch.txt")
        torch.write_text(TORCH)
        options = f"--universal --generate-hashes --upgrade --quiet --no-annotate -c {torch}"
        options += " --no-emit-package torch --custom-compile-command"
        compiling = [python, "-m", "uv", "pip", "compile", "pyproject.toml", *options.split()]
        run_only = [*compiling, "python3 run.py lock", "-o", RUN_LOCK.name]
        extras = ["--extra", "dev", "--extra", "docs", "-c", RUN_LOCK.name]
        everything = [*compiling, "python3 run.py lock", *extras, "-o", TEST_LOCK.name]
        for command in (run_only, everything):
            subprocess.run(command, cwd=ROOT, check=True)
    return 0


def _environment(folder: Path) -> str:
    """Make the environment in `folder` with torch, if missing; return the path of its Python."""
    python = str(_python(folder))
    print(f"setting up {folder} (a few minutes, once) ...", flush=True)
    if not Path(python).exists():
        venv.create(folder, with_pip=True)
    _install_torch(_pip(python))
    return python


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _pip(python: str) -> list[str]:
    # Python compiles what it imports; compiling every file of every package here takes longer than
    # that.
    return [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
    ]


def _digest(lock: Path) -> str:
    files = [ROOT / "pyproject.toml", RUN_LOCK] + ([TEST_LOCK] if lock == TEST_LOCK else [])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _install_torch(install: list[str]) -> None:
    """Install PyTorch's CPU build where its index answers.

    On Linux the usual build brings gigabytes for a GPU.
    """
    held = "from importlib.metadata import version as v; import sys; "
    held += f"sys.exit(v('torch').split('+')[0] != '{TORCH.removeprefix('torch==')}')"
    if subprocess.run([install[0], "-c", held], stderr=subprocess.DEVNULL).returncode == 0:
        return
    only_once = ["--retries", "0", "--timeout", "15", "--index-url", TORCH_INDEX]
    answer = subprocess.run(
        [*install, *only_once, TORCH], stderr=subprocess.PIPE, text=True, errors="replace"
    )
    if answer.returncode:
        errors = [line for line in answer.stderr.splitlines() if line.startswith("ERROR:")]
        why = (
            errors[-1].removeprefix("ERROR:").strip()
            if errors
            else f"pip stopped with {answer.returncode}"
        )
        print(
            f"{TORCH} did not come from {TORCH_INDEX} ({why}); taking PyPI's build, which on Linux "
            "may bring gigabytes "
            "of CUDA libraries",
            flush=True,
        )
        subprocess.run([*install, TORCH], check=True)


if __name__ == "__main__":
    sys.exit(main())
