"""Evidence of one metric: exact state, monotone, additive, late faults, bounded size."""

import json
import math
import random
from itertools import pairwise

import pytest

from federation.policy.analysis.evidence import MAX_BINS, Evidence
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.rules import Rule
from tests.depth import examples
from tests.federation.policy.analysis.seeing import columns

ERRORS = Rule(metric=Metric.ERRORS, slope=1.25, slack=0.0005, usual=0.001)
Columns = tuple[list[int], list[int]]


def _reports(
    seed: int, count: int, canary: float, stable: float, *, requests: tuple[int, int] = (20, 180)
) -> list[tuple[Columns, Columns]]:
    rng = random.Random(seed)
    return [
        (columns(rng, requests[0], canary), columns(rng, requests[1], stable)) for _ in range(count)
    ]


def _after(
    reports: list[tuple[Columns, Columns]], rule: Rule = ERRORS, every_s: float = 10.0
) -> Evidence:
    evidence = Evidence.begin(rule, 0.0, buckets=32)
    for i, (canary, stable) in enumerate(reports):
        evidence.observe(every_s * i, canary, stable)
    return evidence


def test_the_state_survives_after_every_report() -> None:
    kept = Evidence.begin(ERRORS, 0.0, buckets=32)
    restarted = kept.copy()
    for i, (canary, stable) in enumerate(_reports(1, 45, 0.004, 0.001)):
        kept.observe(10.0 * i, canary, stable)
        restarted = Evidence.from_json(json.loads(json.dumps(restarted.to_json())))
        restarted.observe(10.0 * i, canary, stable)
    assert restarted == kept
    assert restarted.log_harm() == kept.log_harm()
    assert restarted.log_safe() == kept.log_safe()


def test_a_copy_does_not_change_the_original() -> None:
    kept = _after(_reports(1, 10, 0.1, 0.1))
    before = json.dumps(kept.to_json())
    copied = kept.copy()
    for canary, stable in _reports(2, 40, 0.1, 0.1):
        copied.observe(900.0, canary, stable)
    assert json.dumps(kept.to_json()) == before


@pytest.mark.parametrize("seed", range(8))
def test_more_bad_requests_of_the_canary_never_look_safer(seed: int) -> None:
    reports = _reports(seed, 9, 0.02, 0.01)
    at = seed % 9
    (n, k), stable = reports[at]
    bucket = next(i for i in range(32) if n[i] > k[i])
    worse = [*reports]
    worse[at] = ((n, [x + (i == bucket) for i, x in enumerate(k)]), stable)
    one, other = _after(reports), _after(worse)
    for a, b in zip(one.harm, other.harm, strict=True):
        assert all(y >= x - 1e-12 for x, y in zip(a, b, strict=True))
    assert all(y <= x + 1e-12 for x, y in zip(one.safe, other.safe, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_more_bad_requests_of_the_stable_never_raise_the_harm(seed: int) -> None:
    reports = _reports(seed, 9, 0.05, 0.01)
    canary, (n, k) = reports[-1]
    worse = [*reports[:-1], (canary, (n, [min(a, b + 1) for a, b in zip(n, k, strict=True)]))]
    one, other = _after(reports), _after(worse)
    assert all(b <= a + 1e-12 for a, b in zip(one.harm[0], other.harm[0], strict=True))


def test_a_report_of_one_router_or_of_two_gives_the_same_sums() -> None:
    reports = _reports(3, 12, 0.05, 0.02)
    split = Evidence.begin(ERRORS, 0.0, buckets=32)

    def less(columns: Columns, part: Columns) -> Columns:
        n, k = (
            [x - y for x, y in zip(a, b, strict=True)] for a, b in zip(columns, part, strict=True)
        )
        return n, k

    for i, (canary, stable) in enumerate(reports):
        halves = [([x // 2 for x in n], [x // 2 for x in k]) for n, k in (canary, stable)]
        split.observe(10.0 * i, halves[0], halves[1])
        split.observe(10.0 * i, less(canary, halves[0]), less(stable, halves[1]))
    whole = _after(reports)
    assert (split.canary, split.stable, split.bins) == (whole.canary, whole.stable, whole.bins)


def test_a_fault_is_found_and_a_good_version_is_cleared() -> None:
    broken = _after(_reports(4, 60, 0.08, 0.001))
    assert broken.log_harm() > math.log(1000)
    limit = Rule(metric=Metric.ERRORS, slope=1.25, slack=0.00875, usual=0.001)
    good = _after(_reports(5, 80, 0.001, 0.001), limit)
    assert good.log_safe() > math.log(20)
    assert good.log_harm() < 0.5


def test_a_late_fault_is_found_by_a_process_that_began_late() -> None:
    reports = _reports(6, 80, 0.001, 0.001) + _reports(7, 25, 0.06, 0.001)
    evidence = _after(reports)
    parts = evidence.log_harms()
    assert evidence.log_harm() > math.log(1000)
    assert parts.index(max(parts)) > 0
    assert max(parts) > parts[0] + 3


def test_nothing_to_compare_with_is_no_evidence() -> None:
    zeros = [0] * 32
    evidence = Evidence.begin(ERRORS, 0.0, buckets=32)
    evidence.observe(0.0, (zeros, zeros), (zeros, zeros))
    assert evidence.starts == []
    evidence.observe(5.0, (zeros, zeros), ([9] * 32, [1] * 32))
    evidence.observe(10.0, ([9] * 32, [9] * 32), (zeros, zeros))
    assert evidence.log_harm() == pytest.approx(0)
    assert evidence.log_safe() == pytest.approx(0)


def test_days_of_it_stay_small() -> None:
    report = ([1] * 32, [0] * 32), ([9] * 32, [1, *[0] * 31])
    evidence = Evidence.begin(ERRORS, 0.0, buckets=32)
    for i in range(400):
        evidence.observe(600.0 * i, *report)  # 2.8 days
    assert len(evidence.bins) <= MAX_BINS
    assert sum(row[0] for row in evidence.bins) == evidence.canary.requests == 400 * 32
    assert len(evidence.starts) < 40
    gaps = [b - a for a, b in pairwise(evidence.starts)]
    assert gaps == sorted(gaps)
    assert len(json.dumps(evidence.to_json())) < 12_000
    assert evidence == Evidence.from_json(json.loads(json.dumps(evidence.to_json())))


def test_the_level_is_given_out_once_only() -> None:
    """Without any evidence the mixture is exactly 1, however many processes have begun."""
    evidence = Evidence.begin(ERRORS, 0.0, buckets=32)
    zeros = [0] * 32
    for at in range(0, 1500, 100):
        evidence.observe(float(at), (zeros, zeros), ([1] * 32, zeros))
    assert len(evidence.starts) == 5
    assert evidence.log_harm() == pytest.approx(0, abs=1e-12)
    renewed = evidence.renewed(ERRORS, 1500.0)
    assert renewed.log_harm() == pytest.approx(0, abs=1e-12)


def test_new_bounds_keep_what_was_found() -> None:
    evidence = _after(_reports(8, 40, 0.08, 0.001))
    renewed = evidence.renewed(ERRORS, 400.0)
    assert renewed.canary.requests == 0
    assert renewed.log_harm() == pytest.approx(evidence.log_harm())
    assert renewed.log_safe() == pytest.approx(evidence.log_safe())
    again = Evidence.from_json(json.loads(json.dumps(renewed.renewed(ERRORS, 500.0).to_json())))
    assert again.log_harm() == pytest.approx(evidence.log_harm())


def test_false_alarms_are_rarer_than_stated_and_faults_are_found() -> None:
    """A small slice of benchmarks/analysis; FED_TEST_DEPTH makes it larger."""
    runs = examples(6)
    line = Rule(metric=Metric.ERRORS, slope=1.25, slack=0.0005, usual=0.02)

    def alarms(canary: float, first: int) -> int:
        found = 0
        for seed in range(first, first + runs):
            evidence = Evidence.begin(line, 0.0, buckets=32)
            for i, report in enumerate(_reports(seed, 40, canary, 0.02, requests=(12, 48))):
                evidence.observe(10.0 * i, *report)
                if i % 4 == 3 and evidence.log_harm() >= math.log(20):
                    found += 1
                    break
        return found

    # Binomial at 5 %: at most 3 of 6 and 73 of 1,000 with 99.9 %.
    allowed = runs * 0.05 + 3.1 * math.sqrt(runs * 0.05 * 0.95) + 1
    assert alarms(1.25 * 0.02 + 0.0005, 100) <= allowed
    assert alarms(0.2, 5000) >= 0.95 * runs
