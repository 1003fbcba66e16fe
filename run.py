"""From a fresh checkout to a result: makes a virtual environment, installs FeederGuard into it, and runs a job there.

    python3 run.py compare [options]    the main study, studies/compare_methods.py
    python3 run.py test [options]       the test suite (pytest, a process per core)

The environment is .venv beside this file, or the folder given as --venv FOLDER before the job; it is made once and
refreshed when pyproject.toml changes. Needs Python 3.11 or later and nothing else.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TORCH = "torch==2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
JOBS = {
    "compare": [str(ROOT / "studies" / "compare_methods.py")],
    "test": ["-m", "pytest", "-n", "auto", "--dist", "loadfile"],
}


def main() -> int:
    """Run the job named on the command line and return its exit status."""
    arguments = sys.argv[1:]
    folder = ROOT / ".venv"
    if arguments[:1] == ["--venv"] and len(arguments) > 1:
        folder, arguments = Path(arguments[1]).resolve(), arguments[2:]
    if not arguments or arguments[0] not in JOBS:
        print(__doc__, file=sys.stderr)
        return 2
    python = prepare(folder)
    return subprocess.run([python, *JOBS[arguments[0]], *arguments[1:]], cwd=ROOT).returncode


def prepare(folder: Path) -> str:
    """Make or refresh the environment in `folder` and return the path of its Python."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this file runs before anything has checked it)
        sys.exit(f"FeederGuard needs Python 3.11 or later; this is {sys.version.split()[0]}")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "feederguard-installed"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print(f"setting up {folder} (a few minutes, once) ...", flush=True)
    venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _install_torch(install)
    subprocess.run([*install, "-e", f"{ROOT}[dev]"], check=True)
    stamp.write_text(wanted)
    return str(python)


def _install_torch(install: list[str]) -> None:
    """Install PyTorch's CPU build where its index answers; on Linux the usual one brings gigabytes for a GPU."""
    only_once = ["--retries", "0", "--timeout", "15", "--index-url", TORCH_INDEX]
    answer = subprocess.run([*install, *only_once, TORCH], stderr=subprocess.PIPE, text=True, errors="replace")
    if answer.returncode:
        errors = [line for line in answer.stderr.splitlines() if line.startswith("ERROR:")]
        why = errors[-1].removeprefix("ERROR:").strip() if errors else f"pip stopped with {answer.returncode}"
        print(
            f"{TORCH} did not come from {TORCH_INDEX} ({why}); taking PyPI's build, which on Linux may bring gigabytes "
            "of CUDA libraries",
            flush=True,
        )
        subprocess.run([*install, TORCH], check=True)


if __name__ == "__main__":
    sys.exit(main())
