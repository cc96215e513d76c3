"""Design effects: as they are defined; clumps are found."""

import random

import pytest

from federation.policy.analysis.clumping import CV0, CV0_SLOW, Groups, in_time, prior
from tests.federation.policy.analysis.seeing import columns


def _plain(n: list[int], k: list[int]) -> float:
    """The definition, written down once more."""
    used, total, bad = sum(1 for x in n if x), sum(n), sum(k)
    p = bad / total
    spread = sum((b - p * a) ** 2 for a, b in zip(n, k, strict=True)) * used / (used - 1)
    return max(1.0, spread / max(total * p * (1 - p), 1.0))


def test_counts_add_up_and_clump_as_defined() -> None:
    rng = random.Random(1)
    groups = Groups.of([0] * 32, [0] * 32)
    for _ in range(30):
        groups.add(*columns(rng, 40, 0.1))
    assert groups == Groups.of(groups.n, groups.k)
    assert groups.clumping() == pytest.approx(_plain(groups.n, groups.k))
    copied = groups.copy()
    copied.add(*columns(rng, 40, 0.1))
    assert copied != groups


def test_one_client_with_all_the_errors_counts_as_few() -> None:
    even = Groups.of([100] * 32, [5] * 32)
    one = Groups.of([100] * 32, [100, *[2] * 31])
    assert even.clumping() == 1
    assert one.clumping() > 20


def test_effective_clients() -> None:
    assert Groups.of([10] * 32, [0] * 32).effective() == pytest.approx(32)
    assert Groups.of([960, *[1] * 31], [0] * 32).effective() < 1.1
    assert Groups.of([0] * 32, [0] * 32).effective() == 0


def test_what_hits_both_versions_is_no_clump_and_what_hits_one_is() -> None:
    both = [[100, 1, 900, 9], [100, 40, 900, 360]] * 10
    alone = [[100, 1, 900, 9], [100, 40, 900, 9]] * 10
    assert in_time(both, 1.0) < 1.1
    assert in_time(alone, 1.0) > 4
    assert prior(20.0, CV0) == pytest.approx(1 + 0.5 * 20)
    assert prior(20.0, CV0_SLOW) == pytest.approx(1 + 0.98 * 20)


def test_slow_waves_are_seen_in_bins_of_two_minutes() -> None:
    waves = [[100, 20 if i // 8 % 2 else 5, 900, 100] for i in range(32)]
    quick = [[100, 20 if i % 2 else 5, 900, 100] for i in range(32)]
    assert in_time(waves, 1.0) > 1.5 * in_time(quick, 1.0)


def test_a_young_process_believes_at_least_what_was_measured() -> None:
    calm = [[100, 5, 900, 45]] * 10
    assert in_time(calm, 4.0) < 4.0
    assert in_time(calm, 4.0, least=4.0) == 4.0
    assert in_time(calm[:1], 7.0) == 7.0
