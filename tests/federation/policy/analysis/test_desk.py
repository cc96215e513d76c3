"""Many rollouts, a slice at a time: bounded, and in the end the same."""

from federation.policy.analysis.desk import EVERY_S, JUDGE, Desk
from federation.policy.analysis.limits import Metric
from tests.federation.policy.analysis.seeing import Router, opened, run


def _desk(rollouts: int) -> Desk:
    return Desk(analyses={f"r{i}": opened() for i in range(rollouts)})


def test_a_call_does_a_bounded_part_and_nothing_waits_for_ever() -> None:
    desk, router = _desk(40), Router()
    for report in (router.report(), router.report()):
        for rollout in desk.analyses:
            desk.put(rollout, "us-east", report)
    now, calls, news = 0.0, 0, set[str]()
    while desk.waiting or desk.dirty:
        before = len(desk.waiting)
        found = desk.work(now, units=10)
        assert before - len(desk.waiting) <= 6
        assert len(found) <= 10 // JUDGE + 1
        news.update(found)
        calls, now = calls + 1, now + 0.1
        assert calls < 40
    assert news == set(desk.analyses)
    assert calls >= 40 * (1 + JUDGE) // 12
    assert all(not a.regions["us-east"].stale for a in desk.analyses.values())


def test_of_a_router_only_the_newest_report_waits() -> None:
    desk, router = _desk(1), Router()
    reports = []
    for _ in range(5):
        router.serve(450, 50)
        reports.append(router.report())
    for report in (reports[0], reports[4], reports[2]):
        desk.put("r0", "us-east", report)
    assert list(desk.waiting.values()) == [reports[4]]
    restarted = Router(boot="b").report()
    desk.put("r0", "us-east", restarted)
    assert list(desk.waiting.values()) == [restarted]


def test_merged_reports_give_the_same_counts() -> None:
    desk, router = _desk(1), Router()
    direct = opened()
    for i in range(12):
        report = router.report()
        desk.put("r0", "us-east", report)
        direct.take("us-east", report, 5.0 * i)
        if i % 3 == 2 or i == 0:
            desk.work(5.0 * i)
        router.serve(450, 50)
    one, same = desk.analyses["r0"].regions["us-east"], direct.regions["us-east"]
    for metric in (Metric.ERRORS, Metric.REFUSED):
        assert one.evidence[metric].canary == same.evidence[metric].canary
        assert one.evidence[metric].canary.requests == 11 * 50


def test_a_region_is_judged_at_most_every_few_seconds_and_then_surely() -> None:
    desk, router = _desk(1), Router()
    desk.put("r0", "us-east", router.report())
    assert desk.work(0.0) == ["r0"]
    router.serve(450, 50)
    desk.put("r0", "us-east", router.report())
    assert desk.work(1.0) == []
    assert desk.work(EVERY_S) == ["r0"]
    assert desk.work(2 * EVERY_S) == []


def test_what_was_computed_there_is_what_is_judged() -> None:
    desk = _desk(1)
    now = run(desk.analyses["r0"], Router(), 30, errors=10)
    desk.dirty["r0", "us-east"] = None
    assert desk.work(now) == ["r0"]
    assert desk.analyses["r0"].judged(now).failed


def test_reports_for_what_is_gone_are_dropped() -> None:
    desk, router = _desk(2), Router()
    for rollout in ("r0", "r1", "unknown"):
        desk.put(rollout, "us-east", router.report())
    desk.put("r1", "nowhere", router.report())
    desk.drop("r0")
    assert {key[0] for key in desk.waiting} == {"r1", "unknown"}
    assert desk.work(0.0) == ["r1"]
    assert not desk.waiting
    desk.drop("r1")
    assert (desk.analyses, desk.turns, desk.dirty) == ({}, {}, {})
