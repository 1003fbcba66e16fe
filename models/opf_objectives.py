"""Objectives of optimal power flow, as functions of the model whose sums are objectives.

    objective = lambda m: energy_price(m, 80.0) + 0.1 * regulation_power(m)
    build_distflow_opf(network, objective=objective)

Each takes a model of `ac_opf.py` or `distflow_opf.py` in any form, and returns a Pyomo expression
in engineering units. Power in per unit times base_mva is MW; h is the length of a step in hours.
Sums run over steps.

    (1)  generation cost    sum of h (c2 P^2 + c1 P + c0 + l), P in MW                   $
    (2)  losses             sum of what the branches turn into heat                      MW
    (3)  regulation power   sum of c + d over batteries                                  MW
    (4)  curtailment        sum of p_max_g(t) - p_g over generators                      MW
    (5)  voltage deviation  sum over buses of ((w - v_ref^2) / (2 v_ref))^2              pu^2
    (6)  energy price       sum of h price(t) P drawn at the substations, in MW          $

(2)-(5) are summed over steps: times h they are MWh, or pu^2 h. (3) is the sum of |p| of batteries
that go one way only, and the objective of DF-SRL (Hou et al., JMPCE 13(1), 2025). (4) is what was
available and not used. (5) is (|V| - v_ref)^2 to first order, and convex in w, so it serves every
form.

The l of (1) is a variable of each generator with a convex piecewise linear cost, at least each of
its lines: l >= a P + b (`network/costs.py`).

All are linear or convex quadratic, but for (2) in polar form. A negative price in (6) rewards
burning energy, for which see `battery/batteries.py`. In the cone forms a term that prices losses,
directly or through the power that the substation draws, makes the cones tight.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike

from feederguard.models.arrays import FloatArray
from feederguard.models.equations.battery import terminal_power
from feederguard.models.network import Network, NetworkError
from feederguard.models.network.costs import lines_by_generator


def generation_cost(model: Any) -> Any:
    """Return (1), the cost of generation over all steps in $; in $/h for one step of an hour.

    Raises `NetworkError` where the source of the network has costs that cannot be used.
    """
    if model.periods.network.cost_error:
        raise NetworkError(model.periods.network.cost_error)
    network, h = model.periods.network, model.periods.step_h
    base = network.base_mva
    cost = network.gen_cost.tolist()
    total: Any = 0.0
    for g in model.gen:
        c2, c1, c0 = cost[g]
        for t in model.time:
            power = model.p_gen[t, g]
            total += h * (c1 * base * power + c0)
            if c2:
                total += h * c2 * base**2 * power**2
    for g in lines_by_generator(network):
        total += h * sum(_piecewise_cost(model)[t, g] for t in model.time)
    return total


def _piecewise_cost(model: Any) -> Any:
    """Return the variables l of (1) in $/h, [t, g], which the first call adds to the model."""
    found = model.find_component("piecewise_cost")
    if found is not None:
        return found
    lines, base = lines_by_generator(model.periods.network), model.periods.network.base_mva

    def start(m: Any, t: int, g: int) -> float:
        p_mw = base * (m.p_gen[t, g].value or 0.0)
        return float((lines[g][:, 0] * p_mw + lines[g][:, 1]).max())

    model.piecewise_cost = pyo.Var(model.time, pyo.Set(initialize=list(lines)), initialize=start)
    rows = [(g, k) for g, own in lines.items() for k in range(len(own))]

    @model.Constraint(model.time, rows, doc="(1) l >= a P + b")
    def cost_line(m: Any, t: int, g: int, k: int) -> Any:
        slope, constant = lines[g][k].tolist()
        return m.piecewise_cost[t, g] >= slope * base * m.p_gen[t, g] + constant

    return model.piecewise_cost


def losses_mw(model: Any) -> Any:
    """Return (2), the active power lost in branches, MW summed over steps.

    In linear form it is the estimate r (P^2 + Q^2).
    """
    return model.periods.network.base_mva * sum(model.loss[t] for t in model.time)


def regulation_power(model: Any) -> Any:
    """Return (3), the charging and discharging power, MW summed over steps and batteries."""
    return model.periods.network.base_mva * terminal_power(model)


def curtailment(model: Any, generators: Sequence[str] | None = None) -> Any:
    """Return (4), what generators could give and do not, MW summed over steps.

    generators: names, default all. Raises ValueError when a generator is unknown, or has no limit
    to fall short of.
    """
    network, available = model.periods.network, model.periods.gen_p_max
    names = network.gen_name if generators is None else tuple(str(name) for name in generators)
    unknown = [name for name in names if name not in network.gen_name]
    if unknown:
        raise ValueError(
            f"{network.name}: no generator {unknown[0]!r}; there are "
            f"{', '.join(network.gen_name) or 'none'}"
        )
    total: Any = 0.0
    for g in (network.gen_name.index(name) for name in names):
        if not np.isfinite(available[:, g]).all():
            raise ValueError(
                f"{network.name}: generator {network.gen_name[g]!r} has no gen_p_max, so nothing "
                "tells what it curtails; give one, or name the generators to count"
            )
        total += sum(float(available[t, g]) - model.p_gen[t, g] for t in model.time)
    return network.base_mva * total


def voltage_deviation(model: Any, v_ref_pu: float = 1.0) -> Any:
    """Return (5), the squared deviation of voltages from `v_ref_pu`, summed over steps and buses.

    Raises ValueError when `v_ref_pu` is not positive.
    """
    if not v_ref_pu > 0:
        raise ValueError(f"voltage_deviation: v_ref_pu is {v_ref_pu}; it must be positive")
    return sum(
        ((model.w[t, i] - v_ref_pu**2) / (2 * v_ref_pu)) ** 2 for t in model.time for i in model.bus
    )


def energy_price(model: Any, price_per_mwh: ArrayLike) -> Any:
    """Return (6), what the energy drawn at the substations costs in $.

    price_per_mwh: one price or one per step, (T,), in $/MWh. Power fed back earns the same price.
    Raises ValueError when the prices do not fit the steps or are not finite. Also when generators
    stand for the grid above at every substation: these have a cost of their own.
    """
    periods = model.periods
    network, n_step = periods.network, periods.n_step
    price = _prices(price_per_mwh, network.name, n_step)
    if not len(model.substation):
        raise ValueError(
            f"{network.name}: generators stand for the grid above at every substation "
            "(gen_is_grid); use generation_cost, or set gen_is_grid to False"
        )
    rate = (periods.step_h * network.base_mva * np.broadcast_to(price, (n_step,))).tolist()
    return sum(rate[t] * model.p_substation[t, s] for t in model.time for s in model.substation)


def _prices(price_per_mwh: ArrayLike, name: str, n_step: int) -> FloatArray:
    """Return the prices as numbers, () or (n_step,); raises ValueError for anything else."""
    wanted = f"give one finite price or one for each of {n_step} steps"
    try:
        price = np.asarray(price_per_mwh, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: price_per_mwh is {price_per_mwh!r}; {wanted}") from None
    if price.shape not in ((), (n_step,)):
        raise ValueError(f"{name}: price_per_mwh has shape {price.shape}; {wanted}")
    bad = np.flatnonzero(~np.isfinite(price))
    if bad.size:
        place = f" of step {bad[0]}" if price.shape else ""
        raise ValueError(f"{name}: price_per_mwh{place} is {price.ravel()[bad[0]]}; {wanted}")
    return price


def _has_costs(network: Network) -> bool:
    return bool(network.gen_cost.any() or len(network.gen_cost_lines) or network.cost_error)


def set_objective(model: pyo.ConcreteModel, objective: Callable[[Any], Any] | None) -> None:
    """Set the model to minimise `objective(model)`.

    None is generation cost where any generator has a cost, and losses elsewhere. Warns where that
    cost leaves the energy from the grid above free. Raises ValueError when `objective` is no
    function, and when it returns nothing.
    """
    network = model.periods.network
    if objective is None:
        objective = generation_cost if _has_costs(network) else losses_mw
        if objective is generation_cost and len(model.substation):
            warnings.warn(
                f"{network.name}: the default objective is the cost of generators, in which energy "
                "from the grid above is free; give objective=lambda m: generation_cost(m) + "
                "energy_price(m, ...) to price that too",
                stacklevel=3,
            )
    elif not callable(objective):
        raise ValueError(
            f"{network.name}: objective is {objective!r}; give a function of the model, such as "
            "those of opf_objectives"
        )
    expression = objective(model)
    if expression is None:
        raise ValueError(
            f"{network.name}: objective returned nothing; return the expression to be minimised"
        )
    model.objective = pyo.Objective(expr=expression)
