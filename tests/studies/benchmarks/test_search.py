"""The benchmark of the search reads its reference and measures against it."""

import numpy as np
import pandas as pd
import pytest

from feederguard.studies.benchmarks.search import REFERENCE, case, measure


def test_the_reference_holds_faults_of_bundled_feeders() -> None:
    known = pd.read_csv(REFERENCE, dtype={"fault": str})
    assert list(known.columns) == ["feeder", "load", "fault", "cost"]
    assert not known.duplicated(["feeder", "load", "fault"]).any()
    assert np.isfinite(known["cost"]).all() and (known["cost"] >= 0).all()


def test_the_search_is_near_the_reference_of_a_small_feeder() -> None:
    known = pd.read_csv(REFERENCE, dtype={"fault": str})
    part = known[(known["feeder"] == "bus69") & (known["load"] == 1.6)]
    plans, scenarios = case("bus69", 1.6, part["fault"].tolist())
    cost = measure(plans, scenarios, part["cost"].to_numpy(), None)
    assert cost.ratio == pytest.approx(1.0, abs=0.03)
    assert cost.worst < 1.1 and cost.n_flows > 0
    twice = measure(plans, scenarios, 2 * part["cost"].to_numpy(), None)
    assert twice.ratio == pytest.approx(cost.ratio / 2)
