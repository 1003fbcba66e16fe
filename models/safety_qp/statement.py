"""The safety QP: the battery powers nearest to a policy's that keep every voltage in its band.

Source of the voltage equations: LinDistFlow, Baran & Wu, IEEE Trans. Power Delivery 4(2), 1989,
here (1)-(3) of `equations/distflow.py` in linear form. Per unit; battery k draws p_k (positive when
charging), bus i has the net demand p^_i, q^_i without batteries, w = |V|^2. Hats and a^, p_low,
p_high, e are mutable parameters:

    min  sum of (p_k / p_max_k - a^_k)^2 + rho sum of (s_i + z_i)
    (4)  w_i - e_i + s_i >= v_min_i^2
    (5)  w_i - z_i       <= v_max_i^2
    (6)  p_low_k <= p_k <= p_high_k
         s, z >= 0,   w linear in p, p^, q^ by (1)-(3) of LinDistFlow
                      with p^_i + sum of p_k at i drawn from bus i

(4) and (5) hold at every bus but substations, which the grid above holds. (6) is what power and
state of charge allow in this step. LinDistFlow drops losses, so it never puts a voltage below the
true one, and only the lower side needs a margin. The margin is e_i = max(w_i - v_i^2, 0) at idle
batteries, with v the AC power flow's magnitude. Rounding or a negative reactance may put v_i^2
above w_i.

e is exact at idle. It knows nothing of the losses that charging adds, so an answer in which
batteries charge may lie outside the band: on ieee33 at 0.8 of its load by 0.0028 pu
(`studies/benchmarks/safety_layer.py`). What makes an applied action safe is `models/safe_powers`:
it linearises this QP again at the AC state of its answer, and checks the answer by its own AC flow.

The price of slack is

    (7)  rho = 4 n_bat / (2 v_min tolerance)

Where some p meets (4)-(6) without slack, rho sum(s + z) is at most 4 n_bat: no two actions in
[-1, 1] are farther apart. So the slack of a feasible problem is below the tolerance in pu. It is
zero where some p keeps every limit by as much. Where no p meets the limits, the slack is what has
to be given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray
from feederguard.models.battery import Batteries
from feederguard.models.battery.batteries import check_batteries
from feederguard.models.battery.step import power_interval
from feederguard.models.equations.distflow import add_balance, add_drop, add_far_ends
from feederguard.models.network import Network
from feederguard.models.network.graph import feeding_tree

TOLERANCE_PU = 1e-5  # within which a voltage counts as inside its band


def slack_price(
    network: Network, batteries: Batteries, tolerance_pu: float = TOLERANCE_PU
) -> float:
    """Return rho of (7), per unit of squared voltage."""
    return float(4 * len(batteries) / (2 * network.v_min.min() * tolerance_pu))


def build_safety_qp(
    network: Network,
    batteries: Batteries,
    step_h: float = 0.25,
    *,
    tolerance_pu: float = TOLERANCE_PU,
    rho: float | None = None,
) -> pyo.ConcreteModel:
    """Return the safety QP, unsolved, at the network's nominal state, idle and without margin.

    step_h: hours of a step. Until `set_state` says otherwise, p_low and p_high are what a state of
    charge of batteries.soc_start allows in such a step. rho: price of slack, default (7) at
    tolerance_pu.

    Parameters: p_net, q_net[i]; a_policy, p_low, p_high[k]; margin[i]. Variables: p_battery[k];
    slack_low, slack_high[i]; P, Q[t, b]; w[t, i], p_substation, q_substation[t, i], t = 0.
    Constraints: active_balance, reactive_balance, voltage_drop (1)-(3) of LinDistFlow;
    low_limit (4), high_limit (5), interval (6).

    Raises `NetworkError` for a meshed feeder or a bus that is not fed; ValueError for a battery at
    no bus or without power, and a step, tolerance or rho that is not positive.
    """
    _check(network, batteries, step_h, tolerance_pu, rho)
    model = pyo.ConcreteModel(f"safety QP of {network.name}")
    model.network, model.batteries = network, batteries
    model.time, model.bus = pyo.RangeSet(0, 0), pyo.RangeSet(0, network.n_bus - 1)
    model.branch = pyo.Set(initialize=np.flatnonzero(network.closed).tolist())
    model.battery = pyo.RangeSet(0, len(batteries) - 1)
    held = set(network.substation.tolist())
    model.limited = pyo.Set(initialize=[i for i in range(network.n_bus) if i not in held])
    _add_parameters(model, step_h)
    _add_state(model)
    add_far_ends(model, network, "linear")
    add_balance(model, network)
    add_drop(model, network, "linear")
    _add_limits(model)
    price = slack_price(network, batteries, tolerance_pu) if rho is None else rho
    p_max = batteries.p_max.tolist()
    moved = sum((model.p_battery[k] / p_max[k] - model.a_policy[k]) ** 2 for k in model.battery)
    given = sum(model.slack_low[i] + model.slack_high[i] for i in model.limited)
    model.objective = pyo.Objective(expr=moved + price * given)
    return model


def set_state(
    model: pyo.ConcreteModel,
    *,
    p_net: ArrayLike | None = None,
    q_net: ArrayLike | None = None,
    a_policy: ArrayLike | None = None,
    p_low: ArrayLike | None = None,
    p_high: ArrayLike | None = None,
    margin: ArrayLike | None = None,
) -> None:
    """Fill the given parameters of the model: one number per bus or battery, in pu.

    a_policy is in [-1, 1]. margin is e of (4), in squared pu. Raises ValueError for a wrong number
    of values, one that is not finite, and a p_low above p_high. Where only one of these two is
    given, the model's other one counts. After an error the model is as it was.
    """
    arrays: dict[str, FloatArray] = {}
    given = {
        "p_net": p_net,
        "q_net": q_net,
        "a_policy": a_policy,
        "p_low": p_low,
        "p_high": p_high,
        "margin": margin,
    }
    for name, value in given.items():
        if value is None:
            continue
        parameter = model.find_component(name)
        array = np.asarray(value, dtype=float)
        if array.shape != (len(parameter),) or not np.isfinite(array).all():
            raise ValueError(
                f"{model.name}: {name} has shape {array.shape}; give {len(parameter)} finite "
                f"numbers, one per {'bus' if parameter.index_set() is model.bus else 'battery'}"
            )
        arrays[name] = array
    _check_interval(model, arrays)
    for name, array in arrays.items():
        parameter = model.find_component(name)
        for k, number in enumerate(array.tolist()):
            parameter[k] = number


def _check_interval(model: Any, arrays: dict[str, FloatArray]) -> None:
    """Raise ValueError where (6) would leave nothing; arrays: what is about to be set."""
    if not {"p_low", "p_high"} & arrays.keys():
        return
    low, high = (
        arrays[name]
        if name in arrays
        else np.array([pyo.value(x) for x in model.find_component(name).values()])
        for name in ("p_low", "p_high")
    )
    crossed = np.flatnonzero(low > high + 1e-12)
    if crossed.size:
        k = crossed[0]
        raise ValueError(
            f"{model.name}: p_low of battery {model.batteries.name[k]!r} is {low[k]:g} and its "
            f"p_high {high[k]:g}; give p_low not above p_high"
        )


def _add_parameters(model: Any, step_h: float) -> None:
    network, batteries = model.network, model.batteries
    p_low, p_high = power_interval(batteries, batteries.soc_start, step_h)
    for name, index, values, doc in (
        ("p_net", model.bus, network.p_load - network.p_gen, "net active demand without batteries"),
        ("q_net", model.bus, network.q_load - network.q_gen, "net reactive demand"),
        ("a_policy", model.battery, np.zeros(len(batteries)), "proposed p / p_max"),
        ("p_low", model.battery, p_low, "least power in this step"),
        ("p_high", model.battery, p_high, "greatest power in this step"),
        ("margin", model.bus, np.zeros(network.n_bus), "e of (4)"),
    ):
        start = dict(enumerate(values.tolist()))
        model.add_component(
            name, pyo.Param(index, initialize=start, mutable=True, domain=pyo.Reals, doc=doc)
        )


def _add_state(model: Any) -> None:
    """Add p_battery and the variables of LinDistFlow, whose injections are the net demand."""
    network, index = model.network, (model.time, model.branch)
    model.p_battery = pyo.Var(
        model.battery, initialize=0.0, doc="drawn from the bus, positive when charging"
    )
    model.P = pyo.Var(*index, initialize=0.0, doc="active power into b at its from bus")
    model.Q = pyo.Var(*index, initialize=0.0, doc="reactive power into b at its from bus")
    model.w = pyo.Var(model.time, model.bus, initialize=1.0, doc="squared voltage")
    model.substation = pyo.Set(initialize=network.substation.tolist())
    model.p_substation = pyo.Var(
        model.time, model.substation, initialize=0.0, doc="active power from the grid above"
    )
    model.q_substation = pyo.Var(
        model.time, model.substation, initialize=0.0, doc="reactive power from the grid above"
    )
    for bus, v in zip(network.substation.tolist(), network.v_substation.tolist(), strict=True):
        model.w[0, bus].fix(abs(v) ** 2)
    model.ell = pyo.Expression(*index, initialize=0.0, doc="no losses")
    at_bus: list[list[int]] = [[] for _ in range(network.n_bus)]
    for k, bus in enumerate(model.batteries.bus.tolist()):
        at_bus[bus].append(k)

    def p_rule(m: Any, t: int, i: int) -> Any:
        drawn = m.p_net[i] + sum(m.p_battery[k] for k in at_bus[i])
        return (m.p_substation[t, i] if i in m.substation else 0.0) - drawn

    def q_rule(m: Any, t: int, i: int) -> Any:
        return (m.q_substation[t, i] if i in m.substation else 0.0) - m.q_net[i]

    model.p_injected = pyo.Expression(model.time, model.bus, rule=p_rule)
    model.q_injected = pyo.Expression(model.time, model.bus, rule=q_rule)


def _add_limits(model: Any) -> None:
    low, high = (model.network.v_min**2).tolist(), (model.network.v_max**2).tolist()
    model.slack_low = pyo.Var(model.limited, bounds=(0, None), initialize=0.0, doc="s of (4)")
    model.slack_high = pyo.Var(model.limited, bounds=(0, None), initialize=0.0, doc="z of (5)")

    @model.Constraint(model.limited, doc="(4)")
    def low_limit(m: Any, i: int) -> Any:
        return m.w[0, i] - m.margin[i] + m.slack_low[i] >= low[i]

    @model.Constraint(model.limited, doc="(5)")
    def high_limit(m: Any, i: int) -> Any:
        return m.w[0, i] - m.slack_high[i] <= high[i]

    @model.Constraint(model.battery, doc="(6)")
    def interval(m: Any, k: int) -> Any:
        return pyo.inequality(m.p_low[k], m.p_battery[k], m.p_high[k])


def _check(
    network: Network, batteries: Batteries, step_h: float, tolerance_pu: float, rho: float | None
) -> None:
    feeding_tree(network)
    for name, value in (
        ("step_h", step_h),
        ("tolerance_pu", tolerance_pu),
        ("rho", 1.0 if rho is None else rho),
    ):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(
                f"{network.name}: {name} of the safety QP is {value}; it must be a positive number"
            )
    if batteries.soc_end is None:
        check_batteries(network, batteries, 1, step_h)
    lost = np.flatnonzero((batteries.bus >= network.n_bus) | (batteries.p_max <= 0))
    if lost.size or not len(batteries):
        what = (
            f"battery {batteries.name[lost[0]]!r} has no bus or no power"
            if lost.size
            else "there is no battery"
        )
        raise ValueError(
            f"{network.name}: {what}; the safety QP needs p_max above zero at buses 0 to "
            f"{network.n_bus - 1}"
        )
