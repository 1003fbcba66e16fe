"""Plans that were searched by fractions, settled by whole loads.

What a plan costs by fractions bounds what it costs with whole loads. So plans are searched by
fractions first. Where the best of a scenario sheds a part of a load, it is raced again with whole
loads, beside the plain plans and what one exchange makes of it (`load_transfer/least_shedding.py`).
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from feederguard.models.load_transfer import Scenarios
from feederguard.models.load_transfer.least_shedding import Candidates, race_topologies
from feederguard.models.once_per_object import once_per_object
from feederguard.models.switching.plans import SwitchPlans
from feederguard.models.switching.racing import Found


@once_per_object
def plans_by_parts(plans: SwitchPlans) -> SwitchPlans:
    """Return the plans of the setting that sheds by fractions."""
    with warnings.catch_warnings():
        # The setting with whole loads has the same limits and has warned of them.
        warnings.simplefilter("ignore", UserWarning)
        return SwitchPlans(plans.network, replace(plans.setting, whole_loads=False))


def settle_whole(plans: SwitchPlans, scenarios: Scenarios, found: Found) -> Found:
    """Return what was found by fractions, with whole loads; cost inf where no plan is safe then."""
    partly = (found.shed > 0) & (found.shed < 1) & (scenarios.p_load > 0)
    for k in np.flatnonzero(partly.any(axis=1) & np.isfinite(found.cost)).tolist():
        fault, best = scenarios.lost(k), found.closed[k]
        near = [best[None], plans.plain(fault), plans.neighbours(fault, best)]
        rows = np.unique(np.concatenate(near), axis=0)
        candidates = Candidates(np.array([0, len(rows)]), rows)
        race = race_topologies(plans.network, scenarios[[k]], candidates, plans.setting)
        found.n_flows[k] += int(race.n_flows.sum())
        found.cost[k] = np.inf
        if race.winner[0] >= 0:
            row = race.winner[0]
            found.closed[k], found.cost[k] = rows[row], race.cost[row]
            found.shed[k], found.curtail[k] = race.shed[0], race.curtail[0]
            found.active[k] |= race.active[row]
    return found
