"""Which rollouts go on, and when each is looked at next.

Input: the State. Output: records found and put; moments for the control loop. Everybody who changes
a rollout's record does it here, so that the index by model and the moments stay right.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from federation.policy.lookup import resolve
from federation.policy.rollouts import evidence
from federation.policy.rollouts.records import Hurry, Phase, RolloutRecord
from federation.policy.rollouts.table import Turn, taken
from federation.policy.state import State, Step

KEPT = 50  # rollouts of one model that are remembered when they are over


def of_model(state: State, model: str) -> list[RolloutRecord]:
    """Return the rollouts of a model that are not over, the older one first."""
    return [state.rollouts[name] for name in state.going.get(model, ())]


def moving(state: State, model: str) -> RolloutRecord | None:
    """Return the rollout of a model that has begun and is not over; there is at most one."""
    return next((r for r in of_model(state, model) if r.moving), None)


def newest(state: State, model: str) -> RolloutRecord | None:
    """Return the rollout of a model that was asked for last and is not over."""
    return next(reversed(of_model(state, model)), None)


def all_going(state: State) -> Iterator[RolloutRecord]:
    """Yield all rollouts that are not over."""
    for names in state.going.values():
        for name in names:
            yield state.rollouts[name]


def put(step: Step, record: RolloutRecord) -> RolloutRecord:
    """Remember a rollout whose meta was made by `new_meta` or `next_meta`."""
    step.put("Rollout", record)
    name, model, going = record.meta.name, record.spec.model, step.state.going
    names = going.get(model, ())
    if not record.over:
        if name not in names:
            going[model] = (*names, name)
        return record
    if left := tuple(n for n in names if n != name):
        going[model] = left
    else:
        going.pop(model, None)
    _end(step, record)
    return record


def _end(step: Step, record: RolloutRecord) -> None:
    """What is over needs nothing any more, and makes room for those that wait."""
    state, name = step.state, record.meta.name
    state.rollout_due.pop(name, None)
    state.rollout_sent.pop(name, None)
    for other in all_going(state):
        if other.queued:
            look_at(step, other.meta.name, step.now)
    model = record.spec.model
    over = [n for n, r in state.rollouts.items() if r.over and r.spec.model == model]
    for old in sorted(over, key=lambda n: state.rollouts[n].ended_at or step.now)[:-KEPT]:
        step.delete("Rollout", old)


def change(step: Step, record: RolloutRecord, /, **changes: Any) -> RolloutRecord:
    """Change something of a rollout that is not its phase."""
    return put(step, replace(record, meta=step.next_meta(record.meta), **changes))


def turn(
    step: Step, record: RolloutRecord, event: Turn, reason: str = "", /, **changes: Any
) -> RolloutRecord:
    """Take a rollout to its next phase; raises InvalidTransition.

    It is looked at again at once, its model is settled, and routers hear of it.
    """
    new = taken(record, event, step.now, step.actor, reason, **changes)
    state, name = step.state, record.meta.name
    state.rollout_sent.pop(name, None)
    new = put(step, replace(new, meta=step.next_meta(record.meta)))
    evidence.save(step, new)
    if not new.over:
        look_at(step, name, step.now)
    state.unsettled |= {record.spec.model}
    step.publish()
    said = f": {reason}" if reason else "."
    where = f"wave {new.wave + 1} of {len(new.waves)}, " if new.waves else ""
    words = f"rollout {name!r} of model {record.spec.model!r}, {where}is {new.phase}{said}"
    step.audit("Rollout", name, f"Rollout{event.value.title().replace(' ', '')}", words)
    return new


def send_back(
    step: Step, record: RolloutRecord, event: Turn, reason: str, /, **changes: Any
) -> RolloutRecord:
    """Take a rollout back to its stable version; one that has not begun is over at once.

    The deployment's wish stays as it is. Unless another rollout takes over, it is not followed any
    more while it means the version that was sent back.
    """
    if record.queued and record.phase is Phase.PAUSED:
        record = turn(step, record, Turn.RESUMED_PENDING)
    had_traffic = record.phase is not Phase.PENDING and any(w.weight for w in record.waves)
    weighed_at = None if had_traffic else step.now
    new = turn(step, record, event, reason, weighed_at=weighed_at, hurry=Hurry.NO, **changes)
    if event is not Turn.SUPERSEDED:
        _reject(step, record)
    return new


def _reject(step: Step, record: RolloutRecord) -> None:
    deployment = step.state.deployments[record.deployment]
    wished = resolve(step.state.models[record.spec.model], deployment.spec.version)
    rejected = deployment.rejected
    if wished == record.canary:
        rejected = record.canary
    elif record.undo and wished == deployment.target:
        rejected = 0  # what was to be undone stays
    if rejected != deployment.rejected:
        meta = step.next_meta(deployment.meta)
        step.put("Deployment", replace(deployment, meta=meta, rejected=rejected))


def orphan(step: Step, model: str) -> None:
    """End the rollouts of a model whose deployment goes."""
    for record in of_model(step.state, model):
        turn(step, record, Turn.ORPHANED, "the deployment of the model is gone")


def look_at(step: Step, name: str, moment: datetime) -> None:
    """Have a rollout looked at, at this moment at the latest."""
    due = step.state.rollout_due
    due[name] = min(moment, due.get(name, moment))
    step.wake_at(due[name])


def waits_for_routers(state: State, model: str) -> bool:
    """Whether a rollout of a model goes on when routers have its weights."""
    record = moving(state, model)
    return record is not None and (
        record.phase is Phase.PROGRESSING
        or (record.phase is Phase.ROLLING_BACK and record.weighed_at is None)
    )


def look_for(step: Step, models: frozenset[str] | set[str]) -> None:
    """Have the rollouts of these models looked at with this batch of events."""
    going = step.state.going
    for model in models & going.keys():
        for name in going[model]:
            look_at(step, name, step.now)
