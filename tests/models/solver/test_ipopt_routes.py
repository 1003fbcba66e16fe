"""The routes to Ipopt: their order, their versions, and how to get one that is missing."""

import functools
import sys
from pathlib import Path

from small_models import nlp

from feederguard.models.solver import available_solvers, ipopt_routes, solve
from feederguard.models.solver.ipopt_routes import find_ipopt


def place_ipopt(monkeypatch, idaes=None, path=None):
    def which(name, path_searched=path, **options):
        return (
            str(idaes / name)
            if "path" in options and idaes
            else (None if "path" in options else path_searched)
        )

    monkeypatch.setattr(ipopt_routes, "_idaes_bin_directory", lambda: (idaes, ""))
    monkeypatch.setattr(ipopt_routes.shutil, "which", which)


def test_ipopt_of_idaes_comes_first(monkeypatch):
    place_ipopt(monkeypatch, idaes=Path("/idaes/bin"), path="/usr/bin/ipopt")

    route = find_ipopt()

    assert route.executable == Path("/idaes/bin/ipopt")
    assert route.description == "executable of idaes get-extensions (/idaes/bin/ipopt)"


def test_ipopt_on_the_path_comes_second(monkeypatch):
    place_ipopt(monkeypatch, path="/usr/bin/ipopt")

    assert find_ipopt().executable == Path("/usr/bin/ipopt")
    assert find_ipopt().description == "executable on the PATH (/usr/bin/ipopt)"


def test_ipopt_of_casadi_comes_last(monkeypatch):
    place_ipopt(monkeypatch)

    route = find_ipopt()

    assert route.executable is None and route.description.startswith("bundled with CasADi 3.")
    assert solve(nlp()).solver == "ipopt (casadi)"


def test_each_route_to_ipopt_says_how_to_get_it(monkeypatch):
    place_ipopt(monkeypatch)

    rows = available_solvers()[2:]

    assert rows[0][1:3] == ("-", "missing: executable of idaes get-extensions")
    assert "idaes get-extensions" in rows[0][3] and "PATH" in rows[1][3]
    assert rows[2][2].startswith("bundled with CasADi") and "in use" in rows[2][3]


def test_an_idaes_that_fails_to_start_is_a_route_that_is_missing(monkeypatch, tmp_path):
    """Importing idaes makes folders in the user's home; where it cannot, it raises any error."""
    (tmp_path / "idaes").mkdir()
    (tmp_path / "idaes" / "__init__.py").write_text(
        "raise PermissionError('cannot write to /home/me')"
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "idaes"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ipopt_routes.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(
        ipopt_routes,
        "_idaes_bin_directory",
        functools.cache(ipopt_routes._idaes_bin_directory.__wrapped__),
    )

    rows = available_solvers()[2:]

    assert rows[0][2] == "missing: executable of idaes get-extensions"
    assert (
        "idaes does not start (PermissionError: cannot write to /home/me); set HOME or IDAES_DATA"
        in rows[0][3]
    )
    assert find_ipopt().executable is None and solve(nlp()).solver == "ipopt (casadi)"


def test_an_executable_that_does_not_run_has_no_version(monkeypatch):
    place_ipopt(monkeypatch, path="/no/such/folder/ipopt")

    rows = available_solvers()[2:]

    assert rows[1][1:] == (
        "-",
        "executable on the PATH (/no/such/folder/ipopt)",
        "nonlinear, continuous (in use)",
    )


def test_an_executable_is_asked_for_its_version(monkeypatch, tmp_path):
    program = tmp_path / "ipopt"
    program.write_text("#!/bin/sh\necho 'Ipopt 3.13.2 (x86_64-linux-gnu), ASL(20190605)'\n")
    program.chmod(0o755)
    place_ipopt(monkeypatch, path=str(program))

    assert available_solvers()[3][1] == "3.13.2"
