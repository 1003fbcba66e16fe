"""The bundled year of profiles is the one that the script makes."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from feederguard.data.make import days as make_days


@pytest.mark.skipif(
    find_spec("simbench") is None, reason="needs the SimBench tables: pip install simbench"
)
def test_bundled_file_is_what_the_script_makes():
    command = [sys.executable, make_days.__file__, "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "simbench_2016.npz: as bundled\n"), done.stderr
