"""Which switches to operate: minimum-loss reconfiguration and load transfer, as Pyomo MISOCPs.

Both are built on the DistFlow of `equations/switched_distflow.py` and the topology of
`equations/radiality.py`. Per unit.

Minimum loss: the radial topology with the least sum of r_b ell_b.

Load transfer after a fault: least cost (1), (2) within the limits (4), (5), which
`load_transfer/rules.py` states. Source: Zhou et al., Energy Engineering 121(6), 2024, equations
(1)-(6). p_i and s_i are the demand and the shed active power of bus i, g_i and c_i its generation
and what is curtailed of it; e_i tells whether it is energised. Priorities and curtailment are ours;
without them S is the shed power.

    (1)  cost = C_load (S / S_base)^2 + C_sw N^2,   N the number of operations,
         S = sum of w_i s_i + CURTAIL_WEIGHT sum of c_i,   w_i the priority of bus i
    (3)  p_i (1 - e_i) <= s_i <= p_i,   g_i (1 - e_i) <= c_i <= g_i:   what is not energised is
         shed, and its generation trips. Where a setting sheds whole loads, s_i is 0 or p_i

What a bus then draws is the law of `load_transfer/shedding.py`.

S^2 reaches the solver as a cone, t >= (S / S_base)^2. N^2 reaches it as n above the chords of N^2
between the values that N can take. These are all whole numbers in a meshed setting, and where any
bus may be dark or a branch may stand beside a feed (`network/parallel.py`). Else they are every
second number, N = N_least + 2 K with K whole and N_least less by one for each part that stays dark:
a forest has a fixed number of branches, so each tie closed beyond the first ones opens another
branch.

A loss term in the objective, LOSS_WEIGHT per MW, makes the cones tight: without it, excess current
would cost nothing. It is orders of magnitude below any difference in cost that matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.models.arrays import BoolArray, FloatArray
from feederguard.models.equations.feeding_direction import add_feeding_direction, only_consumes
from feederguard.models.equations.radiality import (
    EVERYTHING,
    NOTHING,
    WHOLE_PARTS,
    add_topology,
)
from feederguard.models.equations.switched_distflow import (
    add_branch_flow,
    add_end_currents,
    highest_voltage,
    largest_current,
)
from feederguard.models.load_transfer import Scenarios, Setting, resolve_setting
from feederguard.models.load_transfer.rules import (
    CURTAIL_WEIGHT,
    add_cost,
    add_limits,
    cost_of_squares,
    current_limit_pu,
    shed_per_base,
)
from feederguard.models.load_transfer.setting import loop_switches, voltage_band
from feederguard.models.load_transfer.shedding import can_shed, draws_nothing_empty, kept
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.pi_model import branch_admittances, has_shunts

LOSS_WEIGHT = 1e-4  # cost per MW lost


def build_loss_reconfiguration(
    network: Network,
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    switchable: ArrayLike | None = None,
    v_min_pu: float = 0.9,
    v_max_pu: float = 1.1,
) -> pyo.ConcreteModel:
    """Return the problem of the radial topology with the least active loss, unsolved.

    p, q: net demand in pu, (n_bus,), default nominal. switchable: names or a mask (n_branch,) of
    branches; default ties and every line on a loop. Variables: y, P, Q, ell[b], w[i]; expression:
    loss_kw, which is the objective. Ratings are not enforced.

    Raises `NetworkError` for an unknown branch, a net demand of another shape, and where no radial
    topology exists.
    """
    free = _as_mask(network, switchable, loop_switches(network))
    p_net = np.asarray(network.p_load - network.p_gen if p is None else p, dtype=float)
    q_net = np.asarray(network.q_load - network.q_gen if q is None else q, dtype=float)
    for name, array in (("p", p_net), ("q", q_net)):
        if array.shape != (network.n_bus,) or not np.isfinite(array).all():
            raise NetworkError(
                f"{network.name}: {name} has shape {array.shape}; expected ({network.n_bus},), "
                "a finite number per bus"
            )
    model = _empty_model(f"minimum loss of {network.name}", network)
    add_topology(model, network, free, network.closed & ~free, radial=True)
    model.p_net = pyo.Expression(model.bus, rule=lambda m, i: p_net[i] * m.energised[m.zone_of[i]])
    model.q_net = pyo.Expression(model.bus, rule=lambda m, i: q_net[i] * m.energised[m.zone_of[i]])
    current = np.full(
        network.n_branch, largest_current(network, p_net, q_net, v_min_pu, v_max_pu, radial=True)
    )
    add_branch_flow(
        model,
        network,
        current,
        v_min_pu,
        highest_voltage(network, p_net, q_net, v_max_pu),
        angles=False,
    )
    if only_consumes(network, p_net, q_net):
        add_feeding_direction(model, network, v_min_pu)
    # In kW the objective is of the order of 100, for which solver tolerances are made.
    model.loss_kw = pyo.Expression(expr=1e3 * network.base_mva * _series_loss(model, network))
    model.objective = pyo.Objective(expr=model.loss_kw)
    return model


def build_load_transfer(
    network: Network,
    scenario: Scenarios,
    setting: str | Setting,
    switchable: ArrayLike | None = None,
    angles: bool = True,
) -> pyo.ConcreteModel:
    """Return the load-transfer problem of one scenario, unsolved.

    scenario: a batch of one. switchable: names or a mask (n_branch,) that overrides the setting's.
    angles: whether a meshed setting carries the linearised angle equation. Without it the model is
    a true relaxation, and its optimum a proven lower bound of the cost. Variables: y[b], shed[i],
    energised[zone], P, Q, ell[b], w[i]; expression: cost.

    Raises ValueError for any other number of scenarios, and as `resolve_setting`.
    """
    if len(scenario) != 1:
        raise ValueError(
            f"build_load_transfer takes one scenario, got {len(scenario)}; "
            "pass scenarios[k : k + 1]"
        )
    setting = resolve_setting(network, setting)
    free = _as_mask(network, switchable, setting.switchable_branches(network))
    failed = scenario.failed_branches(network.n_branch)[0]
    intact = ~failed
    names = ", ".join(network.branch_name[b] for b in np.flatnonzero(failed))
    model = _empty_model(f"load transfer on {network.name} after loss of {names}", network)
    must_be_fed = WHOLE_PARTS if draws_nothing_empty(network, scenario, setting) else NOTHING
    stuck = network.closed & ~free & intact
    add_topology(model, network, free & intact, stuck, setting.radial, must_be_fed)
    p, q, g = scenario.p_load[0], scenario.q_load[0], scenario.p_gen[0]
    _add_shedding(model, p, q, g, setting.whole_loads)
    add_cost(model, network, failed, counted=model.lead == np.arange(network.n_branch))
    band = voltage_band(network, setting)
    current = np.full(
        network.n_branch,
        largest_current(network, p + g, q, band.low.min(), band.high.max(), setting.radial),
    )
    if setting.active_limit_mw is None:
        rated = np.minimum(current, current_limit_pu(network, setting))
        current = np.where(has_shunts(network), current, rated)
    # With its load shed a bus produces all that it generates.
    least = np.where(g > 0, -g, p)
    ceiling = highest_voltage(network, least, q, band.high)
    add_branch_flow(
        model, network, current, band.low, ceiling, angles=angles and not setting.radial
    )
    if setting.radial and only_consumes(network, least, q):
        add_feeding_direction(model, network, float(band.low.min()))
    _add_transfer_limits(model, network, setting)
    _add_squares(model, network, free & intact, setting.radial, must_be_fed)
    loss_mw = network.base_mva * _series_loss(model, network)
    model.objective = pyo.Objective(
        expr=cost_of_squares(model.shed_squared, model.operations_squared) + LOSS_WEIGHT * loss_mw
    )
    return model


def _add_transfer_limits(model: pyo.ConcreteModel, network: Network, setting: Setting) -> None:
    """Add (4), (5): at the ends of branches with shunts, and at buses that are fed for sure."""
    iron = branch_admittances(network).closed[:, 0].real.tolist()
    start = network.from_bus.tolist()

    def sent(m: Any, b: int) -> Any:
        # Of a branch that may be opened the iron losses are left out: the model stays a relaxation
        # where power flows away from the substations.
        return m.P[b] + iron[b] * m.w[start[b]] if m.y[b].fixed and m.y[b].value else m.P[b]

    add_limits(model, network, setting, sent)
    if setting.active_limit_mw is None:
        rating = current_limit_pu(network, setting)
        add_end_currents(model, network, rating)
        for b in np.flatnonzero(has_shunts(network) & np.isfinite(rating)).tolist():
            model.current_limit[b].deactivate()
    for i, limit in model.voltage_limit.items():
        # Of a bus that is dark or may be; (7) of `switched_distflow.py` holds its band.
        if not (e := model.energised[model.zone_of[i]]).fixed or not e.value:
            limit.deactivate()


def _add_shedding(
    model: pyo.ConcreteModel, p: FloatArray, q: FloatArray, g: FloatArray, whole: bool
) -> None:
    """Add shed, curtailed[i] with (3), and what buses then draw, p_net, q_net[i]; p, q, g in pu.

    whole: a load is shed whole or not at all, by the binary off[i].
    """
    model.shed = pyo.Var(
        model.bus, bounds=lambda m, i: (0, float(p[i])), initialize=0.0, doc="s of (3)"
    )
    model.curtailed = pyo.Var(
        np.flatnonzero(g).tolist(),
        bounds=lambda m, i: (0, float(g[i])),
        initialize=0.0,
        doc="c of (3)",
    )

    loads = np.flatnonzero(can_shed(p) & whole).tolist()
    model.off = pyo.Var(loads, domain=pyo.Binary, initialize=0, doc="whole loads of (3)")

    @model.Constraint(loads, doc="whole loads of (3)")
    def shed_whole(m: Any, i: int) -> Any:
        return m.shed[i] == float(p[i]) * m.off[i]

    @model.Constraint(model.bus, doc="(3)")
    def dark_is_shed(m: Any, i: int) -> Any:
        if p[i] == 0:
            return pyo.Constraint.Skip
        return m.shed[i] >= p[i] * (1 - m.energised[m.zone_of[i]])

    @model.Constraint(list(model.curtailed), doc="(3)")
    def dark_is_tripped(m: Any, i: int) -> Any:
        return m.curtailed[i] >= g[i] * (1 - m.energised[m.zone_of[i]])

    def active(m: Any, i: int) -> Any:
        # The bounds of shed keep (1) of `shedding.py`.
        made = kept(g[i], 1.0, m.curtailed[i]) if i in m.curtailed else 0.0
        return kept(p[i], 1.0, m.shed[i]) - made

    def reactive(m: Any, i: int) -> Any:
        # What cannot be shed is dark where its bus is.
        if not can_shed(p[i]):
            return q[i] * m.energised[m.zone_of[i]]
        return q[i] / p[i] * kept(p[i], 1.0, m.shed[i])

    model.p_net = pyo.Expression(model.bus, rule=active)
    model.q_net = pyo.Expression(model.bus, rule=reactive)


def _add_squares(
    model: pyo.ConcreteModel, network: Network, free: BoolArray, radial: bool, must_be_fed: str
) -> None:
    """Add t and n of the module, above the squares of shed power and of operations."""
    most = shed_per_base(network, _price(model, network, model.bus))
    model.shed_squared = pyo.Var(
        bounds=(0, max(most, 1.0) ** 2), initialize=0.0, doc="t of the module"
    )
    model.operations_squared = pyo.Var(bounds=(0, None), initialize=0.0, doc="n of the module")
    model.shed_cone = pyo.Constraint(
        expr=shed_per_base(network, model.total_shed) ** 2 <= model.shed_squared
    )
    if radial:
        _add_square_of_dark(model, network)
    most_operations = int(free.sum())
    chords = [(k, 1) for k in range(most_operations + 1)]
    if radial:
        if must_be_fed != NOTHING and not model.beside:
            model.pairs_switched = pyo.Var(
                domain=pyo.Integers, bounds=(0, most_operations), doc="K of the module"
            )
            model.operations_parity = pyo.Constraint(
                expr=model.n_operations == model.least_operations + 2 * model.pairs_switched
            )
        every_second = range(model.least_operations_all_fed, most_operations + 1, 2)
        if must_be_fed == EVERYTHING and not model.beside:
            chords = []
        chords += [] if model.beside else [(k, 2) for k in every_second]

    @model.Constraint(chords, doc="chords of N^2")
    def operations_chord(m: Any, k: int, step: int) -> Any:
        # The chord from k to k + step has the slope 2 k + step. Between its ends lies N = k + 1,
        # where it is by 1 too high.
        chord = k**2 + (2 * k + step) * (m.n_operations - k)
        return m.operations_squared >= chord - (m.n_dark if step == 2 else 0)


def _add_square_of_dark(model: pyo.ConcreteModel, network: Network) -> None:
    """Bound t by each part alone: (S / S_base)^2 is no less than the square of a dark part's load.

    The cone says so for whole e only.
    """
    model.square_of_dark = pyo.ConstraintList(doc="t of the module")
    for part in model.parts:
        load = _price(model, network, [i for i in model.bus if model.zone_of[i] in part])
        if load > 0:
            off = 1 - model.energised[min(part)]
            model.square_of_dark.add(model.shed_squared >= shed_per_base(network, load) ** 2 * off)


def _price(model: pyo.ConcreteModel, network: Network, buses: Iterable[int]) -> float:
    """Return S of (1) where these buses shed and curtail everything, pu."""
    total = 0.0
    for i in buses:
        total += float(network.priority[i]) * model.shed[i].ub
        total += CURTAIL_WEIGHT * model.curtailed[i].ub if i in model.curtailed else 0.0
    return total


def _empty_model(name: str, network: Network) -> pyo.ConcreteModel:
    model = pyo.ConcreteModel(name)
    model.bus = pyo.RangeSet(0, network.n_bus - 1)
    model.branch = pyo.RangeSet(0, network.n_branch - 1)
    return model


def _series_loss(model: pyo.ConcreteModel, network: Network) -> Any:
    return sum(network.r[b] * model.ell[b] for b in model.branch)


def _as_mask(network: Network, switchable: ArrayLike | None, default: BoolArray) -> BoolArray:
    """Return which branches are switchable, (n_branch,), from names, a mask or None."""
    if switchable is None:
        return default
    array = np.atleast_1d(np.asarray(switchable))
    if array.dtype == bool:
        if array.shape != (network.n_branch,):
            raise NetworkError(
                f"{network.name}: switchable has shape {array.shape}; expected "
                f"({network.n_branch},)"
            )
        return array
    mask = np.zeros(network.n_branch, dtype=bool)
    if array.size and array.dtype.kind not in "USO":
        raise NetworkError(
            f"{network.name}: switchable holds numbers; give branch names, or a mask of "
            f"({network.n_branch},)"
        )
    mask[[network.branch_index(str(name)) for name in array]] = True
    return mask
