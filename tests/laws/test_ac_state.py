"""The AC state read into the limits (4), (5): every use against `pyomo.value` on random points.

Uses: the judge, the compiled model, and the kernel of the shedding search and the paper's
correction. Bus 3 has reactive demand only; the open tie is a cable that hangs from bus 3.
"""

from types import SimpleNamespace

import numpy as np
import pyomo.environ as pyo
import pytest

from feederguard.models.load_transfer import Setting, limit_violations, resolve_setting
from feederguard.models.load_transfer.ac_state import (
    lay_out_limits,
    limit_columns,
    limit_excess,
    limit_state,
)
from feederguard.models.load_transfer.rules import add_limits, transfer_rules
from feederguard.models.network import GroupLimit, Network
from feederguard.models.power_flow import PowerFlow, solve_power_flow
from feederguard.models.power_flow.forest import Answer
from feederguard.models.power_flow.layout import forest_of, prepare
from feeders import feeder

POINTS = 12
TIE = 5
SETTINGS = ("paper", "radial")


@pytest.fixture(scope="module")
def network() -> Network:
    return feeder(
        "0-1 1-2 2-3 1-4 4-5 t:3~4",
        p_load=[0, 0.3, 0.2, 0, 0.3, 0.1],
        q_load=[0, 0.1, 0.1, 0.2, 0.1, 0.05],
        r=0.05,
        x=0.03,
        b_from=0.02,
        b_to=0.03,
        g_from=0.001,
        tap=[1, 1.03, 1, 1, 1, 1],
        rating=0.35,
        v_min=0.95,
        v_max=1.05,
        open_end=[0, 0, 0, 0, 0, 2],
        paper_limit_mw=0.25,
        # Two feeders behind bus 1, and a branch that is fed from either side.
        groups=[GroupLimit("both", ("1-2", "1-4"), 0.9), GroupLimit("one", ("2-3",), 0.004)],
    )


def states(network: Network) -> PowerFlow:
    """Return AC states; in some the tie is closed, in some branch 2-3 or 4-5 is open."""
    rng = np.random.default_rng(4)
    level = rng.uniform(0.2, 1.8, (2, POINTS, network.n_bus))
    closed = np.tile(network.closed, (POINTS, 1))
    closed[1::3, [2, TIE]] = [False, True]
    closed[2::3, 4] = False
    return solve_power_flow(network, network.p_load * level[0], network.q_load * level[1], closed)


def by_pyomo(network: Network, setting: Setting, flow: PowerFlow, k: int) -> np.ndarray:
    """Return the violation of each limit of the load-transfer model at AC state k."""
    model = pyo.ConcreteModel()
    model.bus = pyo.RangeSet(0, network.n_bus - 1)
    model.branch = pyo.RangeSet(0, network.n_branch - 1)
    model.w, model.y = pyo.Var(model.bus), pyo.Var(model.branch)
    model.P, model.ell = pyo.Var(model.branch), pyo.Var(model.branch)
    names = add_limits(model, network, setting)
    sent, received = flow.s_from[k].real, flow.s_to[k].real
    if setting.active_limit_mw is None:
        larger = np.maximum(np.abs(flow.current_from[k]), np.abs(flow.current_to[k]))
        ell = larger**2
    else:
        # A branch receives P - r ell.
        ell = (sent + received) / network.r
    # A dark bus has no voltage to be judged.
    w = np.where(flow.energised[k], np.abs(flow.voltage[k]) ** 2, 1.0)
    for variable, values in (
        (model.w, w),
        (model.P, sent),
        (model.ell, ell),
        (model.y, flow.closed[k].astype(float)),
    ):
        for i, value in enumerate(values.tolist()):
            variable[i].set_value(value)
    rows = [data for name in names for data in model.find_component(name).values()]
    return np.array(
        [
            max(
                0.0,
                0.0 if c.lower is None else pyo.value(c.lower) - pyo.value(c.body),
                0.0 if c.upper is None else pyo.value(c.body) - pyo.value(c.upper),
            )
            for c in rows
        ]
    )


def by_kernel(network: Network, setting: Setting, flow: PowerFlow, k: int) -> SimpleNamespace:
    """Return the columns, the excess of each limit and the largest one, as kernels see it."""
    feeder_arrays = prepare(network)
    limits = lay_out_limits(transfer_rules(network, setting))
    closed = np.array(flow.closed[k])
    forest = forest_of(feeder_arrays, closed)
    answer = Answer(
        flow.voltage[k : k + 1].copy(),
        flow.series_current[k : k + 1].copy(),
        np.zeros(1, np.int64),
        flow.energised[k : k + 1].copy(),
    )
    state = limit_state(limits)
    limit_columns(feeder_arrays, limits, forest, closed, answer, state.x)
    worst = limit_excess(limits, forest, state)
    return SimpleNamespace(x=state.x, excess=state.excess, worst=worst)


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_reading_gives_the_limits_of_the_statement(network: Network, setting: str) -> None:
    chosen = resolve_setting(network, setting)
    flow = states(network)
    assert flow.converged.all() and not flow.energised.all()
    expected = np.array([by_pyomo(network, chosen, flow, k) for k in range(POINTS)])
    assert (expected > 0).any(axis=0).sum() > 3 and (expected == 0).any()

    np.testing.assert_allclose(
        limit_violations(network, chosen, flow), expected, atol=1e-12, err_msg="the judge"
    )
    compiled = transfer_rules(network, chosen).limits
    for k in range(POINTS):
        kernel = by_kernel(network, chosen, flow, k)
        np.testing.assert_allclose(
            np.maximum(kernel.excess, 0), expected[k], atol=1e-12, err_msg="the kernel"
        )
        assert kernel.worst == pytest.approx(expected[k].max(), abs=1e-12)
        np.testing.assert_allclose(
            compiled.violations(kernel.x[None])[0], expected[k], atol=1e-12, err_msg="compiled"
        )


def test_a_hanging_cable_counts_with_its_charging(network: Network) -> None:
    """Open, it hangs from bus 3 and draws its charging there, within its rating."""
    flow = states(network)
    setting = resolve_setting(network, "radial")
    row = transfer_rules(network, setting).limits.limit_name.index(f"current_limit[{TIE}]")
    drawn = np.abs(flow.current_from[0, TIE]) / network.rating[TIE]
    assert drawn > 0.1
    assert by_kernel(network, setting, flow, 0).excess[row] == pytest.approx(drawn**2 - 1)
