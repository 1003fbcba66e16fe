"""Decisions told by name are read back as they were."""

import numpy as np
import pandas as pd
import pytest

from feederguard.data.networks import load_network
from feederguard.models.load_transfer import Decisions, make_scenarios
from feederguard.studies.transfer.decision_states import read_decisions


def test_decisions_are_read_back_from_their_names() -> None:
    network = load_network("ieee33")
    names = [
        "tie one" if name == "33" else "tie one b" if name == "36" else name
        for name in network.branch_name
    ]
    network = network.with_changes(branch_name=names)
    scenarios = make_scenarios(network, ["17", "2"])
    told = pd.DataFrame(
        {
            "closed_branches": ["'tie one' 'tie one b'", ""],
            "opened_branches": ["", "5 'tie one'"],
            "shed_mw": ["18:0.045 25:0.42", "3:0.0900001"],
            "curtailed_mw": ["", ""],
        }
    )
    found = read_decisions(network, scenarios, told)
    assert isinstance(found, Decisions)
    assert np.flatnonzero(found.closed[0] & ~network.closed).tolist() == [32, 35]
    assert not found.closed[0, 16] and not found.closed[1, [1, 4]].any()
    assert found.shed[0, [17, 24]].tolist() == pytest.approx([0.5, 1.0]) and found.shed[1, 2] == 1.0
    with pytest.raises(ValueError, match="names branch 'nowhere', which this feeder does not have"):
        read_decisions(network, scenarios[:1], told[:1].assign(closed_branches="nowhere"))
    with pytest.raises(ValueError, match="sheds load at bus '99', which ieee33 does not have"):
        read_decisions(network, scenarios[:1], told[:1].assign(shed_mw="99:0.1"))
