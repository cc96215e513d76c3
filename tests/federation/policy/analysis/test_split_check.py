"""The split check: sure mismatches only."""

import pytest

from federation.policy.analysis.split_check import mismatch, student


def test_students_t_is_as_in_the_tables() -> None:
    # 99.95 % points: 7, 15 and 31 degrees of freedom.
    for degrees, value in ((7, 5.408), (15, 4.073), (31, 3.633)):
        assert student(degrees) == pytest.approx(value, rel=0.01)


def test_the_weight_that_was_ordered_is_no_mismatch() -> None:
    assert mismatch([5, 6, 4, 5] * 8, [100] * 32, 0.05) is None


def test_a_quarter_of_the_weight_is_one() -> None:
    assert mismatch([12, 13, 11, 14] * 8, [1000] * 32, 0.05) == pytest.approx(0.0125)
    assert mismatch([0] * 32, [1000] * 32, 0.05) == 0


def test_a_few_busy_clients_are_chance() -> None:
    busy = [900, 0, 0, 0, 0, 0, 0, 0] * 4
    assert mismatch(busy, [1000] * 32, 0.05) is None


def test_too_little_is_not_judged() -> None:
    assert mismatch([0] * 32, [100] * 32, 0.05) is None
    assert mismatch([100, *[0] * 31], [9000, *[0] * 31], 0.05) is None
    assert mismatch([100] * 32, [100] * 32, 1.0) is None
    assert mismatch([0] * 32, [100] * 32, 0.0) is None
