"""Compiled search for the cheapest safe decision: least load shedding per topology, topologies
raced by their bounds.

For one topology with AC voltages V at the shed fractions s:

    (1)  value of limit k       g_k(x),  x = (w, P, ell, y) of the AC state, g_k linear, from the compiled model
    (2)  its sensitivity        G_ki = d g_k / d s_i = lambda_k,i . conj((p_i + j q_i) / V_i)
    (3)  adjoint                Y' lambda_k = d g_k / d V,  Y the power flow's linearised nodal matrix
    (4)  least shedding         min sum of p_i s_i   s.t.  every cut so far,  floor_i <= s_i <= 1
         cut (k, s0)            g_k(s0) + sum of G_ki (s_i - s0_i) <= u_k

(3) is the tree sweep of `power_flow/newton_sweep.py` once more: the transpose of a nodal matrix in real form belongs to the
same network with conjugate impedances and transposed bus terms T, so the same code solves it, loops
included. (4) starts dual feasible at the floor (shedding only costs), so a bounded dual simplex
with bound flipping solves it in about one pivot per active limit. Cuts of earlier rounds are kept
(Kelley, J. SIAM 8(4), 1960): losses make the limits convex in s where power flows towards the
loads, so the value of (4) then bounds the least shedding from below, and keeping the cuts stops two
vertices from taking turns. From round ONLY_MORE on an item sheds only ever more, which ends it.

Of several topologies each gets one round first; then the one with the lowest bound is finished, and
so on until no bound is below the best cost found.

One long file on purpose: every function here is inlined into the one kernel `race`, and numba's
cache watches only the file that holds the kernel. Split over files, a change to a helper would go
on running as it was before. The functions taken from `power_flow/newton_sweep.py` are the
exception, as the power flow needs them too: after a change there, touch this file.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from feederguard.models.load_transfer.shedding import can_shed, kept_share
from feederguard.models.power_flow.newton_sweep import (
    _R,
    _X,
    collect_shunts,
    find_forest,
    linearise,
    respond,
    solve_item,
)

MAX_CUTS = 48  # in one linear program; the slackest gives way
MAX_NEW = 16  # limits linearised in one round, the most broken ones
MAX_ROUNDS = 25
ONLY_MORE = 8
LEAST_IMPEDANCE = 1e-6  # a branch of no impedance gets this one in the sensitivities
INSIDE = (
    1e-6  # aim this far inside a limit, so that the AC solution lands within the judge's tolerance
)

# What a column of the compiled limits is.
COLUMN_W, COLUMN_P, COLUMN_ELL, COLUMN_Y = range(4)
# What became of a candidate.
SKIPPED, BOUNDED, SAFE, UNSAFE = range(4)


@njit(cache=True, parallel=True, error_model="numpy")
def race(
    p_load,
    q_load,
    p_gen,
    floor,
    cutoff,
    first,
    closed,
    fixed_cost,
    load_cost,
    graph,
    branches,
    shunts,
    substation,
    v_substation,
    limits,
    flow_tolerance,
    tolerance,
    finish_all,
    n_chunk,
    winner,
    shed,
    cost,
    n_flow,
    status,
    active,
):
    """Find for each scenario the cheapest safe candidate and its least shedding.

    p_load, q_load, p_gen, floor: (B, n_bus). cutoff: (B,) costs to beat. first: (B + 1,), scenario
    b has the candidates first[b]:first[b + 1] of closed (K, n_branch), fixed_cost (K,). load_cost:
    (3,) polynomial of the cost in total shed power, pu. limits: (ell_is_loss, kind, index,
    constant, start, column, value, lower, upper). finish_all: finish every candidate. Writes per
    scenario the winner (-1 where none is safe and beats the cutoff) and its shed fractions; per
    candidate the cost (a bound where the status is BOUNDED), flows spent, status, and which limits
    were broken on the way (K, n_limit).
    """
    n_scenario, n_bus = p_load.shape
    n_branch, n_limit = closed.shape[1], active.shape[1]
    for chunk in prange(n_chunk):
        walk = np.empty((4, n_bus), np.int64)
        links = np.empty(n_branch, np.int64)
        seen = np.empty(n_branch, np.bool_)
        shunt = shunts[4].copy()
        state, line, demand = np.zeros((n_bus, 11)), np.zeros((n_bus, 6)), np.empty((n_bus, 2))
        voltage, current = (
            np.empty((1, n_bus), np.complex128),
            np.empty((1, n_branch), np.complex128),
        )
        x, excess, side = np.zeros(limits[1].shape[0]), np.zeros(n_limit), np.zeros(n_limit)
        cuts, right = np.zeros((MAX_CUTS, n_bus)), np.zeros(MAX_CUTS)
        rows = np.empty(MAX_NEW, np.int64)
        trial, low = np.empty(n_bus), np.empty(n_bus)
        for b in range(chunk * n_scenario // n_chunk, (chunk + 1) * n_scenario // n_chunk):
            best = cutoff[b]
            winner[b] = -1
            # One round for all first; then whole runs, the lowest bound first. One call, since it
            # is compiled in place.
            k, screening = first[b], not finish_all
            while True:
                if not screening and not finish_all:
                    k = -1
                    for other in range(first[b], first[b + 1]):
                        if (
                            status[other] == BOUNDED
                            and cost[other] < best
                            and (k < 0 or cost[other] < cost[k])
                        ):
                            k = other
                    if k < 0:
                        break
                elif k == first[b + 1]:
                    if finish_all:
                        break
                    screening = False
                    continue
                elif fixed_cost[k] >= best:
                    k += 1
                    continue
                n_round = 1 if screening else MAX_ROUNDS
                best = _run(
                    b,
                    k,
                    n_round,
                    best,
                    p_load,
                    q_load,
                    p_gen,
                    floor,
                    closed,
                    fixed_cost,
                    load_cost,
                    graph,
                    branches,
                    shunts,
                    substation,
                    v_substation,
                    limits,
                    flow_tolerance,
                    tolerance,
                    walk,
                    links,
                    seen,
                    shunt,
                    state,
                    line,
                    demand,
                    voltage,
                    current,
                    x,
                    excess,
                    side,
                    cuts,
                    right,
                    rows,
                    trial,
                    low,
                    winner,
                    shed,
                    cost,
                    n_flow,
                    status,
                    active,
                )
                k += 1


@njit(error_model="numpy")
def _run(
    b,
    k,
    n_round,
    best,
    p_load,
    q_load,
    p_gen,
    floor,
    closed,
    fixed_cost,
    load_cost,
    graph,
    branches,
    shunts,
    substation,
    v_substation,
    limits,
    flow_tolerance,
    tolerance,
    walk,
    links,
    seen,
    shunt,
    state,
    line,
    demand,
    voltage,
    current,
    x,
    excess,
    side,
    cuts,
    right,
    rows,
    trial,
    low,
    winner,
    shed,
    cost,
    n_flow,
    status,
    active,
):
    """Give candidate k of scenario b up to n_round rounds, stop once its bound reaches `best`;
    return the best cost now.
    """
    ell_is_loss, kind, index, constant, start, column, value, lower, upper = limits
    n_bus = p_load.shape[1]
    n, n_link = find_forest(
        closed[k],
        graph[0],
        graph[1],
        graph[2],
        substation,
        walk[0],
        walk[1],
        walk[2],
        links,
        seen,
        walk[3],
    )
    if shunts[0]:
        collect_shunts(
            closed[k], branches[0], branches[1], shunts[1], shunts[2], shunts[3], shunts[4], shunt
        )
    dark = 0.0
    for i in range(n_bus):
        trial[i] = low[i] = floor[b, i]
        if walk[3, i] < 0:
            dark += p_load[b, i]
    n_cut = 0
    status[k] = UNSAFE
    cost[k] = np.inf
    for turn in range(n_round):
        live = 0.0
        for i in range(n):
            bus = walk[0, i]
            share = kept_share(p_load[b, bus], trial[bus])
            live += p_load[b, bus] * trial[bus]
            demand[i, 0], demand[i, 1] = (
                p_load[b, bus] * share - p_gen[b, bus],
                q_load[b, bus] * share,
            )
        n_flow[k] += 1
        iterations = solve_item(
            0,
            n,
            n_link,
            walk,
            links,
            branches,
            demand,
            shunt,
            v_substation,
            flow_tolerance,
            20,
            state,
            line,
            voltage,
            current,
        )
        if iterations < 0:
            # No state to linearise at: shed half of what is left.
            everything = True
            for i in range(n_bus):
                everything = everything and trial[i] == 1.0
                trial[i] = trial[i] + 0.5 * (1.0 - trial[i]) if trial[i] < 0.98 else 1.0
            if everything:
                status[k] = UNSAFE
                return best
            status[k] = BOUNDED
            cost[k] = fixed_cost[k] + _polynomial(load_cost, dark)
            continue
        limit_columns(
            k, closed, voltage, current, walk[3], branches, shunts, ell_is_loss, kind, index, x
        )
        worst = limit_excess(
            x, walk[3], kind, index, constant, start, column, value, lower, upper, excess, side
        )
        if worst <= tolerance:
            status[k] = SAFE
            cost[k] = fixed_cost[k] + _polynomial(load_cost, dark + live)
            if cost[k] < best:
                best = cost[k]
                winner[b] = k
                for i in range(n_bus):
                    shed[b, i] = trial[i]
            return best
        n_new = _choose_rows(k, excess, active, tolerance, rows)
        n_cut = _add_cuts(
            b,
            n,
            n_link,
            n_new,
            n_cut,
            walk,
            links,
            branches,
            shunts,
            shunt,
            line,
            voltage,
            current,
            demand,
            p_load,
            q_load,
            trial,
            ell_is_loss,
            kind,
            index,
            start,
            column,
            value,
            side,
            excess,
            rows,
            cuts,
            right,
        )
        if turn >= ONLY_MORE:
            for i in range(n_bus):
                low[i] = trial[i]
        moved, live = _least(b, n, n_cut, walk, cuts, right, p_load, trial, low)
        status[k] = BOUNDED
        cost[k] = fixed_cost[k] + _polynomial(load_cost, dark + live)
        if cost[k] >= best:
            return best
        if not moved:
            # Linearised, nothing more can be done.
            break
    if n_round > 1:
        status[k] = UNSAFE
    return best


@njit(error_model="numpy")
def _polynomial(coefficients, s):
    return coefficients[0] + s * (coefficients[1] + s * coefficients[2])


@njit(error_model="numpy")
def limit_columns(
    item, closed, voltage, current, place, branches, shunts, ell_is_loss, kind, index, x
):
    """Fill `x` with the AC state in the columns of the compiled limits; a dark bus counts as 1 pu."""
    from_bus, to_bus, z, ratio = branches
    y_closed = shunts[2]
    for c in range(kind.shape[0]):
        k = index[c]
        if kind[c] == COLUMN_W:
            v = voltage[0, k]
            x[c] = v.real * v.real + v.imag * v.imag if place[k] >= 0 else 1.0
        elif kind[c] == COLUMN_Y:
            x[c] = 1.0 if closed[item, k] else 0.0
        elif not closed[item, k]:
            x[c] = 0.0
        else:
            v_from, v_to, j = voltage[0, from_bus[k]], voltage[0, to_bus[k]], current[0, k]
            at_from = j / np.conj(ratio[k]) + y_closed[k, 0] * v_from
            at_to = -j + y_closed[k, 1] * v_to
            sent = (v_from * np.conj(at_from)).real
            if kind[c] == COLUMN_P:
                x[c] = sent
            elif ell_is_loss:
                r = z[k].real
                x[c] = (sent + (v_to * np.conj(at_to)).real) / r if r > 0 else 0.0
            else:
                x[c] = max(abs(at_from) ** 2, abs(at_to) ** 2)


@njit(error_model="numpy")
def limit_excess(x, place, kind, index, constant, start, column, value, lower, upper, excess, side):
    """Fill `excess` with the distance beyond the nearer bound of each limit (negative inside);
    return the largest.

    side: +1 where the upper bound is the nearer one, -1 where the lower one is. Limits of dark
    buses hold.
    """
    worst = 0.0
    for k in range(constant.shape[0]):
        total = constant[k]
        dark = False
        for t in range(start[k], start[k + 1]):
            total += value[t] * x[column[t]]
            dark = dark or (kind[column[t]] == COLUMN_W and place[index[column[t]]] < 0)
        above, below = total - upper[k], lower[k] - total
        excess[k] = -1.0 if dark else max(above, below)
        side[k] = 1.0 if above >= below else -1.0
        worst = max(worst, excess[k])
    return worst


@njit(error_model="numpy")
def _choose_rows(k, excess, active, tolerance, rows):
    """List the limits to linearise, the MAX_NEW most broken; mark all broken ones in `active`;
    return the number.
    """
    n_row = 0
    for i in range(excess.shape[0]):
        if not excess[i] > tolerance:
            continue
        active[k, i] = True
        if n_row < MAX_NEW:
            rows[n_row] = i
            n_row += 1
            continue
        least = 0
        for c in range(1, MAX_NEW):
            if excess[rows[c]] < excess[rows[least]]:
                least = c
        if excess[i] > excess[rows[least]]:
            rows[least] = i
    return n_row


@njit(error_model="numpy")
def _add_branch_gradient(
    c, scale, which, v_from, v_to, j, z, ratio, y_from, y_to, from_place, to_place, re, im
):
    """Subtract from column c the gradient, by bus voltage, of a branch quantity: 0 P sent, 1 P
    lost, 2 squared current.
    """
    at_from = j / np.conj(ratio) + y_from * v_from
    at_to = -j + y_to * v_to
    by_from, by_to, by_j = 0j, 0j, 0j
    if which == 0 or which == 1:
        by_from += at_from + np.conj(y_from) * v_from
        by_j += v_from / ratio
    if which == 1:
        by_to += at_to + np.conj(y_to) * v_to
        by_j -= v_to
    if which == 2:
        if abs(at_from) >= abs(at_to):
            by_from += 2.0 * np.conj(y_from) * at_from
            by_j += 2.0 * at_from / ratio
        else:
            by_to += 2.0 * np.conj(y_to) * at_to
            by_j -= 2.0 * at_to
    if abs(z) < LEAST_IMPEDANCE:
        z = complex(0.0, LEAST_IMPEDANCE)
    by_from += np.conj(1.0 / (ratio * z)) * by_j
    by_to -= np.conj(1.0 / z) * by_j
    if from_place >= 0:
        re[from_place, c] -= scale * by_from.real
        im[from_place, c] -= scale * by_from.imag
    if to_place >= 0:
        re[to_place, c] -= scale * by_to.real
        im[to_place, c] -= scale * by_to.imag


@njit(error_model="numpy")
def _add_cuts(
    b,
    n,
    n_link,
    n_row,
    n_cut,
    walk,
    links,
    branches,
    shunts,
    shunt,
    line,
    voltage,
    current,
    demand,
    p_load,
    q_load,
    trial,
    ell_is_loss,
    kind,
    index,
    start,
    column,
    value,
    side,
    excess,
    rows,
    cuts,
    right,
):
    """Append the cuts of the chosen limits at `trial`: sum of cuts[c, k] s_k <= right[c], k by
    position.
    """
    gradient = _sensitivities(
        b,
        n,
        n_link,
        n_row,
        rows,
        walk,
        links,
        branches,
        shunts,
        shunt,
        line,
        voltage,
        current,
        demand,
        p_load,
        q_load,
        ell_is_loss,
        kind,
        index,
        start,
        column,
        value,
        side,
    )
    for c in range(n_row):
        place = n_cut
        if n_cut < MAX_CUTS:
            n_cut += 1
        else:
            # Full: the cut with most room at this point gives way.
            slack = -np.inf
            for i in range(MAX_CUTS):
                room = right[i]
                for k in range(n):
                    room -= cuts[i, k] * trial[walk[0, k]]
                if room > slack:
                    place, slack = i, room
        right[place] = -(excess[rows[c]] + INSIDE)
        for k in range(n):
            cuts[place, k] = gradient[c, k]
            right[place] += gradient[c, k] * trial[walk[0, k]]
    return n_cut


@njit(error_model="numpy")
def _sensitivities(
    b,
    n,
    n_link,
    n_row,
    rows,
    walk,
    links,
    branches,
    shunts,
    shunt,
    line,
    voltage,
    current,
    demand,
    p_load,
    q_load,
    ell_is_loss,
    kind,
    index,
    start,
    column,
    value,
    side,
):
    """Return G of (2) for the chosen rows, (n_row, n) by position; a lower bound counts as an upper
    one of -g.
    """
    from_bus, to_bus, z, ratio = branches
    n_column = n_row + 2 * n_link
    re, im = np.zeros((n, n_column)), np.zeros((n, n_column))
    for c in range(n_row):
        k = rows[c]
        for t in range(start[k], start[k + 1]):
            col, scale = column[t], side[k] * value[t]
            what, i = kind[col], index[col]
            if what == COLUMN_W:
                place = walk[3, i]
                if place >= 0:
                    re[place, c] -= 2.0 * scale * voltage[0, i].real
                    im[place, c] -= 2.0 * scale * voltage[0, i].imag
            elif what == COLUMN_P or what == COLUMN_ELL:
                which = 0 if what == COLUMN_P else (1 if ell_is_loss else 2)
                if which == 1:
                    r = z[i].real
                    if not r > 0:
                        continue
                    scale = scale / r
                _add_branch_gradient(
                    c,
                    scale,
                    which,
                    voltage[0, from_bus[i]],
                    voltage[0, to_bus[i]],
                    current[0, i],
                    z[i],
                    ratio[i],
                    shunts[2][i, 0],
                    shunts[2][i, 1],
                    walk[3, from_bus[i]],
                    walk[3, to_bus[i]],
                    re,
                    im,
                )
    lifted = np.empty((n, 4))
    roots = np.zeros((n, 11))
    for k in range(n):
        bus = walk[0, k]
        v, y = voltage[0, bus], shunt[bus]
        t = linearise(v.real, v.imag, demand[k, 0], demand[k, 1], y.real, y.imag)
        # Transposed, and impedances conjugated below: the adjoint network.
        lifted[k, 0], lifted[k, 1], lifted[k, 2], lifted[k, 3] = t[0], t[2], t[1], t[3]
        line[k, _X] = -line[k, _X]
        if walk[1, k] >= 0 and line[k, _R] ** 2 + line[k, _X] ** 2 < LEAST_IMPEDANCE**2:
            line[k, _R], line[k, _X] = 0.0, -LEAST_IMPEDANCE
    for c in range(n_link):
        k, w = walk[3, from_bus[links[c]]], walk[3, to_bus[links[c]]]
        into = 1.0 / np.conj(ratio[links[c]])
        a = n_row + 2 * c
        re[k, a] += into.real
        im[k, a] += into.imag
        re[k, a + 1] -= into.imag
        im[k, a + 1] += into.real
        re[w, a] -= 1.0
        im[w, a + 1] -= 1.0
    respond(n, n_column, walk, roots, line, lifted, re, im)
    if n_link:
        _close(n, n_link, n_row, walk, links, branches, re, im)
    gradient = np.zeros((n_row, n))
    for k in range(n):
        bus = walk[0, k]
        if can_shed(p_load[b, bus]):
            change = np.conj(complex(p_load[b, bus], q_load[b, bus]) / voltage[0, bus])
            for c in range(n_row):
                gradient[c, k] = re[k, c] * change.real + im[k, c] * change.imag
    return gradient


@njit(error_model="numpy")
def _close(n, n_link, n_row, walk, links, branches, re, im):
    """Add to the first n_row columns the link currents that close the loops (bordered system,
    conjugate impedances).
    """
    from_bus, to_bus, z, ratio = branches
    size = 2 * n_link
    system = np.zeros((size, size + n_row))
    for row in range(n_link):
        b = links[row]
        k, w = walk[3, from_bus[b]], walk[3, to_bus[b]]
        into = 1.0 / ratio[b]
        for c in range(size + n_row):
            # Unknown columns first, then the right-hand sides with the opposite sign.
            source = n_row + c if c < size else c - size
            d_re = into.real * re[k, source] - into.imag * im[k, source] - re[w, source]
            d_im = into.real * im[k, source] + into.imag * re[k, source] - im[w, source]
            system[2 * row, c] = d_re if c < size else -d_re
            system[2 * row + 1, c] = d_im if c < size else -d_im
        r, x = z[b].real, -z[b].imag
        if r * r + x * x < LEAST_IMPEDANCE**2:
            r, x = 0.0, -LEAST_IMPEDANCE
        system[2 * row, 2 * row] -= r
        system[2 * row, 2 * row + 1] += x
        system[2 * row + 1, 2 * row] -= x
        system[2 * row + 1, 2 * row + 1] -= r
    _eliminate(system, size)
    for k in range(n):
        for c in range(n_row):
            for u in range(size):
                re[k, c] += re[k, n_row + u] * system[u, size + c]
                im[k, c] += im[k, n_row + u] * system[u, size + c]


@njit(error_model="numpy")
def _eliminate(a, n):
    """Solve for the columns of `a` (n, n + m) beyond n, in place, with partial pivoting."""
    width = a.shape[1]
    for c in range(n):
        best = c
        for i in range(c + 1, n):
            if abs(a[i, c]) > abs(a[best, c]):
                best = i
        if best != c:
            for k in range(c, width):
                a[c, k], a[best, k] = a[best, k], a[c, k]
        for i in range(n):
            if i != c and a[i, c] != 0.0:
                factor = a[i, c] / a[c, c]
                for k in range(c, width):
                    a[i, k] -= factor * a[c, k]
    for c in range(n):
        for k in range(n, width):
            a[c, k] /= a[c, c]


@njit(error_model="numpy")
def _least(b, n, n_row, walk, cuts, right, p_load, trial, low):
    """Solve (4) from the floor `low`, write `trial`; return whether it moved, and the shed power of
    live buses.

    Dictionary form: slack_k = beta_k + sum of table_kj x_j over the nonbasic x_j, each at a bound.
    A row that every variable at its best bound cannot satisfy is left broken: the caller sees it in
    the next AC solution.
    """
    # Column j stands for the bus at position j while j is nonbasic; after a pivot for the variable
    # that left.
    table = -cuts[:n_row, :n]
    beta = right[:n_row].copy()
    width = np.zeros(n)  # range of the nonbasic variable in column j
    at_upper = np.zeros(n, np.bool_)
    cost = np.zeros(n)  # reduced costs
    owner = np.arange(n)  # variable in column j: bus position, or n + row for a slack
    basic = n + np.arange(n_row)
    high = np.full(n_row, np.inf)  # upper bound of the basic variable of a row; lower bounds are 0
    given_up = np.zeros(n_row, np.bool_)
    for k in range(n):
        bus = walk[0, k]
        if can_shed(p_load[b, bus]):
            width[k] = max(1.0 - low[bus], 0.0)
            cost[k] = p_load[b, bus]
            for c in range(n_row):
                beta[c] += table[c, k] * low[bus]
    for _ in range(20 * (n_row + 1)):
        row, short, up = -1, 1e-9, True
        for c in range(n_row):
            if given_up[c]:
                continue
            if -beta[c] > short:
                row, short, up = c, -beta[c], True
            elif beta[c] - high[c] > short:
                row, short, up = c, beta[c] - high[c], False
        if row < 0:
            break
        if not _pivot(row, short, up, table, beta, width, at_upper, cost, owner, basic, high):
            given_up[row] = True
    answer = np.zeros(n)
    for k in range(n):
        if owner[k] < n and at_upper[k]:
            answer[owner[k]] = width[k]
    for c in range(n_row):
        if basic[c] < n:
            answer[basic[c]] = min(max(beta[c], 0.0), high[c])
    total, moved = 0.0, False
    for k in range(n):
        bus = walk[0, k]
        if can_shed(p_load[b, bus]):
            new = min(low[bus] + answer[k], 1.0)
            moved = moved or abs(new - trial[bus]) > 1e-12
            trial[bus] = new
            total += p_load[b, bus] * new
    return moved, total


@njit(error_model="numpy")
def _pivot(row, short, up, table, beta, width, at_upper, cost, owner, basic, high):
    """Raise (up) or lower the basic variable of `row` by `short`: flip bounds, then exchange; False
    where it cannot.
    """
    n_row, n = table.shape
    direction = 1.0 if up else -1.0
    while True:
        best, best_ratio, best_size = -1, np.inf, 0.0
        for j in range(n):
            if width[j] <= 0.0:
                continue
            slope = direction * table[row, j]
            # From its lower bound a variable can only rise, from its upper bound only fall.
            if at_upper[j]:
                slope = -slope
            if slope <= 1e-11:
                continue
            ratio = abs(cost[j]) / slope
            if ratio < best_ratio - 1e-12 or (ratio < best_ratio + 1e-12 and slope > best_size):
                best, best_ratio, best_size = j, ratio, slope
        if best < 0:
            return False
        if best_size * width[best] >= short:
            break
        # Its whole range is not enough: take all of it, go on with the next.
        step = -width[best] if at_upper[best] else width[best]
        for c in range(n_row):
            beta[c] += table[c, best] * step
        short -= best_size * width[best]
        at_upper[best] = not at_upper[best]
        # At its other bound the variable has nothing left to give to this row.
        if short <= 1e-12:
            return True
    _exchange(
        row, best, direction * short, up, table, beta, width, at_upper, cost, owner, basic, high
    )
    return True


@njit(error_model="numpy")
def _exchange(row, j, rise, up, table, beta, width, at_upper, cost, owner, basic, high):
    """Make column j basic in `row`, whose variable moves by `rise` to its bound and becomes
    nonbasic there.
    """
    n_row, n = table.shape
    pivot = table[row, j]
    step = rise / pivot
    for c in range(n_row):
        beta[c] += table[c, j] * step
    entering = (width[j] if at_upper[j] else 0.0) + step
    leaving_high, leaving = high[row], basic[row]
    basic[row], owner[j] = owner[j], leaving
    high[row] = width[j]
    width[j] = leaving_high
    at_upper[j] = not up
    beta[row] = entering
    # x_j = (basic - beta - sum of the others) / pivot, put into every other row and into the
    # objective.
    for k in range(n):
        table[row, k] = 1.0 / pivot if k == j else -table[row, k] / pivot
    for c in range(n_row):
        if c != row:
            factor = table[c, j]
            for k in range(n):
                table[c, k] = (
                    factor * table[row, k] if k == j else table[c, k] + factor * table[row, k]
                )
    factor = cost[j]
    for k in range(n):
        cost[k] = factor * table[row, k] if k == j else cost[k] + factor * table[row, k]
