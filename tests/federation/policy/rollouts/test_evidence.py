"""The door between rollouts and their analysis: what routers count decides."""

from dataclasses import replace

import pytest

from federation.contract.rollout import USER_BUCKETS, AnalysisSpec, VersionCounts
from federation.policy.analysis.verdict import Outcome
from federation.policy.rollouts.events import RouterCounted
from federation.policy.rollouts.records import Phase
from tests.federation.policy.rollouts.rollout_world import PLAIN, RolloutWorld

ANALYSED = replace(PLAIN, steps=(20.0, 100.0), analysis=AnalysisSpec(min_requests=50))
AT_ONCE = replace(ANALYSED, waves=())
FAST, SLOW = 80, 140  # 32 ms, 431 ms


class Counting(RolloutWorld):
    """Its router sees so many requests a bucket in 5 s, one of 20 slow."""

    requests = 200.0
    sequence = 0
    errors = 0.0
    slow = 0.01  # above a bound that is 20 % higher
    pairs = 0  # of answers in 5 s; a tenth as many of the stable version with itself
    differing = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.totals: dict[tuple[int, str], list[float]] = {}

    def turn(self, seconds: float = 5.0) -> None:
        super().turn(seconds)
        self.count()

    def count(self) -> None:
        self.sequence += 1
        weights = self.weights()
        for region in ("eu", "us", "ap"):
            share = weights.get(region, 0.0) / 100
            for version, part in ((1, 1 - share), (2, share)):
                total = self.totals.setdefault((version, region), [0.0, 0.0, 0.0])
                more = self.requests * part
                total[0] += more
                total[1] += more * (self.errors if version == 2 else 0.0)
                total[2] += more * (self.slow if version == 2 else 0.05)
        told = self.pairs * self.sequence
        counts = tuple(
            VersionCounts(
                model="m",
                version=version,
                region=region,
                requests=(int(requests),) * USER_BUCKETS,
                errors=(int(errors),) * USER_BUCKETS,
                slow=(int(slow),) * USER_BUCKETS,
                latency={
                    FAST: (int(requests) - int(slow)) * USER_BUCKETS,
                    SLOW: int(slow) * USER_BUCKETS,
                },
                compared=told if version == 2 else told // 10,
                disagreed=int(told * self.differing) if version == 2 else told // 1000,
            )
            for (version, region), (requests, errors, slow) in self.totals.items()
        )
        self.do(RouterCounted(name="r", instance="i1", sequence=self.sequence, counts=counts))
        self.advance(0)


@pytest.fixture
def world() -> Counting:
    made = Counting()
    made.begin()
    for _ in range(5):
        made.turn()
    return made


def test_a_good_canary_passes_and_is_promoted(world: Counting) -> None:
    world.start(strategy=AT_ONCE)
    world.until(Phase.PROMOTED)
    assert any(v.outcome is Outcome.PASSED for v in world.last.verdicts)


def test_errors_send_it_back_with_a_verdict(world: Counting) -> None:
    world.start(strategy=ANALYSED)
    world.until(Phase.BAKING)
    world.errors = 0.3
    world.until(Phase.ROLLED_BACK)
    verdict = world.last.verdicts[-1]
    assert (verdict.outcome, verdict.region, verdict.metric) == (Outcome.FAILED, "eu", "errors")
    assert world.last.wave == 0


def test_slowness_sends_it_back(world: Counting) -> None:
    world.start(strategy=ANALYSED)
    world.until(Phase.BAKING)
    world.slow = 0.5
    world.until(Phase.ROLLED_BACK)
    assert world.last.verdicts[-1].metric == "p95"


def test_routers_learn_what_is_slow(world: Counting) -> None:
    world.start(strategy=ANALYSED)
    world.until(Phase.BAKING)
    (route,) = world.snapshot().models
    assert route.canary is not None
    slow = route.canary.slow["eu"]
    assert 30 < slow.stable_ms < 34
    assert slow.canary_ms == pytest.approx(1.2 * slow.stable_ms)


def test_it_survives_a_restart_and_counts_nothing_twice(world: Counting) -> None:
    world.start(strategy=AT_ONCE)
    world.until(Phase.BAKING)
    world.turn()
    known = world.state.desk.analyses["m-1"].to_json()
    stored = world.state.evidence["m-1"].analysis
    assert stored["planned"] == known["planned"]
    world.restart()
    assert world.state.desk.analyses["m-1"].to_json() == stored
    for name in world.state.clusters:
        world.connect(name)
    world.router()
    world.until(Phase.PROMOTED)
    assert "m-1" not in world.state.evidence
    assert "m-1" not in world.state.desk.analyses


def test_a_silent_router_never_lets_it_pass(world: Counting) -> None:
    world.start(strategy=ANALYSED)
    world.until(Phase.BAKING)
    world.router("quiet")
    for _ in range(30):
        world.turn()
    assert world.last.wave == 0
    assert world.last.step == 0
    assert "quiet" in world.last.verdicts[-1].words


def test_a_report_of_a_router_that_is_gone_counts_nothing(world: Counting) -> None:
    event = RouterCounted(name="x", instance="i", sequence=1, counts=())
    assert world.do(event) is False


SHADOWED = AnalysisSpec(min_requests=50, shadow_percent=5.0, judge_shadow=True)


def test_answers_that_differ_send_it_back_where_they_are_judged(world: Counting) -> None:
    world.pairs, world.differing = 100, 0.1
    world.start(strategy=replace(AT_ONCE, analysis=SHADOWED))
    world.until(Phase.ROLLED_BACK)
    verdict = world.last.verdicts[-1]
    assert (verdict.outcome, verdict.metric) == (Outcome.FAILED, "shadow")
    assert verdict.words.startswith("fail: differing answers 10.00 % against 1.")
    assert ", limit 2." in verdict.words  # the stable's own, and one percentage point
    assert verdict.words.endswith("pairs")


def test_answers_that_agree_pass(world: Counting) -> None:
    world.pairs = 2000
    world.start(strategy=replace(AT_ONCE, analysis=SHADOWED))
    world.until(Phase.PROMOTED)
    passed = [v.words for v in world.last.verdicts if v.outcome is Outcome.PASSED]
    assert "differing answers 0.00 %" in passed[-1]


ALL_AT_ONCE = replace(AT_ONCE, steps=(100.0,))


def test_without_a_step_the_last_hour_is_the_yardstick(world: Counting) -> None:
    world.start(strategy=ALL_AT_ONCE)
    world.until(Phase.BAKING)
    world.until(Phase.PROMOTED)
    words = world.last.verdicts[-1].words
    assert words.startswith("pass: errors 0.00 % against 0.00 % (limit 1 %)")
    assert words.endswith("against the stable version's last hour")


@pytest.mark.parametrize(("fault", "metric"), [("errors", "errors"), ("slow", "p95")])
def test_without_a_step_faults_are_found_as_well(world: Counting, fault: str, metric: str) -> None:
    world.start(strategy=ALL_AT_ONCE)
    world.until(Phase.BAKING)
    setattr(world, fault, 0.4)
    world.until(Phase.ROLLED_BACK)
    verdict = world.last.verdicts[-1]
    assert (verdict.outcome, verdict.metric) == (Outcome.FAILED, metric)
    assert "last hour" in verdict.words


def test_without_a_step_and_without_requests_a_person_is_asked(world: Counting) -> None:
    world.requests = 0.0
    world.start(
        strategy=replace(ALL_AT_ONCE, analysis=AnalysisSpec(max_bake_s=90.0, min_requests=50))
    )
    world.until(Phase.PAUSED)
    assert world.last.reason == "inconclusive: 0 canary requests in ap, 50 needed"
