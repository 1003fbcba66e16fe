"""Inputs of an N-1 sheet: files and hours that cannot be used are refused."""

from pathlib import Path

import pytest

from feederguard.data.networks import load_network
from feederguard.data.profiles import load_profiles
from feederguard.studies.n_minus_1 import NMinus1Config, load_bench
from feederguard.studies.n_minus_1_sheet.inputs import demand_at_hour, find_hour, read_customers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "bus,customers\n2,5\n99,4\n",
            r"line 3: bus '99' is not in ieee33 \(1, 2, 3, 4, 5, \.\.\.\); correct or delete",
        ),
        (
            "bus,people\n2,5\n",
            "column customers is missing; its first line must name bus,customers",
        ),
        ("bus,customers\n2,5\n2,6\n", "line 3: bus '2' has a line already; give each bus one"),
        (
            "bus,customers\n2,many\n",
            "line 2: customers of bus '2' is 'many'; give a whole number, zero or more",
        ),
        ("bus,customers\n2,-1\n", "customers of bus '2' is '-1'; give a whole number"),
    ],
)
def test_customer_files_that_cannot_be_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "who.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_customers(file, load_network("ieee33"))


def test_the_peak_hour_carries_the_nominal_load() -> None:
    network, profiles = load_network("ieee33"), load_profiles().resample(60)
    step = find_hour(profiles, network, "peak")

    arrays = demand_at_hour(profiles, network, step)

    assert arrays["p_load"].sum() == pytest.approx(network.p_load.sum())
    assert not arrays["p_gen"].any()
    assert (
        find_hour(profiles, network, str(profiles.time[step]))
        == find_hour(profiles, network, str(step))
        == step
    )


@pytest.mark.parametrize(
    ("hour", "message"),
    [
        ("9000", r"hour 9000 is outside simbench_2016; its rows are 0 to 87\d\d"),
        (
            "1999-01-01T00:00",
            "hour 1999-01-01T00:00 is outside simbench_2016, which runs from 2016-01-01T00:00 to",
        ),
        (
            "noon",
            r"hour 'noon' is no hour; give nominal, peak, a row \(0 to 87\d\d\) or a time such as "
            r"2016-01-01T00:00",
        ),
    ],
)
def test_hours_outside_the_profile_are_refused(hour: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_bench(NMinus1Config("ieee33", hour=hour))
