"""The safety QP by hand, against LinDistFlow of the OPF, and its arrays against the model itself.

matrices.py is tested here.
"""

import numpy as np
import pyomo.environ as pyo
import pytest

import feeders
from feederguard.data.networks import load_network
from feederguard.models.battery import Batteries
from feederguard.models.compiled import CompileError
from feederguard.models.compiled.parametric import compile_parametric, eliminate
from feederguard.models.distflow_opf import build_distflow_opf
from feederguard.models.network import Network, NetworkError
from feederguard.models.safety_qp import build_safety_qp
from feederguard.models.safety_qp import matrices as module
from feederguard.models.safety_qp.matrices import safety_matrices
from feederguard.models.safety_qp.projection import SLACK, project
from feederguard.models.safety_qp.statement import set_state, slack_price
from feederguard.models.solver import NotSolvedError, solve


def two_buses(**changes) -> Network:
    """0 --0.1 + 0.2j-- 1, a substation at 1 pu, 1 MVA, band 0.95..1.05."""
    return feeders.two_buses(x=0.2, **{"name": "two buses", "v_min": 0.95, "v_max": 1.05} | changes)


def battery(network, p_max=0.5, **changes) -> Batteries:
    return Batteries.at(network, ["1"], p_max, 10.0, **changes)


def feeder():
    network = load_network("cigre_lv18")
    return network, Batteries.at(network, [f"R{k}" for k in range(1, 19)], 0.02, 0.1)


class TestByHand:
    def test_a_load_is_carried_as_far_as_the_band_asks(self):
        """w = 1 - 0.2 (p^ + p): at p^ = 0.6 that is 0.88, and 0.95^2 = 0.9025 needs p = -0.1125."""
        network = two_buses()
        model = build_safety_qp(network, battery(network))
        set_state(model, p_net=[0.0, 0.6], q_net=[0.0, 0.0])
        solve(model)

        assert model.p_battery[0].value == pytest.approx(-0.1125, abs=1e-8)
        assert model.w[0, 1].value == pytest.approx(0.9025, abs=1e-8)
        assert model.slack_low[1].value == pytest.approx(0.0, abs=1e-9)

    def test_the_margin_tightens_the_lower_side_alone(self):
        network = two_buses()
        model = build_safety_qp(network, battery(network))
        set_state(model, p_net=[0.0, 0.6], q_net=[0.0, 0.0], margin=[0.0, 0.01])
        solve(model)
        assert model.p_battery[0].value == pytest.approx(-0.1625, abs=1e-8)

        set_state(model, p_net=[0.0, -0.6], margin=[0.0, 0.01])
        solve(model)
        # w = 1.12 against 1.1025: 0.0175 / 0.2.
        assert model.p_battery[0].value == pytest.approx(0.0875, abs=1e-8)

    def test_slack_is_what_is_missing_where_nothing_helps(self):
        """With 0.1 at most, w = 1 - 0.2 (0.8 - 0.1) = 0.86: 0.0425 short of 0.9025."""
        network = two_buses()
        model = build_safety_qp(network, battery(network, p_max=0.1))
        set_state(model, p_net=[0.0, 0.8], q_net=[0.0, 0.0])
        solve(model)

        assert model.p_battery[0].value == pytest.approx(-0.1, abs=1e-8)
        assert model.slack_low[1].value == pytest.approx(0.0425, abs=1e-8)

    def test_the_price_is_that_of_the_docstring(self):
        network = two_buses()
        assert slack_price(network, battery(network), 1e-5) == pytest.approx(4 / (2 * 0.95 * 1e-5))

    def test_soc_bounds_the_first_interval(self):
        """A thousandth of 10 pu h may be taken: 0.01 * 0.95 in a quarter of an hour."""
        network = two_buses()
        model = build_safety_qp(network, battery(network, soc_min=0.499, soc_start=0.5))
        assert pyo.value(model.p_low[0]) == pytest.approx(-0.001 * 10 * 0.95 / 0.25)
        assert pyo.value(model.p_high[0]) == pytest.approx(0.5)


class TestCompiled:
    def test_voltages_are_those_of_linear_distflow(self):
        network, batteries = feeder()
        matrices = safety_matrices(network, batteries)
        rng = np.random.default_rng(0)
        p, q = network.p_load * rng.uniform(0.2, 1.0, network.n_bus), network.q_load
        free = network.with_changes(
            v_min=np.full(network.n_bus, 0.5), v_max=np.full(network.n_bus, 1.5)
        )
        opf = build_distflow_opf(free, "linear", p_load=p, q_load=q)
        solve(opf)

        w = np.array([opf.w[0, int(i)].value for i in matrices.bus])
        assert matrices.lossless((p - network.p_gen)[None], (q - network.q_gen)[None])[
            0
        ] == pytest.approx(w, abs=1e-9)

    def test_highs_on_the_model_agrees(self):
        """One model is solved by HiGHS, and also compiled and projected.

        HiGHS fails on a few items.
        """
        network, batteries = feeder()
        model, matrices = (
            build_safety_qp(network, batteries, rho=1e4),
            safety_matrices(network, batteries, rho=1e4),
        )
        rng = np.random.default_rng(3)
        answered = 0
        for _ in range(12):
            p = (
                network.p_load * rng.uniform(0.0, 1.6)
                - rng.uniform(0, 0.03, network.n_bus) / network.base_mva
            )
            low, high = (
                -batteries.p_max * rng.uniform(0.3, 1, 18),
                batteries.p_max * rng.uniform(0.3, 1, 18),
            )
            policy, margin = rng.uniform(-1, 1, 18), rng.uniform(0, 0.004, network.n_bus)
            set_state(
                model,
                p_net=p,
                q_net=network.q_load,
                a_policy=policy,
                p_low=low,
                p_high=high,
                margin=margin,
            )
            lossless = matrices.lossless(p[None], network.q_load[None])
            answer = project(
                policy[None],
                low[None] / matrices.p_max,
                high[None] / matrices.p_max,
                matrices.columns,
                matrices.w_low + margin[matrices.bus] - lossless,
                matrices.w_high - lossless,
                0.5 * matrices.rho,
            )
            assert answer.status[0] != SLACK
            try:
                solve(model, "highs")
            except NotSolvedError:
                continue
            # HiGHS has been seen to return slacks of -4e-7, which at their price is no small gain.
            if (
                min(s.value for s in (*model.slack_low.values(), *model.slack_high.values()))
                < -1e-9
            ):
                continue
            answered += 1
            reference = np.array([model.p_battery[k].value for k in model.battery])
            assert answer.a[0] == pytest.approx(reference / batteries.p_max, abs=1e-7)
        assert answered >= 6

    @pytest.mark.parametrize(
        ("name", "share", "words"),
        [
            (
                "low_limit",
                2.0,
                "low_limit must hold minus the margin of its own bus and no other parameter",
            ),
            (
                "low_limit",
                0.0,
                "low_limit must hold minus the margin of its own bus and no other parameter",
            ),
            ("high_limit", 1.0, "high_limit must hold no margin and no other parameter"),
        ],
    )
    def test_a_margin_of_another_weight_is_refused(self, name, share, words, monkeypatch):
        def changed(*arguments, **options):
            model = build_safety_qp(*arguments, **options)
            for i in model.limited:
                low = name == "low_limit"
                slack = model.slack_low[i] if low else -model.slack_high[i]
                body = model.w[0, i] - share * model.margin[i] + slack
                limit = model.network.v_min[i] if low else model.network.v_max[i]
                model.find_component(name)[i].set_value(
                    body >= limit**2 if low else body <= limit**2
                )
            return model

        network = two_buses()
        monkeypatch.setattr(module, "build_safety_qp", changed)
        with pytest.raises(CompileError, match=words):
            safety_matrices(network, battery(network))

    def test_rho_and_limits_are_read_from_the_model(self):
        network, batteries = feeder()
        matrices = safety_matrices(network, batteries)
        assert matrices.rho == pytest.approx(slack_price(network, batteries))
        assert matrices.p_max == pytest.approx(batteries.p_max)
        assert matrices.w_low == pytest.approx(0.9025) and matrices.w_high == pytest.approx(1.1025)
        assert set(matrices.bus) == set(range(network.n_bus)) - set(network.substation)


class TestParametric:
    def test_rows_are_linear_in_variables_and_parameters(self):
        model = pyo.ConcreteModel("toy")
        model.p = pyo.Param([0, 1], initialize=2.0, mutable=True)
        model.x, model.y = pyo.Var(), pyo.Var()
        model.rule = pyo.Constraint(expr=model.y == 3 * model.x - 4 * model.p[1] + 1)
        model.limit = pyo.Constraint(expr=pyo.inequality(model.p[0], model.y, 7))
        model.cost = pyo.Objective(expr=(model.x - model.p[0]) ** 2)
        compiled = compile_parametric(model)
        solved = eliminate(compiled, ["rule"], ["y"])

        assert (
            solved.by_x.tolist() == [[3.0, 0.0]]
            and solved.by_theta.tolist() == [[0.0, -4.0]]
            and solved.constant == 1.0
        )
        assert (
            len(compiled.rows["limit"]) == 2
        )  # a limit that is a parameter makes a row of its own
        assert compiled.hessian[0, 0] == 1.0 and compiled.cross[0, 0] == -2.0

    def test_a_product_with_a_parameter_is_refused(self):
        model = pyo.ConcreteModel("toy")
        model.p, model.x = pyo.Param(initialize=2.0, mutable=True), pyo.Var()
        model.rule = pyo.Constraint(expr=model.p * model.x <= 1)
        model.cost = pyo.Objective(expr=model.x)
        with pytest.raises(CompileError, match="rule is not linear in variables and parameters"):
            compile_parametric(model)

    def test_what_does_not_determine_is_refused(self):
        model = pyo.ConcreteModel("toy")
        model.x, model.y = pyo.Var(), pyo.Var()
        model.rule = pyo.Constraint(expr=model.y + model.x == 0)
        model.cost = pyo.Objective(expr=model.x)
        with pytest.raises(CompileError, match="1 equalities do not determine the 2 variables"):
            eliminate(compile_parametric(model), ["rule"], ["x", "y"])


class TestBadInput:
    def test_named(self):
        network = two_buses()
        with pytest.raises(ValueError, match="has no bus or no power"):
            build_safety_qp(network, battery(network, p_max=0.0))
        with pytest.raises(ValueError, match="step_h of the safety QP is 0"):
            build_safety_qp(network, battery(network), step_h=0.0)
        with pytest.raises(ValueError, match="p_net has shape"):
            set_state(build_safety_qp(network, battery(network)), p_net=[0.0])
        with pytest.raises(ValueError, match="a_policy has shape .* finite"):
            set_state(build_safety_qp(network, battery(network)), a_policy=[np.nan])
        model = build_safety_qp(network, battery(network))
        before = model.p_low[0].value, model.p_high[0].value
        for crossed in (
            {"p_low": [0.2], "p_high": [0.1]},
            {"p_low": [before[1] + 0.1]},
            {"p_high": [before[0] - 0.1]},
        ):
            with pytest.raises(
                ValueError,
                match="p_low of battery .* is .* and its p_high .*; give p_low not above p_high",
            ):
                set_state(model, a_policy=[0.5], **crossed)
        assert (model.p_low[0].value, model.p_high[0].value, model.a_policy[0].value) == (
            *before,
            0.0,
        )
        set_state(model, p_low=[before[1] + 0.1], p_high=[before[1] + 0.1])

    def test_a_mesh_is_refused(self):
        network = load_network("ieee33")
        meshed = network.with_changes(closed=np.ones(network.n_branch, dtype=bool))
        with pytest.raises(NetworkError, match="is meshed"):
            build_safety_qp(meshed, Batteries.at(network, ["18"], 0.1, 1.0))
