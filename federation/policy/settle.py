"""After any event: bring assignments and default versions in line with the wishes.

Input: the Step of an event whose own change is done, and the models that it touched. Output:
records and commands in that Step. Settling twice without news in between changes nothing the
second time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from federation.contract.types import AssignedVersion, Assignment, Urgency
from federation.policy.events import Assign
from federation.policy.placement import Wish, not_selected, place, wish_of
from federation.policy.records import ClusterRecord, DeploymentRecord
from federation.policy.routing import choose_version
from federation.policy.standing import assigned_versions, is_routable, is_up_to_date, warm_versions
from federation.policy.state import State, Step
from federation.policy.sync.staging import Staging, stage, stagings

ByModel = dict[str, tuple[AssignedVersion, ...]]
_SERVED = 16  # versions that a deployment remembers to have been routed to


def settle(step: Step, models: Iterable[str] | None = None) -> None:
    """Recompute what follows from the wishes for `models` (None = for all)."""
    state = step.state
    _note_targets(step, None if models is None else set(models))
    wishes, staged = wishes_of(state), stagings(state)
    everything = wishes.keys() | staged.keys() | _assigned_models(state)
    affected = set(models) if models is not None else everything
    changes: dict[str, ByModel] = {}
    for model in sorted(affected):
        wanted = _Wanted(model, wishes.get(model), staged.get(model, ()))
        for cluster, versions in _placed(state, wanted).items():
            changes.setdefault(cluster, {})[model] = versions
    for cluster in sorted(changes):
        _assign(step, state.clusters[cluster], changes[cluster])
    for model in sorted(affected & wishes.keys()):
        _route(step, wishes[model])
    step.publish()


def wishes_of(state: State) -> dict[str, Wish]:
    """Return the wish for each deployed model."""
    return {
        deployment.spec.model: wish_of(deployment, state.models[deployment.spec.model])
        for deployment in state.deployments.values()
    }


def _assigned_models(state: State) -> set[str]:
    return {v.model for record in state.clusters.values() for v in record.assignment.versions}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that is wished of one model."""

    model: str
    wish: Wish | None
    staged: tuple[Staging, ...]


def _note_targets(step: Step, models: set[str] | None) -> None:
    """Keep in each deployment which version it means now, and how urgent the last move was."""
    for name, record in list(step.state.deployments.items()):
        model = record.spec.model
        if models is not None and model not in models:
            continue
        target = wish_of(record, step.state.models[model]).target
        if target == record.target:
            continue
        new = retargeted(record, target)
        step.put("Deployment", replace(new, meta=step.next_meta(record.meta)))
        if new.urgency is Urgency.ROLLBACK:
            message = (
                f"deployment {name!r} goes back to version {target} of model {model!r} "
                f"(before: {record.target})."
            )
            step.audit("Deployment", name, "RollbackStarted", message)


def retargeted(record: DeploymentRecord, target: int) -> DeploymentRecord:
    """Return the record with another target; back to an older or a proven version is urgent."""
    back = 0 < target < record.target or (record.target > 0 and target in record.served)
    return replace(record, target=target, urgency=Urgency.ROLLBACK if back else Urgency.NORMAL)


def _placed(state: State, wanted: _Wanted) -> ByModel:
    """Return, by cluster, the versions of one model where they differ from what is assigned."""
    wish = wanted.wish
    warm_at = _warm_at(state, wish) if wish else {}
    changed: ByModel = {}
    for name, record in state.clusters.items():
        current = assigned_versions(record, wanted.model)
        versions: tuple[AssignedVersion, ...] = ()
        if wish:
            elsewhere = {number for number, clusters in warm_at.items() if clusters - {name}}
            versions = place(
                wish,
                record,
                up_to_date=is_up_to_date(state, record),
                warm_elsewhere=elsewhere,
            )
        if wanted.staged:
            served = {v.version for v in versions}
            ready = stage(wanted.staged, record, wanted.model, served)
            versions = tuple(sorted((*versions, *ready), key=lambda v: v.version))
        if versions != current:
            changed[name] = versions
    return changed


def _warm_at(state: State, wish: Wish) -> dict[int, set[str]]:
    """Return where each version is warm for good: selected, routable, and told by a new report."""
    warm_at: dict[int, set[str]] = {}
    for name, record in state.clusters.items():
        if (
            is_routable(record)
            and not not_selected(wish.spec, record.spec)
            and is_up_to_date(state, record)
        ):
            for assigned in warm_versions(record, wish.spec.model):
                if assigned.version in wish.wanted:
                    warm_at.setdefault(assigned.version, set()).add(name)
    return warm_at


def _assign(step: Step, record: ClusterRecord, changes: ByModel) -> None:
    others = [v for v in record.assignment.versions if v.model not in changes]
    versions = sorted(
        [*others, *(v for new in changes.values() for v in new)], key=lambda v: (v.model, v.version)
    )
    name = record.meta.name
    assignment = Assignment(
        cluster=name, generation=record.assignment.generation + 1, versions=tuple(versions)
    )
    step.put("Cluster", replace(record, meta=step.next_meta(record.meta), assignment=assignment))
    step.emit(Assign(assignment=assignment))
    message = f"cluster {name!r} shall serve {_listed(v for v in versions if not v.stage_only)}"
    if any(v.stage_only for v in versions):
        message += f" and have ready {_listed(v for v in versions if v.stage_only)}"
    step.audit("Cluster", name, "AssignmentChanged", f"{message}.")


def _listed(versions: Iterable[AssignedVersion]) -> str:
    return ", ".join(f"{v.model} {v.version}" for v in versions) or "nothing"


def _route(step: Step, wish: Wish) -> None:
    model = wish.spec.model
    record = next(d for d in step.state.deployments.values() if d.spec.model == model)
    chosen = choose_version(step.state, wish, record.routed_version)
    if chosen == record.routed_version:
        return
    served = (*(v for v in record.served if v != chosen), chosen)[-_SERVED:]
    meta = step.next_meta(record.meta)
    step.put("Deployment", replace(record, meta=meta, routed_version=chosen, served=served))
    step.audit(
        "Deployment",
        record.meta.name,
        "DefaultVersionMoved",
        f"requests for model {model!r} that name no version go to version {chosen} now"
        + (f" (before: {record.routed_version})." if record.routed_version else "."),
    )
