"""What people ask of rollouts: begin, pause, go on, go back.

Input: events from the operator API. Output: records and commands in the Step; refusals as errors,
raised before anything changed.
"""

from dataclasses import replace

from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.names import check_name, did_you_mean
from federation.contract.rollout import AnalysisSpec, RolloutSpec, RolloutStrategy
from federation.policy import lookup
from federation.policy.events import Applied, ObjectRemoved
from federation.policy.rollouts.events import RolloutApplied, RolloutSteered, RolloutUndone, Verb
from federation.policy.rollouts.ongoing import change, look_at, newest, send_back, turn
from federation.policy.rollouts.records import Hurry, Pause, Phase, RolloutRecord
from federation.policy.rollouts.starting import begin, deployment_of, prepared
from federation.policy.rollouts.table import RESUMES, Turn, allows, story
from federation.policy.state import State, Step

UNDO = RolloutStrategy(
    steps=(100.0,),
    bake_s=0.0,
    analysis=AnalysisSpec(enabled=False),
    allow_signature_change=True,
)


def rollout_applied(step: Step, event: RolloutApplied) -> Applied:
    """Begin a rollout; one that goes on for the same model is sent back first."""
    state, spec = step.state, event.spec
    if event.name:
        check_name("rollout", event.name)
        old = state.rollouts.get(event.name)
        lookup.check_expected("Rollout", event.name, old.meta if old else None, event.expected)
        if old is not None:
            return _again(old, spec)
    start = prepared(state, spec)
    going = newest(state, spec.model)
    if going and not event.name and _is_same(going, spec, start.canary):
        return Applied(kind="Rollout", name=going.meta.name, version=going.canary)
    name = begin(step, start, why=event.why, name=event.name)
    held = state.deployments[start.deployment]
    new = replace(
        held, spec=replace(held.spec, version=spec.version), rejected=0, asleep_since=None
    )
    if new != held:
        changed = held.spec.version != spec.version
        meta = step.next_meta(held.meta, spec_changed=changed)
        step.put("Deployment", replace(new, meta=meta))
    state.unsettled |= {spec.model}
    return Applied(kind="Rollout", name=name, created=True, version=start.canary)


def _again(old: RolloutRecord, spec: RolloutSpec) -> Applied:
    if old.spec == spec:
        return Applied(kind="Rollout", name=old.meta.name, version=old.canary)
    raise Conflict(
        f"rollout {old.meta.name!r} exists, and a rollout does not change.",
        hint="Start another one, under another name or none: it takes this one's place.",
        reason="rollout-exists",
    )


def _is_same(going: RolloutRecord, spec: RolloutSpec, canary: int) -> bool:
    same = (going.canary, going.spec.strategy) == (canary, spec.strategy)
    return same and going.phase is not Phase.ROLLING_BACK


def rollout_undone(step: Step, event: RolloutUndone) -> Applied:
    """Bring a model back to a version that it had: end what goes on, or begin a way back."""
    state = step.state
    deployment, held = deployment_of(state, event.model)
    going = newest(state, event.model)
    if going and going.phase is not Phase.ROLLING_BACK and event.version in (0, held.target):
        send_back(step, going, Turn.ABORTED, event.why or "it was undone")
        return Applied(kind="Rollout", name=going.meta.name, version=held.target)
    version = event.version or before(state, event.model)
    strategy = replace(UNDO, in_place=_was_in_place(state, event.model))
    spec = RolloutSpec(model=event.model, version=version, strategy=strategy)
    start = prepared(state, spec)
    name = begin(step, start, why=event.why or f"undo version {held.target}", undo=True)
    held = state.deployments[deployment]
    wished = lookup.resolve(state.models[event.model], held.spec.version)
    rejected = 0 if wished == start.canary else wished
    meta = step.next_meta(held.meta)
    step.put("Deployment", replace(held, meta=meta, rejected=rejected, asleep_since=None))
    state.unsettled |= {event.model}
    return Applied(kind="Rollout", name=name, created=True, version=start.canary)


def _was_in_place(state: State, model: str) -> bool:
    """Whether the newest rollout of a model was asked for in place: so is its way back, where there
    is room for one version only."""
    records = [r for r in state.rollouts.values() if r.spec.model == model]
    newest_of_all = max(records, key=lambda r: r.meta.created_at, default=None)
    return newest_of_all is not None and newest_of_all.spec.strategy.in_place


def before(state: State, model: str) -> int:
    """Return the version that a model had before the present one; raises Conflict if none."""
    _, held = deployment_of(state, model)
    promoted = [
        r
        for r in state.rollouts.values()
        if r.spec.model == model and r.phase is Phase.PROMOTED and r.canary == held.target
    ]
    if promoted:
        return max(promoted, key=lambda r: r.meta.resource_version).stable
    known = {v.version for v in state.models[model].versions}
    served = [v for v in held.served if v != held.target and v in known]
    if not served:
        raise Conflict(
            f"model {model!r} had no other version than {held.target}.",
            hint="Name one with: --to VERSION",
            reason="nothing-to-undo",
        )
    return served[-1]


def rollout_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Forget a rollout that is over."""
    record: RolloutRecord = lookup.find("Rollout", step.state.rollouts, event.name)
    lookup.check_expected("Rollout", event.name, record.meta, event.expected)
    if not record.over:
        raise Conflict(
            f"rollout {event.name!r} is {record.phase}.",
            hint=f"End it first: fed rollout abort {event.name}",
            reason="in-use",
        )
    step.delete("Rollout", event.name)
    step.audit("Rollout", event.name, "RolloutDeleted", f"rollout {event.name!r} was forgotten.")
    return Applied(kind="Rollout", name=event.name)


# ------------------------------------------------------------ steering


def rollout_steered(step: Step, event: RolloutSteered) -> Applied:
    """Do what somebody asks of a rollout that goes on."""
    record = _meant(step.state, event.name)
    match event.verb:
        case Verb.PAUSE:
            _pause(step, record, event)
        case Verb.RESUME:
            _resume(step, record, event)
        case Verb.PROMOTE:
            _promote(step, record, event)
        case Verb.APPROVE:
            _approve(step, record, event)
        case Verb.ABORT:
            _abort(step, record, event)
        case _:
            raise Invalid(f"{event.verb!r} is nothing that a rollout can be asked for.")
    return Applied(kind="Rollout", name=record.meta.name, version=record.canary)


def _meant(state: State, name: str) -> RolloutRecord:
    """Return the rollout of that name, or the newest that goes on for the model of that name."""
    if (record := state.rollouts.get(name)) is not None:
        return record
    if (going := newest(state, name)) is not None:
        return going
    if name in state.models:
        raise NotFound(
            f"no rollout of model {name!r} goes on.",
            hint=f"Those that are over are told by: fed rollout history {name}",
            reason="no-rollout",
        )
    hint = did_you_mean(name, (*state.going, *state.rollouts))
    raise NotFound(f"there is no rollout {name!r}.", hint=hint, reason="no-rollout")


def _pause(step: Step, record: RolloutRecord, event: RolloutSteered) -> None:
    if record.phase is Phase.PAUSED and record.pause is Pause.MANUAL:
        return
    goes_on = record.resume_to if record.phase is Phase.PAUSED else record.phase
    reason = _because(event, "paused it")
    turn(step, record, Turn.PAUSED, reason, pause=Pause.MANUAL, resume_to=goes_on)


def resume(step: Step, record: RolloutRecord, reason: str, **changes: object) -> RolloutRecord:
    """Let a paused rollout go on where it was."""
    back = record.resume_to or Phase.STAGING
    return turn(step, record, RESUMES[back], reason, **changes)


def _resume(step: Step, record: RolloutRecord, event: RolloutSteered) -> None:
    if record.phase is not Phase.PAUSED:
        _refuse(record, "resume", "Only a paused rollout can go on.")
    if record.pause is Pause.GATE:
        _refuse(record, "resume", f"It waits for: fed rollout approve {record.meta.name}")
    again = {"weighed_at": step.now} if record.pause is Pause.INCONCLUSIVE else {}
    resume(step, record, _because(event, "let it go on"), **again)


def _promote(step: Step, record: RolloutRecord, event: RolloutSteered) -> None:
    if record.pause is Pause.GATE and not event.full:
        _refuse(record, "promote", f"It waits for: fed rollout approve {record.meta.name}")
    reason = _because(event, "promoted it")
    if event.full:
        if record.queued or not allows(record, Turn.HURRIED):
            _refuse(record, "promote", "It has not begun, or is over.")
        turn(step, record, Turn.HURRIED, reason, **_all_waves(record, event.actor))
    elif record.queued or record.phase not in (*RESUMES, Phase.PAUSED):
        _refuse(record, "promote", "It has not begun, or is over.")
    elif record.phase is Phase.PAUSED:
        resume(step, record, reason, hurry=Hurry.STEP)
    elif record.phase is Phase.STAGING:
        _refuse(record, "promote", "The canary is not warm yet: nothing gets traffic before.")
    else:
        look_at(step, change(step, record, hurry=Hurry.STEP).meta.name, step.now)


def _all_waves(record: RolloutRecord, actor: str) -> dict[str, object]:
    waves = tuple(
        replace(wave, approved_by=wave.approved_by or actor) if wave.approval else wave
        for wave in record.waves
    )
    last_step = len(record.spec.strategy.steps) - 1
    return {"waves": waves, "wave": len(waves) - 1, "step": last_step, "hurry": Hurry.FULL}


def _approve(step: Step, record: RolloutRecord, event: RolloutSteered) -> None:
    number = record.wave if record.queued else record.wave + 1
    if record.over or number >= len(record.waves) or not record.waves[number].approval:
        _refuse(record, "approve", "No wave that is to come needs an approval.")
    if record.waves[number].approved_by:
        return
    wave = replace(record.waves[number], approved_by=event.actor)
    waves = (*record.waves[:number], wave, *record.waves[number + 1 :])
    if record.pause is Pause.GATE:
        resume(step, record, _because(event, f"approved wave {number + 1}"), waves=waves)
    else:
        look_at(step, change(step, record, waves=waves).meta.name, step.now)


def _abort(step: Step, record: RolloutRecord, event: RolloutSteered) -> None:
    if record.phase is Phase.ROLLING_BACK:
        return
    if record.over:
        _refuse(record, "abort", f"To go back: fed rollout undo {record.spec.model}")
    send_back(step, record, Turn.ABORTED, _because(event, "aborted it"))


def _refuse(record: RolloutRecord, verb: str, hint: str) -> None:
    raise Conflict(
        f"rollout {record.meta.name!r} is {record.phase} and cannot take {verb}. Its last "
        f"transitions: {'; '.join(story(record))}.",
        hint=hint,
        reason="invalid-transition",
    )


def _because(event: RolloutSteered, did: str) -> str:
    """Return who did what, and why if that was said."""
    return f"{event.actor} {did}{f': {event.why}' if event.why else ''}"
