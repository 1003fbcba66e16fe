"""A feeder at deep sag: the whole layer holds the band where a fixed margin does not."""

import pytest

from feederguard.models.voltage_regulation.judge import SAFE_TOLERANCE_PU
from feederguard.studies.benchmarks import deep_sag as module
from feederguard.studies.benchmarks.deep_sag import deep_sag, sag_table


def test_the_layer_is_safe_where_the_published_margin_is_not() -> None:
    sag = deep_sag(1.25, (0.5, 1.0), n_item=6)
    assert sag.idle_lowest_pu < 0.90 and sag.lindistflow_error_pu > module.PUBLISHED_MARGIN_PU
    assert sag.layer_certified and sag.layer_excess_pu < SAFE_TOLERANCE_PU
    assert sag.published_excess_pu > SAFE_TOLERANCE_PU
    assert sag.published_excess_pu > sag.derived_excess_pu


def test_the_table_has_a_row_per_load_and_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAG_LOADS", (1.0,))
    monkeypatch.setattr(module, "SAG_PROPOSALS", {"small": (-0.1, 0.1)})
    assert sag_table().row_count == 1
