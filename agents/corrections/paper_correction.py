"""The paper's safe action correction.

It sheds a little at the most sensitive bus and runs the flow again, until the limits hold.

Source: Zhou et al., Energy Engineering 121(6), 2024, section 3.3. s_i shed fraction, s the limits
(4), (5) of `models/reconfiguration.py` on the AC state:

    while a limit is broken:   k = the limit broken most,  i = the bus most sensitive for k
        (20)  s_i <- min(s_i + alpha, 1)

One step at one bus per AC flow, alpha of that bus's own demand. The sensitivity is that of
`models/power_flow/line_node_ratio.py`, from M_lambda and Y_node^-1 cached per topology, for a load
that keeps its power factor:

    power limit     (18) at the end of the line where the limit is broken
    current limit   Re(conj(J_k) / |J_k| lambda_ki conj((1 + j q_i / p_i) / U_i)),
                    J_k the series current
    voltage limit   Re(conj(U_j) / |U_j| Z_ji conj((1 + j q_i / p_i) / U_i)),  Z = Y_node^-1

The paper treats overloaded lines only. Ours has three rules more:

- Voltage limits count too.
- Where no bus is left that helps the limit broken most, the next limit is taken.
- Where the flow has no solution, no limit can be ranked. The step then goes to the bus whose
  remaining demand times |Z_ii| is largest.

Shedding cannot lower a voltage that is too high, unless the load is capacitive. Nor can it make a
meshed decision radial. Such decisions end unsafe, and say so.

Work: one AC flow a step. 1 / alpha steps empty one bus, so an item takes at most about (number of
load buses) / alpha steps. The loop is compiled (`shedding_steps.py`), and no item waits for
another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np

from feederguard.agents.corrections.shedding_steps import (
    AS_PROPOSED,
    CORRECTED,
    CORRECTION_ENDS,
    HIGH_VOLTAGE,
    NOT_RADIAL,
    NOTHING_LEFT,
    OUT_OF_STEPS,
    Batch,
    Found,
    Rule,
    Sensitivities,
    correct_items,
)
from feederguard.models.arrays import BoolArray, IntArray, threads_for
from feederguard.models.load_transfer import (
    Decisions,
    Scenarios,
    Setting,
    check_decisions,
    resolve_setting,
)
from feederguard.models.load_transfer.ac_state import lay_out_limits
from feederguard.models.load_transfer.judge import SAFE_TOLERANCE
from feederguard.models.load_transfer.least_shedding import FLOW_TOLERANCE_MVA
from feederguard.models.load_transfer.rules import transfer_rules
from feederguard.models.load_transfer.shedding import kept
from feederguard.models.network import Network
from feederguard.models.network.graph import energised_buses
from feederguard.models.network.parallel import has_loop
from feederguard.models.power_flow.layout import prepare
from feederguard.models.power_flow.line_node_ratio import CACHE_MB, RatioCache

__all__ = [
    "AS_PROPOSED",
    "CORRECTED",
    "CORRECTION_ENDS",
    "HIGH_VOLTAGE",
    "NOTHING_LEFT",
    "NOT_RADIAL",
    "OUT_OF_STEPS",
    "CorrectionRun",
    "PaperCorrection",
]


@dataclass(frozen=True, eq=False)
class CorrectionRun:
    """What the correction did with each item of a batch."""

    decisions: Decisions  # topology as proposed, shedding nowhere below the proposed one
    end: IntArray  # (B,) index into CORRECTION_ENDS
    n_steps: IntArray  # (B,) steps (20)
    n_flows: IntArray  # (B,) AC power flows run
    # (B,) limit still broken most, in the order of `limit_places`; -1 none or no flow
    worst_limit: IntArray

    @property
    def safe(self) -> BoolArray:
        """Whether every limit holds by AC flow, (B,)."""
        return np.asarray((self.end == AS_PROPOSED) | (self.end == CORRECTED))


class PaperCorrection:
    """The correction (20) of one network and setting.

    alpha: fraction of a bus's demand shed per step. max_steps: bound on the steps of an item;
    default none but that every bus can be emptied. cache_mb: size of the cache of sensitivities.

    Raises ValueError when alpha is outside (0, 1] or max_steps below 1, and as `resolve_setting`.
    """

    def __init__(
        self,
        network: Network,
        setting: str | Setting,
        alpha: float = 0.02,
        max_steps: int | None = None,
        cache_mb: float = CACHE_MB,
    ) -> None:
        if not 0 < alpha <= 1:
            raise ValueError(
                f"paper correction: alpha is {alpha}; shed more than 0 and at most 1 of a demand "
                "per step"
            )
        if max_steps is not None and max_steps < 1:
            raise ValueError(
                f"paper correction: max_steps is {max_steps}; allow at least 1, or None for no "
                "bound"
            )
        self.network = network
        self.setting = resolve_setting(network, setting)
        self.alpha = float(alpha)
        # One more a bus than 1 / alpha: a proposal need not be a multiple of alpha.
        self.max_steps = max_steps or network.n_bus * (int(np.ceil(1 / alpha)) + 1)
        self.cache = RatioCache(network, cache_mb)
        self._limits = lay_out_limits(transfer_rules(network, self.setting))

    def correct(self, scenarios: Scenarios, decisions: Decisions) -> Decisions:
        """Return the decisions with the shedding that (20) adds.

        `run` also says which of them ended safe.
        """
        return self.run(scenarios, decisions).decisions

    def run(self, scenarios: Scenarios, decisions: Decisions) -> CorrectionRun:
        """Return the corrected decisions and how each ended.

        Raises ValueError when a shape does not fit, demand is not finite, or a shed fraction is NaN
        or outside [0, 1].
        """
        scenarios, decisions = check_decisions(
            self.network, scenarios, decisions, self.setting, "paper correction"
        )
        n = len(scenarios)
        fed_in = scenarios.p_gen * kept(1.0, 1.0, decisions.curtail)
        demand = (scenarios.p_load, scenarios.q_load, fed_in)
        closed, shed = decisions.closed, decisions.shed.copy()
        end, n_steps, n_flows = (np.zeros(n, dtype=np.int64) for _ in range(3))
        found = Found(shed, end, n_steps, n_flows, np.full(n, -1, dtype=np.int64))
        # A first flow without steps: only what is not safe as it is needs sensitivities.
        all_items, no_slots = np.arange(n), np.zeros(n, dtype=np.int64)
        refused = np.zeros(n, dtype=bool)
        if self.setting.radial:
            refused = has_loop(self.network, closed, energised_buses(self.network, closed))
        self._step(Batch(all_items, no_slots, *demand, closed, refused), 0, found)
        unsafe = np.flatnonzero(end == OUT_OF_STEPS)
        if len(unsafe):
            for items, slots in self._blocks(closed, unsafe):
                batch = Batch(items, slots, *demand, closed, refused)
                self._step(batch, self.max_steps, found)
        return CorrectionRun(
            Decisions(closed, shed, decisions.curtail),
            found.end,
            found.n_steps,
            found.n_flows,
            found.worst_limit,
        )

    def _blocks(self, closed: BoolArray, items: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
        """Yield items with the cache slots of their topologies, as many as the cache holds."""
        number: dict[bytes, int] = {}
        packed = np.packbits(closed[items], axis=1)
        topology = np.array([number.setdefault(row.tobytes(), len(number)) for row in packed])
        first = np.unique(topology, return_index=True)[1]
        for start in range(0, len(first), self.cache.capacity):
            slots = self.cache.slots(closed[items[first[start : start + self.cache.capacity]]])
            here = (topology >= start) & (topology < start + self.cache.capacity)
            yield items[here], slots[topology[here] - start]

    def _step(self, batch: Batch, max_steps: int, found: Found) -> None:
        """Correct the items of the batch by up to max_steps steps each."""
        n_item, network = len(batch.items), self.network
        rule = Rule(
            alpha=self.alpha,
            max_steps=max_steps,
            flow_tolerance=FLOW_TOLERANCE_MVA / network.base_mva,
            tolerance=SAFE_TOLERANCE,
        )
        # A flow takes about 0.2 us a bus; some fifty of them where steps are taken.
        with threads_for(0.2 * n_item * network.n_bus * (50 if max_steps else 1)):
            n_chunk = max(1, min(16 * numba.get_num_threads(), n_item))
            response = Sensitivities(self.cache.ratio, self.cache.impedance)
            correct_items(prepare(network), self._limits, batch, response, rule, n_chunk, found)
