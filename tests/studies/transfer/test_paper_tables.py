"""The paper's tables: the gap's interval, and the printed numbers."""

from pathlib import Path

import numpy as np
import pytest

from feederguard.studies.transfer.paper_tables import PRINTED, gap_interval

PAPER = (
    Path(__file__).resolve().parents[4]
    / "shared"
    / "papers"
    / "load_transfer_action_correction_2024.md"
)


def test_a_gap_that_never_varies_has_no_width() -> None:
    reference = np.array([1.0, 5.0, 20.0])
    cost, safe = 1.1 * np.tile(reference, (4, 1)), np.ones((4, 3), dtype=bool)
    assert gap_interval(cost, safe, reference) == pytest.approx((0.1, 0.1, 0.1))


def test_the_gap_leaves_out_what_is_not_safe_or_has_no_reference() -> None:
    cost = np.array([[2.0, 7.0, 99.0], [4.0, 1.0, 99.0]])
    safe = np.array([[True, True, True], [True, False, True]])
    gap, low, high = gap_interval(cost, safe, np.array([2.0, 5.0, np.nan]))
    assert gap == pytest.approx((2 + 4 + 7) / (2 + 2 + 5) - 1)
    assert low <= gap <= high
    assert np.isnan(gap_interval(cost, np.zeros((2, 3), dtype=bool), np.ones(3))).all()


def test_the_interval_holds_the_true_gap_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(60):
        reference = rng.exponential(10.0, 80)
        factor = 1.2 + 0.1 * rng.standard_normal((8, 1)) + 0.1 * rng.standard_normal((1, 80))
        _, low, high = gap_interval(factor * reference, np.ones((8, 80), dtype=bool), reference)
        held += low <= 0.2 <= high
    # A percentile interval of eight seeds is a little short of its 95 %.
    assert 48 <= held <= 60


def test_the_printed_numbers_are_the_paper_s() -> None:
    if not PAPER.exists():
        pytest.skip(f"the paper's text is not at {PAPER}")
    text = PAPER.read_text().replace("\\pm", "±")
    for numbers in PRINTED.values():
        for number in numbers.values():
            assert number in text
