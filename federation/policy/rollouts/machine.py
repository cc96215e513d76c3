"""Moves rollouts on: one transition of one rollout at a time, each in a commit of its own.

Input: rollouts that are due, since something was told of them or time passed. Output: their records
after it; deployments that have a new target. A few are looked at with each batch of events, the
others with the next: so a step of the control loop stays short however many go on.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from federation.contract.rollout import OnInconclusive
from federation.policy.analysis.verdict import Outcome
from federation.policy.lookup import resolve
from federation.policy.rollouts import evidence
from federation.policy.rollouts.faults import find
from federation.policy.rollouts.freezes import frozen_regions
from federation.policy.rollouts.ongoing import all_going, change, look_at, send_back, turn
from federation.policy.rollouts.records import (
    Hurry,
    Pause,
    Phase,
    RolloutRecord,
    VerdictRecord,
    WaveRecord,
)
from federation.policy.rollouts.requests import resume
from federation.policy.rollouts.table import Turn
from federation.policy.rollouts.waiting import (
    ROUTER_S,
    canary_left,
    members,
    routers_have,
    told,
)
from federation.policy.settle import retargeted
from federation.policy.state import Step

SLICE = 8  # rollouts that are looked at with one batch of events
_AGAIN = timedelta(seconds=30)  # a look without news, for what nobody tells
_ROUTERS = timedelta(seconds=ROUTER_S)
_UNLOADING = timedelta(seconds=6 * ROUTER_S)


def look(step: Step) -> None:
    """Look at those that are due."""
    state, now = step.state, step.now
    for name in evidence.work(step):
        look_at(step, name, now)
    if not state.rollout_due:
        return
    due = sorted((at, name) for name, at in state.rollout_due.items() if at <= now)
    for _, name in due[:SLICE]:
        del state.rollout_due[name]
        record = state.rollouts.get(name)
        if record is not None and not record.over:
            _STEPS[record.phase](step, record)
    if state.rollout_due:
        step.wake_at(max(now, min(state.rollout_due.values())))


def beginning(step: Step) -> frozenset[str]:
    """Return the models that have one rollout, which begins now unless something holds it."""
    state, found = step.state, set()
    for name, at in state.rollout_due.items():
        record = state.rollouts.get(name)
        if at <= step.now and record is not None and record.queued:
            found.add(record.spec.model)
    return frozenset(model for model in found if len(state.going.get(model, ())) == 1)


# ------------------------------------------------------------ by phase


def _pending(step: Step, record: RolloutRecord) -> None:
    state = step.state
    others = [r for r in all_going(state) if r.moving]
    if other := next((r for r in others if r.spec.model == record.spec.model), None):
        _say(step, record, f"it waits for rollout {other.meta.name!r}, which is {other.phase}")
        return
    if len(others) >= state.max_rollouts:
        _say(step, record, f"it waits: {len(others)} rollouts go on, as many as may")
        return
    stable = state.deployments[record.deployment].target
    if stable == record.canary:
        turn(step, record, Turn.REFUSED, f"version {stable} is the stable one by now")
        return
    if not _held(step, record, record.waves[0], begins_wave=True):
        reason = f"version {record.canary} comes to wave 1"
        evidence.begin(step, record)
        turn(step, record, Turn.BEGUN, reason, stable=stable)


def _staging(step: Step, record: RolloutRecord) -> None:
    if _is_judged_bad(step, record):
        return
    group = members(step.state, record)
    if group.awaited:
        _say(step, record, f"waits for {told(group.awaited)}")
        look_at(step, record.meta.name, step.now + _AGAIN)
    elif not _held(step, record, record.waves[record.wave]):
        missing = f"; without {told(group.missing)}" if group.missing else ""
        _weigh(step, record, Turn.STAGED, record.step, missing)


def _weigh(step: Step, record: RolloutRecord, event: Turn, number: int, more: str = "") -> None:
    """Order a step's weight for the present wave; waves that were skipped get it with it."""
    weight = record.spec.strategy.steps[number]
    waves = tuple(
        replace(wave, weight=max(wave.weight, weight)) if index <= record.wave else wave
        for index, wave in enumerate(record.waves)
    )
    reason = f"{weight:g} % in {', '.join(record.waves[record.wave].regions)}{more}"
    hurry = record.hurry if record.hurry is Hurry.FULL else Hurry.NO
    changes = {"step": number, "waves": waves, "weighed_at": None, "hurry": hurry}
    turn(step, record, event, reason, **changes)


def _progressing(step: Step, record: RolloutRecord) -> None:
    if _is_judged_bad(step, record):
        return
    if routers_have(step.state, record, step.now):
        evidence.weighed(step, record)
        turn(step, record, Turn.WEIGHED, record.reason, weighed_at=step.now)
    else:
        look_at(step, record.meta.name, record.since + _ROUTERS)


def _baking(step: Step, record: RolloutRecord) -> None:
    if _is_judged_bad(step, record):
        return
    strategy, now = record.spec.strategy, step.now
    if record.hurry is Hurry.NO:
        ends = (record.weighed_at or record.since) + timedelta(seconds=strategy.bake_s)
        if now < ends:
            look_at(step, record.meta.name, min(ends, now + _AGAIN))
            return
        passed = _passed(step, record)
        if passed is None:
            return
        record = passed
    if record.step + 1 < len(strategy.steps):
        if not _held(step, record, record.waves[record.wave]):
            _weigh(step, record, Turn.STEPPED, record.step + 1)
    elif record.wave + 1 < len(record.waves):
        _advance(step, record)
    else:
        _complete(step, record)


def _passed(step: Step, record: RolloutRecord) -> RolloutRecord | None:
    """Return the record if the analysis lets the step go; if it never will, a person is asked."""
    if not record.spec.strategy.analysis.enabled:
        return record
    verdict, hopeless = evidence.verdict_of_step(step, record)
    if verdict is None:
        return record
    record = _kept(step, record, verdict)
    promotes = record.spec.strategy.analysis.on_inconclusive is OnInconclusive.PROMOTE
    overdue = evidence.is_overdue(step, record)
    if verdict.outcome is Outcome.PASSED:
        return record
    if verdict.outcome is Outcome.FAILED:
        _condemn(step, record, verdict)
    elif overdue and promotes:
        return record
    elif overdue or (hopeless and not promotes):
        _hold(step, record, Pause.INCONCLUSIVE, verdict.words)
    else:
        look_at(step, record.meta.name, step.now + evidence.PAUSE)
    return None


def _advance(step: Step, record: RolloutRecord) -> None:
    """Begin with the next wave."""
    number = record.wave + 1
    if _held(step, record, record.waves[number], begins_wave=True):
        return
    done = replace(record.waves[record.wave], promoted_at=step.now)
    waves = (*record.waves[: record.wave], done, *record.waves[number:])
    reason = f"version {record.canary} comes to wave {number + 1}"
    evidence.open_wave(step, record, waves[number])
    changes = {"wave": number, "step": 0, "waves": waves, "weighed_at": None, "hurry": Hurry.NO}
    turn(step, record, Turn.ADVANCED, reason, **changes)


def _complete(step: Step, record: RolloutRecord) -> None:
    """Make the canary the stable version, once it is warm in every region."""
    group = members(step.state, record)
    if group.awaited:
        _say(step, record, f"waits for {told(group.awaited)}")
        look_at(step, record.meta.name, step.now + _AGAIN)
        return
    state = step.state
    waves = tuple(replace(w, promoted_at=w.promoted_at or step.now) for w in record.waves)
    reason = f"version {record.canary} serves everywhere"
    new = turn(step, record, Turn.COMPLETED, reason, waves=waves, hurry=Hurry.NO)
    held = state.deployments[new.deployment]
    wished = resolve(state.models[new.spec.model], held.spec.version)
    rejected = 0 if wished == new.canary else wished
    promoted = replace(retargeted(held, new.canary), rejected=rejected)
    step.put("Deployment", replace(promoted, meta=step.next_meta(held.meta)))


def _paused(step: Step, record: RolloutRecord) -> None:
    if record.moving and _is_judged_bad(step, record):
        return
    name = record.meta.name
    if record.pause is Pause.FREEZE:
        end = _frozen_until(step, _to_begin(record))
        if end is None:
            resume(step, record, "the freeze is over")
            return
        if end != record.frozen_until:
            record = change(step, record, frozen_until=end)
        look_at(step, name, end)
    if record.weighs:
        look_at(step, name, step.now + _AGAIN)


def _rolling_back(step: Step, record: RolloutRecord) -> None:
    """First the traffic goes back, then the canary is unassigned, then it is over."""
    name, state = record.meta.name, step.state
    if record.weighed_at is None:
        if routers_have(state, record, step.now):
            change(step, record, weighed_at=step.now)
            state.unsettled |= {record.spec.model}
            step.publish()
            look_at(step, name, step.now)
        else:
            look_at(step, name, record.since + _ROUTERS)
        return
    if record.spec.model in state.unsettled:
        look_at(step, name, step.now)  # it is unassigned with this batch
        return
    left = canary_left(state, record)
    if left and step.now - record.weighed_at < _UNLOADING:
        look_at(step, name, record.weighed_at + _UNLOADING)
        return
    kept = f"; not yet unloaded at {', '.join(left[:4])}" if left else ""
    waves = tuple(replace(wave, weight=0.0) for wave in record.waves)
    turn(step, record, Turn.RESTORED, f"{record.reason}{kept}", waves=waves)


_STEPS = {
    Phase.PENDING: _pending,
    Phase.STAGING: _staging,
    Phase.PROGRESSING: _progressing,
    Phase.BAKING: _baking,
    Phase.PAUSED: _paused,
    Phase.ROLLING_BACK: _rolling_back,
}


# ------------------------------------------------------------ guards


def _held(
    step: Step, record: RolloutRecord, wave: WaveRecord, *, begins_wave: bool = False
) -> bool:
    """Hold a rollout before a wave or a step if it must not begin now; returns whether it is."""
    if begins_wave and wave.approval and not wave.approved_by:
        _hold(step, record, Pause.GATE, "the next wave waits for an approval")
        return True
    if record.undo or record.hurry is not Hurry.NO:
        return False
    frozen = frozen_regions(wave.regions, step.state.regions, step.state.zone, step.now)
    if not frozen:
        return False
    end = max(frozen.values())
    words = f"{', '.join(sorted(frozen))} is frozen until {end:%F %H:%M} UTC"
    _hold(step, record, Pause.FREEZE, words, frozen_until=end)
    return True


def _frozen_until(step: Step, wave: WaveRecord) -> datetime | None:
    state = step.state
    frozen = frozen_regions(wave.regions, state.regions, state.zone, step.now)
    return max(frozen.values(), default=None)


def _to_begin(record: RolloutRecord) -> WaveRecord:
    """Return the wave that begins, or goes on, when a pause ends."""
    if record.queued:
        return record.waves[0]
    steps = record.spec.strategy.steps
    ahead = record.resume_to is Phase.BAKING and record.step + 1 == len(steps)
    return record.waves[min(record.wave + ahead, len(record.waves) - 1)]


def _hold(step: Step, record: RolloutRecord, pause: Pause, reason: str, **changes: object) -> None:
    changes = {"frozen_until": None, **changes}
    turn(step, record, Turn.HELD, reason, pause=pause, resume_to=record.phase, **changes)


def _is_judged_bad(step: Step, record: RolloutRecord) -> bool:
    """Send a rollout back if anything speaks against its canary; returns whether it was."""
    verdict = find(step, record)
    if verdict is None and record.spec.strategy.analysis.enabled and record.weighs:
        verdict = evidence.fault_of(step, record)
    if verdict is None:
        return False
    _condemn(step, record, verdict)
    return True


def _condemn(step: Step, record: RolloutRecord, verdict: VerdictRecord) -> None:
    send_back(step, record, Turn.JUDGED_BAD, verdict.words, verdicts=_with(record, verdict))


def _kept(step: Step, record: RolloutRecord, verdict: VerdictRecord) -> RolloutRecord:
    """Remember a verdict if it says something else than the last one."""
    if any(replace(v, at=verdict.at) == verdict for v in record.verdicts):
        return record
    return change(step, record, verdicts=_with(record, verdict))


def _with(record: RolloutRecord, verdict: VerdictRecord) -> tuple[VerdictRecord, ...]:
    others = tuple(v for v in record.verdicts if v.region != verdict.region)
    return (*others, verdict)


def _say(step: Step, record: RolloutRecord, reason: str) -> None:
    """Tell what it waits for."""
    if record.reason != reason:
        change(step, record, reason=reason)
