"""Rollouts under chaos; FED_TEST_SEEDS says how many seeds (`python -m tests.simulation` for 2,000
of them), and FED_TEST_SEED runs one of them again, with what happened in it."""

import os

import pytest

from tests.simulation import runs

SEEDS = int(os.environ.get("FED_TEST_SEEDS", "1"))
ONE = os.environ.get("FED_TEST_SEED", "")


def seeds() -> list[int]:
    return [int(ONE)] if ONE else list(range(SEEDS))


@pytest.mark.parametrize("seed", seeds())
def test_invariants_hold_under_chaos(seed: int) -> None:
    runs.chaos(seed)


@pytest.mark.parametrize("seed", seeds())
def test_a_good_version_is_promoted_however_bad_the_network(seed: int) -> None:
    runs.good(seed)


@pytest.mark.parametrize("seed", seeds())
def test_a_bad_version_stays_in_its_first_wave(seed: int) -> None:
    runs.bad(seed)


@pytest.mark.parametrize("seed", seeds())
def test_rolling_back_from_any_phase_ends_in_the_old_assignment(seed: int) -> None:
    runs.back(seed)
