"""Compiled Newton power flow on trees, with loops closed by link currents: the arithmetic of
`solve.py`.

A closed network is a spanning forest rooted at the substations, plus one *link* for every loop. At
voltage V = e + jf a bus with net demand s = p + jq and shunt y draws the current

    (1)  I(V) = conj(s / V) + y V

Newton's linearisation about V, with 2 x 2 real matrices acting on (e, f), is exact to second order,

    (2)  I(V') ~ T V' + c,   T = R(y) - conj(s / V^2) C,   c = 2 conj(s / V)

where R(y) multiplies by y and C conjugates. Seen from its parent through a series impedance z, a
subtree that draws T V + c draws, with U the parent's voltage,

    (3)  J = (1 + T Z)^-1 (T U + c),   V = U - z J

so one backward pass of (3) from the leaves and one forward pass from the roots is a full Newton
step in O(n) work, with no admittance matrix: a branch of zero impedance is as good as any.
Off-nominal taps multiply V and J by complex ratios. A link adds an unknown current that must
satisfy its own voltage drop; the tree's response to unit link currents gives a small dense system
(bordered Newton). The mismatch after a step follows from the remainder of (2), with d = V' - V:

    (4)  |mismatch in power| = |s| |d|^2 / |V|^2

which is exact, costs nothing, and is what convergence is judged by.

One long file on purpose: numba's cache notices a change only in the file of the function it cached,
and small functions are inlined only into what is compiled together with them (so they are not
cached themselves).
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

# Contraction and reassociation only: NaN and infinity must keep their meaning, they mark items that
# failed.
MATH = {"contract", "reassoc", "arcp", "nsz"}


@njit(error_model="numpy", fastmath=MATH)
def linearise(e, f, p, q, g, b):
    """Return T11, T12, T21, T22, c1, c2 of equation (2), and 1 / |V|^2."""
    m = 1.0 / (e * e + f * f)
    i_re = (p * e + q * f) * m
    i_im = (p * f - q * e) * m
    k_re = (i_re * e - i_im * f) * m
    k_im = (i_re * f + i_im * e) * m
    return g - k_re, -k_im - b, b - k_im, g + k_re, 2.0 * i_re, 2.0 * i_im, m


@njit(error_model="numpy", fastmath=MATH)
def through_impedance(t11, t12, t21, t22, c1, c2, r, x):
    """Return (1 + T Z)^-1 (T, c): equation (3), the subtree as its parent sees it, and (1 + T Z)^-1
    itself.
    """
    n11 = 1.0 + t11 * r + t12 * x
    n12 = t12 * r - t11 * x
    n21 = t21 * r + t22 * x
    n22 = 1.0 + t22 * r - t21 * x
    d = 1.0 / (n11 * n22 - n12 * n21)
    m11, m12, m21, m22 = n22 * d, -n12 * d, -n21 * d, n11 * d
    return (
        m11 * t11 + m12 * t21,
        m11 * t12 + m12 * t22,
        m21 * t11 + m22 * t21,
        m21 * t12 + m22 * t22,
        m11 * c1 + m12 * c2,
        m21 * c1 + m22 * c2,
        m11,
        m12,
        m21,
        m22,
    )


@njit(error_model="numpy", fastmath=MATH)
def through_ratio(t11, t12, t21, t22, c1, c2, a, b):
    """Return R(conj k) T R(k) and conj(k) c for the ratio k = a + jb: the subtree behind an ideal
    transformer.
    """
    u11, u12 = t11 * a + t12 * b, t12 * a - t11 * b
    u21, u22 = t21 * a + t22 * b, t22 * a - t21 * b
    return (
        a * u11 + b * u21,
        a * u12 + b * u22,
        a * u21 - b * u11,
        a * u22 - b * u12,
        a * c1 + b * c2,
        a * c2 - b * c1,
    )


@njit(cache=True)
def find_forest(
    closed, start, near_branch, near_bus, substation, order, parent, branch, links, seen, place
):
    """Walk the closed branches outwards from the substations; return the number of live buses and
    of links.

    Fills, per position in walking order: `order` (bus), `parent` (position, -1 at a root), `branch`
    (the one to the parent); `links` with the branches that close loops; `place` with each bus's
    position, -1 where no path leads.
    """
    place[:] = -1
    seen[:] = False
    n_live = 0
    n_link = 0
    for bus in substation:
        order[n_live] = bus
        parent[n_live] = -1
        branch[n_live] = -1
        place[bus] = n_live
        n_live += 1
    head = 0
    while head < n_live:
        bus = order[head]
        for k in range(start[bus], start[bus + 1]):
            b = near_branch[k]
            if not closed[b] or seen[b]:
                continue
            seen[b] = True
            other = near_bus[k]
            if place[other] >= 0:
                links[n_link] = b
                n_link += 1
                continue
            place[other] = n_live
            order[n_live] = other
            parent[n_live] = head
            branch[n_live] = b
            n_live += 1
        head += 1
    return n_live, n_link


@njit
def collect_shunts(closed, from_bus, to_bus, open_end, y_closed, y_open, y_bus, total):
    """Fill `total` (n_bus,) with bus shunts, the charging of closed branches and that of open ones
    left hanging.
    """
    total[:] = y_bus
    for b in range(closed.shape[0]):
        if closed[b]:
            total[from_bus[b]] += y_closed[b, 0]
            total[to_bus[b]] += y_closed[b, 1]
        elif open_end[b] == 2:
            total[from_bus[b]] += y_open[b, 0]
        elif open_end[b] == 1:
            total[to_bus[b]] += y_open[b, 1]


LANES = 32  # below 16 the compiler unrolls the lanes instead of using vector registers


@njit(cache=True, parallel=True, error_model="numpy")
def solve_one_forest(
    p,
    q,
    order,
    parent,
    forward,
    branch,
    near,
    far,
    z,
    shunt,
    v_root,
    tolerance,
    max_iterations,
    n_chunk,
    voltage,
    current,
    iterations,
):
    """Solve all items on one radial forest, LANES of them side by side.

    p, q: (B or 1, n_bus). By position in walking order: the bus, the parent's position (-1 at a
    root), the branch to it, whether that branch runs away from the root, the complex ratios on its
    parent's and its child's side, its impedance, the shunt admittance of the bus, the voltage of a
    root. Writes voltage (B, n_bus), current (B, n_branch; series, from -> to) and iterations (B,),
    -1 where it failed.
    """
    n_item = voltage.shape[0]
    n_block = (n_item + LANES - 1) // LANES
    for chunk in prange(n_chunk):
        rows = np.zeros((order.shape[0], _FIELDS * LANES))
        error = np.zeros(LANES)
        for block in range(chunk * n_block // n_chunk, (chunk + 1) * n_block // n_chunk):
            first = block * LANES
            width = min(LANES, n_item - first)
            _load_block(first, width, p, q, order, parent, near, far, v_root, rows)
            n_iteration = 0
            while n_iteration < max_iterations:
                n_iteration += 1
                _step_block(parent, near, far, z, shunt, rows, error)
                if error.max() <= tolerance:
                    break
            _store_block(
                first,
                width,
                n_iteration,
                tolerance,
                order,
                parent,
                forward,
                branch,
                rows,
                error,
                voltage,
                current,
                iterations,
            )


# Fields of a row: one row per position, each field LANES wide. Constant distances between the
# fields of one row are what lets the compiler use vector registers for the loops over lanes below.
_FIELDS = 14
_E, _F, _P, _Q, _W, _M, _T11, _T12, _T21, _T22, _C1, _C2, _J_RE, _J_IM = range(
    0, _FIELDS * LANES, LANES
)


@njit(error_model="numpy")
def _load_block(first, width, p, q, order, parent, near, far, v_root, rows):
    """Lay the demand of `width` items into lanes (the last item fills what is left) and start from
    no load.
    """
    for k in range(order.shape[0]):
        row = rows[k]
        bus = order[k]
        if parent[k] < 0:
            v = v_root[k]
        else:
            up = rows[parent[k]]
            v = complex(up[_E], up[_F]) * near[k] * far[k]
        for lane in range(LANES):
            item = first + min(lane, width - 1)
            row[_P + lane] = p[item if p.shape[0] > 1 else 0, bus]
            row[_Q + lane] = q[item if q.shape[0] > 1 else 0, bus]
            row[_W + lane] = abs(row[_P + lane]) + abs(row[_Q + lane])
            row[_E + lane] = v.real
            row[_F + lane] = v.imag


@njit(error_model="numpy")
def _step_block(parent, near, far, z, shunt, rows, error):
    """Take one Newton step in every lane; `error` receives the largest mismatch (4) of each."""
    n = parent.shape[0]
    for k in range(n):
        _linearise_row(rows[k], shunt[k].real, shunt[k].imag)
    for k in range(n - 1, -1, -1):
        if parent[k] < 0:
            continue
        if near[k] == 1.0 and far[k] == 1.0:
            _fold_row(rows[k], rows[parent[k]], z[k].real, z[k].imag)
        else:
            _turn_row(rows[k], far[k].real, far[k].imag)
            _fold_row(rows[k], rows[parent[k]], z[k].real, z[k].imag, near[k].real, near[k].imag)
    error[:] = 0.0
    for k in range(n):
        if parent[k] >= 0:
            _unfold_row(
                rows[k],
                rows[parent[k]],
                z[k].real,
                z[k].imag,
                near[k].real,
                near[k].imag,
                far[k].real,
                far[k].imag,
                error,
            )


@njit(error_model="numpy", fastmath=MATH)
def _linearise_row(row, g, b):
    for i in range(LANES):
        t11, t12, t21, t22, c1, c2, m = linearise(
            row[_E + i], row[_F + i], row[_P + i], row[_Q + i], g, b
        )
        row[_T11 + i] = t11
        row[_T12 + i] = t12
        row[_T21 + i] = t21
        row[_T22 + i] = t22
        row[_C1 + i] = c1
        row[_C2 + i] = c2
        row[_M + i] = m


@njit(error_model="numpy", fastmath=MATH)
def _turn_row(row, a, b):
    for i in range(LANES):
        t11, t12, t21, t22, c1, c2 = through_ratio(
            row[_T11 + i],
            row[_T12 + i],
            row[_T21 + i],
            row[_T22 + i],
            row[_C1 + i],
            row[_C2 + i],
            a,
            b,
        )
        row[_T11 + i] = t11
        row[_T12 + i] = t12
        row[_T21 + i] = t21
        row[_T22 + i] = t22
        row[_C1 + i] = c1
        row[_C2 + i] = c2


@njit(error_model="numpy", fastmath=MATH)
def _fold_row(row, up, r, x, a=1.0, b=0.0):
    for i in range(LANES):
        t11, t12, t21, t22, c1, c2, _, _, _, _ = through_impedance(
            row[_T11 + i],
            row[_T12 + i],
            row[_T21 + i],
            row[_T22 + i],
            row[_C1 + i],
            row[_C2 + i],
            r,
            x,
        )
        row[_T11 + i] = t11
        row[_T12 + i] = t12
        row[_T21 + i] = t21
        row[_T22 + i] = t22
        row[_C1 + i] = c1
        row[_C2 + i] = c2
        t11, t12, t21, t22, c1, c2 = through_ratio(t11, t12, t21, t22, c1, c2, a, b)
        up[_T11 + i] += t11
        up[_T12 + i] += t12
        up[_T21 + i] += t21
        up[_T22 + i] += t22
        up[_C1 + i] += c1
        up[_C2 + i] += c2


@njit(error_model="numpy", fastmath=MATH)
def _unfold_row(row, up, r, x, a, b, h, w, error):
    for i in range(LANES):
        u_re = a * up[_E + i] - b * up[_F + i]
        u_im = a * up[_F + i] + b * up[_E + i]
        i_re = row[_T11 + i] * u_re + row[_T12 + i] * u_im + row[_C1 + i]
        i_im = row[_T21 + i] * u_re + row[_T22 + i] * u_im + row[_C2 + i]
        s_re = u_re - r * i_re + x * i_im
        s_im = u_im - r * i_im - x * i_re
        v_re = h * s_re - w * s_im
        v_im = h * s_im + w * s_re
        d_re = v_re - row[_E + i]
        d_im = v_im - row[_F + i]
        row[_E + i] = v_re
        row[_F + i] = v_im
        row[_J_RE + i] = i_re
        row[_J_IM + i] = i_im
        mismatch = (d_re * d_re + d_im * d_im) * row[_M + i] * row[_W + i]
        # Written so that a NaN mismatch is kept: it must never look converged.
        error[i] = error[i] if mismatch <= error[i] else mismatch


@njit(error_model="numpy")
def _store_block(
    first,
    width,
    n_iteration,
    tolerance,
    order,
    parent,
    forward,
    branch,
    rows,
    error,
    voltage,
    current,
    iterations,
):
    for lane in range(width):
        failed = not error[lane] <= tolerance
        iterations[first + lane] = -1 if failed else n_iteration
        voltage[first + lane, :] = complex(np.nan, np.nan) if failed else complex(0.0, 0.0)
        current[first + lane, :] = complex(np.nan, np.nan) if failed else complex(0.0, 0.0)
    for k in range(order.shape[0]):
        row = rows[k]
        sign = 1.0 if forward[k] else -1.0
        for lane in range(width):
            if iterations[first + lane] < 0:
                continue
            voltage[first + lane, order[k]] = complex(row[_E + lane], row[_F + lane])
            if parent[k] >= 0:
                current[first + lane, branch[k]] = complex(
                    sign * row[_J_RE + lane], sign * row[_J_IM + lane]
                )


@njit(cache=True, parallel=True, error_model="numpy")
def solve_many_forests(
    p,
    q,
    closed,
    graph,
    branches,
    shunts,
    substation,
    v_substation,
    start,
    tolerance,
    max_iterations,
    n_chunk,
    voltage,
    current,
    iterations,
    energised,
):
    """Solve items that each have their own closed branches, radial or meshed.

    closed: (B or 1, n_branch). graph: (start, near_branch, near_bus), branches by bus. branches:
    (from_bus, to_bus, z, ratio). shunts: (any_branch_shunt, open_end, y_closed, y_open, y_bus),
    admittances at the buses. start: (B, 1 or 0, n_bus) voltages to begin with; without rows, and
    where one is 0 or not finite, from no load. Writes like `solve_one_forest`, and energised (B,
    n_bus).
    """
    n_item, n_bus = voltage.shape
    n_branch = current.shape[1]
    for chunk in prange(n_chunk):
        walk = np.empty((4, n_bus), np.int64)  # order, parent, branch by position; place by bus
        links = np.empty(n_branch, np.int64)
        seen = np.empty(n_branch, np.bool_)
        shunt = shunts[4].copy()
        demand = np.empty((n_bus, 2))
        state = np.zeros((n_bus, 11))
        line = np.zeros((n_bus, 6))
        for item in range(chunk * n_item // n_chunk, (chunk + 1) * n_item // n_chunk):
            row = closed[item if closed.shape[0] > 1 else 0]
            n_live, n_link = find_forest(
                row,
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
                    row, branches[0], branches[1], shunts[1], shunts[2], shunts[3], shunts[4], shunt
                )
            pi = item if p.shape[0] > 1 else 0
            qi = item if q.shape[0] > 1 else 0
            for k in range(n_live):
                demand[k, 0], demand[k, 1] = p[pi, walk[0, k]], q[qi, walk[0, k]]
            iterations[item] = solve_item(
                item,
                n_live,
                n_link,
                walk,
                links,
                branches,
                demand,
                shunt,
                v_substation,
                tolerance,
                max_iterations,
                state,
                line,
                voltage,
                current,
                start,
            )
            for bus in range(n_bus):
                energised[item, bus] = walk[3, bus] >= 0


# Columns of `state`, by position: the voltage, the linear model (2) and then (3), |V|^-2, the
# current J.
_S_E, _S_F, _S_T11, _S_T12, _S_T21, _S_T22, _S_C1, _S_C2, _S_M, _S_J_RE, _S_J_IM = range(11)
# Columns of `line`, by position: series impedance, complex ratios on the parent's and on the
# child's side.
_R, _X, _NEAR_RE, _NEAR_IM, _FAR_RE, _FAR_IM = range(6)


@njit(error_model="numpy", fastmath=MATH)
def solve_item(
    item,
    n,
    n_link,
    walk,
    links,
    branches,
    demand,
    shunt,
    v_substation,
    tolerance,
    max_iterations,
    state,
    line,
    voltage,
    current,
    start=None,
):
    """Solve one item, write its voltages and currents, and return its iterations, -1 where it
    failed.

    start: as in `solve_many_forests`; link currents need none, as each step finds them anew from
    the voltages. Everything is indexed in place: a row view here would cost more than the
    arithmetic on it.
    """
    n_root = v_substation.shape[0]
    tapped = start_flat(n, walk, branches, v_substation, state, line)
    if start is not None:
        _start_warm(item, n_root, n, walk, start, state)
    j_link = np.zeros(n_link, np.complex128)
    error = np.inf
    n_iteration = 0
    while n_iteration < max_iterations and not error <= tolerance:
        n_iteration += 1
        for k in range(n):
            y = shunt[walk[0, k]]
            t = linearise(
                state[k, _S_E], state[k, _S_F], demand[k, 0], demand[k, 1], y.real, y.imag
            )
            state[k, _S_T11], state[k, _S_T12], state[k, _S_T21], state[k, _S_T22] = (
                t[0],
                t[1],
                t[2],
                t[3],
            )
            state[k, _S_C1], state[k, _S_C2], state[k, _S_M] = t[4], t[5], t[6]
        if n_link:
            close_loops(n, n_link, walk, links, branches, state, line, j_link)
        _backward(n, n_root, walk, state, line, tapped)
        error = _forward(n, n_root, walk, state, line, demand, tapped)
        if not error < 1e30:
            break
    if not error <= tolerance:
        voltage[item, :] = complex(np.nan, np.nan)
        current[item, :] = complex(np.nan, np.nan)
        return -1
    voltage[item, :] = 0.0
    current[item, :] = 0.0
    for k in range(n):
        voltage[item, walk[0, k]] = complex(state[k, _S_E], state[k, _S_F])
        if k >= n_root:
            b = walk[2, k]
            sign = 1.0 if branches[0][b] == walk[0, walk[1, k]] else -1.0
            current[item, b] = complex(sign * state[k, _S_J_RE], sign * state[k, _S_J_IM])
    for c in range(n_link):
        current[item, links[c]] = j_link[c]
    return n_iteration


@njit(error_model="numpy")
def start_flat(n, walk, branches, v_substation, state, line):
    """Fill `line` and the no-load voltages of one item; return whether any branch has an
    off-nominal ratio.
    """
    from_bus, _, z, ratio = branches
    tapped = False
    for k in range(n):
        if k < v_substation.shape[0]:
            state[k, _S_E], state[k, _S_F] = v_substation[k].real, v_substation[k].imag
            continue
        b, up = walk[2, k], walk[1, k]
        line[k, _R], line[k, _X] = z[b].real, z[b].imag
        t = ratio[b]
        if t == 1.0:
            line[k, _NEAR_RE], line[k, _NEAR_IM], line[k, _FAR_RE], line[k, _FAR_IM] = (
                1.0,
                0.0,
                1.0,
                0.0,
            )
            state[k, _S_E], state[k, _S_F] = state[up, _S_E], state[up, _S_F]
            continue
        # The ideal transformer sits at the from end: on the parent's side of z, or on the child's.
        tapped = True
        forward = from_bus[b] == walk[0, up]
        near = 1.0 / t if forward else complex(1.0, 0.0)
        far = complex(1.0, 0.0) if forward else t
        line[k, _NEAR_RE], line[k, _NEAR_IM], line[k, _FAR_RE], line[k, _FAR_IM] = (
            near.real,
            near.imag,
            far.real,
            far.imag,
        )
        v = complex(state[up, _S_E], state[up, _S_F]) * near * far
        state[k, _S_E], state[k, _S_F] = v.real, v.imag
    return tapped


@njit(error_model="numpy")
def _start_warm(item, n_root, n, walk, start, state):
    """Take over the start voltages of one item, but at the substations."""
    if not start.shape[0]:
        return
    row = item if start.shape[0] > 1 else 0
    for k in range(n_root, n):
        v = start[row, walk[0, k]]
        if np.isfinite(v.real) and np.isfinite(v.imag) and v != 0:
            state[k, _S_E], state[k, _S_F] = v.real, v.imag


@njit(error_model="numpy", fastmath=MATH)
def _backward(n, n_root, walk, state, line, tapped):
    """Fold every subtree into its parent: equation (3) from the leaves to the roots."""
    for k in range(n - 1, n_root - 1, -1):
        t11, t12, t21, t22 = state[k, _S_T11], state[k, _S_T12], state[k, _S_T21], state[k, _S_T22]
        c1, c2 = state[k, _S_C1], state[k, _S_C2]
        if tapped:
            t11, t12, t21, t22, c1, c2 = through_ratio(
                t11, t12, t21, t22, c1, c2, line[k, _FAR_RE], line[k, _FAR_IM]
            )
        t11, t12, t21, t22, c1, c2, _, _, _, _ = through_impedance(
            t11, t12, t21, t22, c1, c2, line[k, _R], line[k, _X]
        )
        state[k, _S_T11], state[k, _S_T12], state[k, _S_T21], state[k, _S_T22] = t11, t12, t21, t22
        state[k, _S_C1], state[k, _S_C2] = c1, c2
        if tapped:
            t11, t12, t21, t22, c1, c2 = through_ratio(
                t11, t12, t21, t22, c1, c2, line[k, _NEAR_RE], line[k, _NEAR_IM]
            )
        up = walk[1, k]
        state[up, _S_T11] += t11
        state[up, _S_T12] += t12
        state[up, _S_T21] += t21
        state[up, _S_T22] += t22
        state[up, _S_C1] += c1
        state[up, _S_C2] += c2


@njit(error_model="numpy", fastmath=MATH)
def _forward(n, n_root, walk, state, line, demand, tapped):
    """Walk the new voltages outwards and return the largest mismatch (4)."""
    error = 0.0
    for k in range(n_root, n):
        up = walk[1, k]
        u_re, u_im = state[up, _S_E], state[up, _S_F]
        if tapped:
            a, b = line[k, _NEAR_RE], line[k, _NEAR_IM]
            u_re, u_im = a * u_re - b * u_im, a * u_im + b * u_re
        i_re = state[k, _S_T11] * u_re + state[k, _S_T12] * u_im + state[k, _S_C1]
        i_im = state[k, _S_T21] * u_re + state[k, _S_T22] * u_im + state[k, _S_C2]
        v_re = u_re - line[k, _R] * i_re + line[k, _X] * i_im
        v_im = u_im - line[k, _R] * i_im - line[k, _X] * i_re
        if tapped:
            a, b = line[k, _FAR_RE], line[k, _FAR_IM]
            v_re, v_im = a * v_re - b * v_im, a * v_im + b * v_re
        d_re, d_im = v_re - state[k, _S_E], v_im - state[k, _S_F]
        state[k, _S_E], state[k, _S_F] = v_re, v_im
        state[k, _S_J_RE], state[k, _S_J_IM] = i_re, i_im
        mismatch = (
            (d_re * d_re + d_im * d_im) * state[k, _S_M] * (abs(demand[k, 0]) + abs(demand[k, 1]))
        )
        # Written so that a NaN mismatch is kept: it must never look converged.
        if not mismatch <= error:
            error = mismatch
    return error


@njit(error_model="numpy", fastmath=MATH)
def close_loops(n, n_link, walk, links, branches, state, line, j_link):
    """Find the link currents of this Newton step and add them to the demand terms c of `state`.

    Column 0 of the response is the tree without link currents; columns 1 + 2 l and 2 + 2 l answer a
    unit real and imaginary current in link l. Each link demands V_from / t - V_to = z J.
    """
    from_bus, to_bus, z, ratio = branches
    n_column = 1 + 2 * n_link
    lifted = np.zeros((n, 4))
    re = np.zeros((n, n_column))
    im = np.zeros((n, n_column))
    for k in range(n):
        re[k, 0], im[k, 0] = state[k, _S_C1], state[k, _S_C2]
        lifted[k, 0], lifted[k, 1] = state[k, _S_T11], state[k, _S_T12]
        lifted[k, 2], lifted[k, 3] = state[k, _S_T21], state[k, _S_T22]
    for c in range(n_link):
        k, w = walk[3, from_bus[links[c]]], walk[3, to_bus[links[c]]]
        into = 1.0 / np.conj(ratio[links[c]])
        re[k, 1 + 2 * c] += into.real
        im[k, 1 + 2 * c] += into.imag
        re[k, 2 + 2 * c] -= into.imag
        im[k, 2 + 2 * c] += into.real
        re[w, 1 + 2 * c] -= 1.0
        im[w, 2 + 2 * c] -= 1.0
    respond(n, n_column, walk, state, line, lifted, re, im)
    system = np.zeros((2 * n_link, 2 * n_link))
    right = np.zeros(2 * n_link)
    for row in range(n_link):
        b = links[row]
        k, w = walk[3, from_bus[b]], walk[3, to_bus[b]]
        into = 1.0 / ratio[b]
        right[2 * row] = re[w, 0] - into.real * re[k, 0] + into.imag * im[k, 0]
        right[2 * row + 1] = im[w, 0] - into.real * im[k, 0] - into.imag * re[k, 0]
        for c in range(2 * n_link):
            system[2 * row, c] = into.real * re[k, c + 1] - into.imag * im[k, c + 1] - re[w, c + 1]
            system[2 * row + 1, c] = (
                into.real * im[k, c + 1] + into.imag * re[k, c + 1] - im[w, c + 1]
            )
        system[2 * row, 2 * row] -= z[b].real
        system[2 * row, 2 * row + 1] += z[b].imag
        system[2 * row + 1, 2 * row] -= z[b].imag
        system[2 * row + 1, 2 * row + 1] -= z[b].real
    _solve_dense(system, right)
    for c in range(n_link):
        j_link[c] = complex(right[2 * c], right[2 * c + 1])
        k, w = walk[3, from_bus[links[c]]], walk[3, to_bus[links[c]]]
        drawn = j_link[c] / np.conj(ratio[links[c]])
        state[k, _S_C1] += drawn.real
        state[k, _S_C2] += drawn.imag
        state[w, _S_C1] -= j_link[c].real
        state[w, _S_C2] -= j_link[c].imag


@njit(error_model="numpy", fastmath=MATH)
def respond(n, n_column, walk, state, line, lifted, re, im):
    """Turn the columns of demand terms (re, im) into the columns of voltages they cause."""
    for k in range(n - 1, -1, -1):
        up = walk[1, k]
        if up < 0:
            continue
        h, w, a, b = line[k, _FAR_RE], line[k, _FAR_IM], line[k, _NEAR_RE], line[k, _NEAR_IM]
        t11, t12, t21, t22, _, _ = through_ratio(
            lifted[k, 0], lifted[k, 1], lifted[k, 2], lifted[k, 3], 0.0, 0.0, h, w
        )
        t11, t12, t21, t22, _, _, m11, m12, m21, m22 = through_impedance(
            t11, t12, t21, t22, 0.0, 0.0, line[k, _R], line[k, _X]
        )
        lifted[k, 0], lifted[k, 1], lifted[k, 2], lifted[k, 3] = t11, t12, t21, t22
        t11, t12, t21, t22, _, _ = through_ratio(t11, t12, t21, t22, 0.0, 0.0, a, b)
        lifted[up, 0] += t11
        lifted[up, 1] += t12
        lifted[up, 2] += t21
        lifted[up, 3] += t22
        for c in range(n_column):
            d_re = h * re[k, c] + w * im[k, c]
            d_im = h * im[k, c] - w * re[k, c]
            j_re = m11 * d_re + m12 * d_im
            j_im = m21 * d_re + m22 * d_im
            re[k, c] = j_re
            im[k, c] = j_im
            re[up, c] += a * j_re + b * j_im
            im[up, c] += a * j_im - b * j_re
    for k in range(n):
        up = walk[1, k]
        if up < 0:
            re[k, :] = 0.0
            im[k, :] = 0.0
            re[k, 0], im[k, 0] = state[k, _S_E], state[k, _S_F]
            continue
        h, w, a, b = line[k, _FAR_RE], line[k, _FAR_IM], line[k, _NEAR_RE], line[k, _NEAR_IM]
        r, x = line[k, _R], line[k, _X]
        for c in range(n_column):
            u_re = a * re[up, c] - b * im[up, c]
            u_im = a * im[up, c] + b * re[up, c]
            i_re = lifted[k, 0] * u_re + lifted[k, 1] * u_im + re[k, c]
            i_im = lifted[k, 2] * u_re + lifted[k, 3] * u_im + im[k, c]
            v_re = u_re - r * i_re + x * i_im
            v_im = u_im - r * i_im - x * i_re
            re[k, c] = h * v_re - w * v_im
            im[k, c] = h * v_im + w * v_re


@njit(error_model="numpy")
def _solve_dense(a, b):
    """Overwrite b with the solution of a x = b by Gaussian elimination with partial pivoting; NaN
    where singular.

    Loop systems have two rows a loop: at that size a library call costs more than the arithmetic.
    """
    n = b.shape[0]
    for c in range(n):
        best = c
        for i in range(c + 1, n):
            if abs(a[i, c]) > abs(a[best, c]):
                best = i
        if a[best, c] == 0.0:
            b[:] = np.nan
            return
        if best != c:
            for k in range(c, n):
                a[c, k], a[best, k] = a[best, k], a[c, k]
            b[c], b[best] = b[best], b[c]
        for i in range(c + 1, n):
            factor = a[i, c] / a[c, c]
            if factor != 0.0:
                for k in range(c, n):
                    a[i, k] -= factor * a[c, k]
                b[i] -= factor * b[c]
    for c in range(n - 1, -1, -1):
        for k in range(c + 1, n):
            b[c] -= a[c, k] * b[k]
        b[c] /= a[c, c]
