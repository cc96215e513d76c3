"""Counters to blocks: nothing twice, nothing negative, nothing lost but tails."""

import json
import random
from dataclasses import replace

import pytest

from federation.contract.rollout import USER_BUCKETS, VersionCounts
from federation.policy.analysis.counting import (
    MAX_ENDED,
    NOTHING,
    ZEROS,
    Counts,
    RouterReport,
    Tail,
    block_of,
    is_news,
    reports_by_region,
)
from tests.federation.policy.analysis.seeing import Router, plus


def _tail(report: RouterReport, now: float = 0.0, last: Tail | None = None) -> Tail:
    return Tail.after(last, report, now)


def test_a_block_is_what_came_since_the_last_report() -> None:
    router = Router()
    router.serve(900, 100)
    last = _tail(router.report(), 10.0)
    router.serve(90, 10, errors=3)
    block = block_of(last, router.report(), 15.0)
    assert block is not None
    assert (block.since, block.at) == (10.0, 15.0)
    assert (sum(block.stable.requests), sum(block.canary.requests)) == (90, 10)
    assert sum(block.canary.errors) == 3
    assert sum(block.stable.errors) == 0


def test_the_first_report_says_only_from_where_to_count() -> None:
    router = Router()
    router.serve(900, 100)
    assert block_of(None, router.report(), 5.0) is None


def test_stale_and_doubled_reports_are_no_news() -> None:
    router = Router()
    first, second = router.report(), router.report()
    last = _tail(second)
    assert not is_news(last, first)
    assert not is_news(last, second)
    assert is_news(last, router.report())
    assert is_news(None, first)


def test_a_new_run_counts_as_a_whole_and_late_reports_of_the_old_one_do_not() -> None:
    old = Router()
    old.serve(900, 100)
    last = _tail(old.report(), 10.0)
    new = Router(boot="b")
    new.serve(30, 3)
    report = new.report()
    block = block_of(last, report, 20.0)
    assert block is not None
    assert sum(block.stable.requests) == 30
    after = _tail(report, 20.0, last)
    old.serve(10, 10)
    assert not is_news(after, old.report())
    for i in range(20):
        after = _tail(replace(report, boot=f"run {i}"), 30.0, after)
    assert len(after.ended) == MAX_ENDED


def test_counters_that_fell_are_where_to_count_from() -> None:
    router = Router()
    router.serve(900, 100)
    last = _tail(router.report())
    router.stable = plus(NOTHING, 5)
    fallen = router.report()
    assert block_of(last, fallen, 5.0) is None
    last = _tail(fallen, 5.0, last)
    router.serve(7, 1)
    block = block_of(last, router.report(), 10.0)
    assert block is not None
    assert sum(block.stable.requests) == 7


@pytest.mark.parametrize("name", ["errors", "refused", "slow", "compared", "disagreed", "latency"])
def test_no_counter_may_fall(name: str) -> None:
    full = plus(NOTHING, 100, errors=4, refused=4, slow=4, compared=4, disagreed=4)
    less = replace(full, **{name: getattr(NOTHING, name)})
    assert less.minus(full) is None
    assert full.minus(less) is not None
    assert full.minus(full) == NOTHING


def test_a_version_that_is_not_told_of_did_not_change() -> None:
    router = Router()
    router.serve(900, 100)
    last = _tail(router.report(), 0.0)
    quiet = RouterReport(router=router.name, boot=router.boot, sequence=2)
    block = block_of(last, quiet, 5.0)
    assert block is not None
    assert block.stable == block.canary == NOTHING
    last = _tail(quiet, 5.0, last)
    router.sequence = 2
    router.serve(90, 10)
    block = block_of(last, router.report(), 10.0)
    assert block is not None
    assert sum(block.stable.requests) == 90


@pytest.mark.parametrize("seed", range(5))
def test_lost_late_and_doubled_reports_and_restarts_add_up(seed: int) -> None:
    """All blocks together are, of each run, what its last report that arrived told."""
    rng = random.Random(seed)
    router, total, sent, told = Router(), 0, list[RouterReport](), dict[str, int]()
    last = _tail(router.report())
    for step in range(60):
        router.serve(rng.randrange(200), rng.randrange(20))
        if rng.random() < 0.1:
            router = Router(boot=f"b{step}")
            continue
        sent.append(router.report())
        arrived = rng.choice(sent) if rng.random() < 0.4 else sent[-1]
        if not is_news(last, arrived):
            continue
        block = block_of(last, arrived, 5.0 * step)
        assert block is not None
        assert min(block.stable.requests) >= 0
        assert arrived.stable is not None
        total += sum(block.stable.requests)
        told[arrived.boot] = sum(arrived.stable.requests)
        after = _tail(arrived, 5.0 * step, last)
        last = Tail.from_json(json.loads(json.dumps(after.to_json())))
        assert last == after
    assert total == sum(told.values()) > 0


def test_columns_that_are_empty_are_zeros() -> None:
    counts = Counts.of(
        VersionCounts(model="m", version=1, region="r", requests=(1,) * USER_BUCKETS)
    )
    assert counts.errors == ZEROS
    assert Counts.of(None) is NOTHING
    assert Counts.from_json(json.loads(json.dumps(counts.to_json()))) == counts


def test_reports_come_for_every_region_also_for_those_without_requests() -> None:
    seen = [
        VersionCounts(model="m", version=1, region="r1", requests=(9,) * 32),
        VersionCounts(model="m", version=2, region="r1", requests=(1,) * 32),
        VersionCounts(model="other", version=2, region="r2", requests=(5,) * 32),
    ]
    found = reports_by_region(("pop", "a", 7), seen, ("m", 1, 2), ("r1", "r2"))
    assert found["r1"].stable is not None
    assert found["r1"].canary is not None
    assert sum(found["r1"].stable.requests) == 9 * 32
    assert sum(found["r1"].canary.requests) == 32
    assert found["r2"] == RouterReport(router="pop", boot="a", sequence=7)
