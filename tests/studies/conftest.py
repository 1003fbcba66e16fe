"""Fixtures that several tests of the studies share."""

from pathlib import Path

import pytest
from small_studies import quiet

from feederguard.studies.n_minus_1 import NMinus1Config, make_sheet
from feederguard.studies.n_minus_1_sheet.page import write_sheet
from feederguard.studies.n_minus_1_sheet.tables import Sheet
from feederguard.studies.running.tasks import RunConfig

ALONE = RunConfig(workers=1)


@pytest.fixture(scope="session")
def ieee33(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sheet]:
    """The sheet by fractions, as in the papers."""
    folder = tmp_path_factory.mktemp("ieee33")
    config = NMinus1Config("ieee33", partial_loads=True, output=folder, run=ALONE)
    sheet = make_sheet(config, quiet(100))
    write_sheet(sheet, folder)
    return folder, sheet
