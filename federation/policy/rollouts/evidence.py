"""The one door between rollouts and their analysis.

Input: what routers count; a rollout's record as it opens a wave or sets a weight. Output: verdicts
for the machine, and the bounds of slow answers for routers. What is known is kept in memory, in
`State.desk`, and stored whole at each transition and now and then between: counters of routers are
cumulative, so what came after it was stored is counted with their next report, once.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from federation.contract.rollout import SlowAbove
from federation.policy.analysis.analysis import Analysis
from federation.policy.analysis.counting import reports_by_region
from federation.policy.analysis.limits import limits_of
from federation.policy.analysis.verdict import Verdict
from federation.policy.rollouts.events import RouterCounted
from federation.policy.rollouts.records import (
    EvidenceRecord,
    RolloutRecord,
    VerdictRecord,
    WaveRecord,
)
from federation.policy.standing import assigned_versions, is_present, is_warm
from federation.policy.state import State, Step

PAUSE = timedelta(seconds=5)  # between two looks at what routers count
UNITS = 40  # of work with one batch of events, 0.1 ms each
SAVE = timedelta(seconds=30)  # so often is it stored between transitions
HOPELESS = timedelta(minutes=5)  # a verdict that says that waiting does not help is believed then
_WHOLE = 100.0


# ------------------------------------------------------------ what happens to a rollout


def begin(step: Step, record: RolloutRecord) -> None:
    """Begin with a rollout, whose first wave opens; its spec was checked when it was asked for."""
    strategy = record.spec.strategy
    if not strategy.analysis.enabled:
        return
    regions = {region for wave in record.waves for region in wave.regions}
    alone = len(strategy.steps) == 1
    limits = limits_of(strategy.analysis, bake_s=strategy.bake_s, alone=alone)
    step.state.desk.analyses[record.meta.name] = Analysis.begin(limits, len(regions))
    open_wave(step, record, record.waves[0])


def open_wave(step: Step, record: RolloutRecord, wave: WaveRecord) -> None:
    """Judge the regions of a wave from now on, and no others."""
    analysis = _analysis(step.state, record)
    if analysis is None:
        return
    now = _seconds(step.now)
    for region in set(analysis.regions) - set(wave.regions):
        analysis.close(region, now)
    for region in wave.regions:
        reference = step.state.references.of(record.spec.model, record.stable, region)
        analysis.open(region, now, reference)


def weighed(step: Step, record: RolloutRecord) -> None:
    """Note that the routers have the present wave's weight."""
    analysis, wave = _analysis(step.state, record), record.waves[record.wave]
    for region in analysis.regions if analysis else ():
        if analysis and region in wave.regions:
            analysis.weigh(region, wave.weight, _seconds(step.now))


def save(step: Step, record: RolloutRecord) -> None:
    """Store what is known of a rollout; what is over needs nothing any more."""
    name, state = record.meta.name, step.state
    analysis = _analysis(state, record)
    if record.over:
        state.desk.drop(name)
        state.saved.pop(name, None)
        step.delete_quietly("Evidence", name)
    elif analysis is not None:
        state.saved[name] = step.now
        kept = EvidenceRecord(rollout=name, analysis=analysis.to_json())
        step.put_quietly("Evidence", name, kept)


# ------------------------------------------------------------ what routers count


def take(step: Step, event: RouterCounted) -> None:
    """Let a router's report wait until there is time for it."""
    state, now = step.state, _seconds(step.now)
    state.references.take((event.name, event.instance), event.sequence, event.counts, now)
    run = (event.name, event.instance, event.sequence)
    for name, analysis in state.desk.analyses.items():
        record = state.rollouts[name]
        versions = (record.spec.model, record.stable, record.canary)
        told = reports_by_region(run, event.counts, versions, tuple(analysis.regions))
        for region, report in told.items():
            state.desk.put(name, region, report)


def work(step: Step) -> list[str]:
    """Do a bounded amount of work; returns the rollouts of which something new is known."""
    state = step.state
    if not state.desk.analyses:
        return []
    news = state.desk.work(_seconds(step.now), UNITS)
    for name in news:
        if step.now - state.saved.get(name, step.now - SAVE) >= SAVE:
            save(step, state.rollouts[name])
    if state.desk.waiting:
        step.wake_at(step.now)
    return news


# ------------------------------------------------------------ what the machine asks


def fault_of(step: Step, record: RolloutRecord) -> VerdictRecord | None:
    """Return what speaks against the canary, by what routers counted; None if nothing does."""
    analysis = _analysis(step.state, record)
    if analysis is None:
        return None
    verdict = analysis.judged(_seconds(step.now))
    return _record(verdict, step.now) if verdict.failed else None


def verdict_of_step(step: Step, record: RolloutRecord) -> tuple[VerdictRecord | None, bool]:
    """Return whether the canary may take more in the present wave, and whether waiting for that
    makes no sense. None: it has all of the traffic, and there is nothing to compare it with; if it
    had all of it at once, it is compared with what was usual before."""
    analysis, wave = _analysis(step.state, record), record.waves[record.wave]
    steps = record.spec.strategy.steps
    if analysis is None or record.step + 1 >= len(steps) > 1:
        return None, False
    verdicts: dict[str, Verdict] = {}
    for region in wave.regions:
        if region not in analysis.regions:
            continue
        _renew(step, record, analysis, region)
        verdict = _judge(step, record, analysis, region)
        if verdict.failed:
            return _record(verdict, step.now), True
        verdicts[region] = verdict
    if not verdicts:
        return None, False
    worst = next((v for v in verdicts.values() if not v.passed), next(iter(verdicts.values())))
    larger = record.step + 1 < len(steps) and steps[record.step + 1] < _WHOLE
    worst = analysis.judge_together(verdicts, _seconds(step.now), step=larger) or worst
    return _record(worst, step.now), worst.pause and _since(step, record) >= HOPELESS


def _judge(step: Step, record: RolloutRecord, analysis: Analysis, region: str) -> Verdict:
    now, strategy = _seconds(step.now), record.spec.strategy
    stable, canary = _ready(step.state, record, region)
    analysis.ready(region, stable=stable, canary=canary)
    expected = _expected(step.state, record, analysis, region)
    ahead = strategy.steps[record.step + 1 :]
    if ahead and ahead[0] < _WHOLE:
        return analysis.judge_step(region, now, expected=expected, bake_s=strategy.bake_s)
    return analysis.judge_region(region, now, expected=expected)


def is_overdue(step: Step, record: RolloutRecord) -> bool:
    """Whether the longest bake is over."""
    longest = timedelta(seconds=record.spec.strategy.analysis.max_bake_s)
    return _since(step, record) >= longest


def slow_of(state: State, record: RolloutRecord) -> dict[str, SlowAbove]:
    """Return above which latencies answers count as slow, by region."""
    analysis = _analysis(state, record)
    regions = analysis.regions.values() if analysis else ()
    return {each.region: each.slow for each in regions if each.slow is not None}


# ------------------------------------------------------------ small parts


def _renew(step: Step, record: RolloutRecord, analysis: Analysis, region: str) -> None:
    """Set the bounds of slow answers as soon as enough is known of the stable version."""
    if analysis.regions[region].slow is None:
        reference = step.state.references.of(record.spec.model, record.stable, region)
        if analysis.bound(region, _seconds(step.now), reference) is not None:
            save(step, record)
            step.publish()


def _expected(
    state: State, record: RolloutRecord, analysis: Analysis, region: str
) -> Mapping[str, float]:
    """Return the routers that know of the split, and since when: those in contact, and those that
    told of this region and are not deleted."""
    since = _seconds(record.weighed_at or record.since)
    found = {
        n: max(since, _seconds(r.connected_at)) for n, r in state.routers.items() if r.connected
    }
    for name in analysis.regions[region].tails:
        if name in state.registered_routers:
            found.setdefault(name, since)
    return found


def _ready(state: State, record: RolloutRecord, region: str) -> tuple[int, int]:
    """Return the ready replicas of both versions in a region, of clusters in contact."""
    found = {record.stable: 0, record.canary: 0}
    for name, cluster in state.clusters.items():
        if cluster.spec.region != region or not is_present(state, name):
            continue
        for held in assigned_versions(cluster, record.spec.model):
            if held.version in found and not held.stage_only and is_warm(cluster, held):
                found[held.version] += max(1, held.replicas)
    return found[record.stable], found[record.canary]


def _analysis(state: State, record: RolloutRecord) -> Analysis | None:
    return state.desk.analyses.get(record.meta.name)


def _record(verdict: Verdict, now: datetime) -> VerdictRecord:
    return VerdictRecord(
        outcome=verdict.outcome,
        words=verdict.words,
        region=verdict.region,
        metric=verdict.metric.value if verdict.metric else "",
        at=now,
    )


def _since(step: Step, record: RolloutRecord) -> timedelta:
    return step.now - (record.weighed_at or record.since)


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
