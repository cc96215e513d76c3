"""After any event: bring assignments and default versions in line with the wishes.

Input: the Step of an event whose own change is done, and the models that it touched. Output:
records and commands in that Step. Settling twice without news in between changes nothing the
second time.
"""

from collections.abc import Iterable
from dataclasses import replace

from federation.contract.types import AssignedVersion, Assignment
from federation.policy.events import Assign
from federation.policy.placement import Wish, not_selected, place, wish_of
from federation.policy.records import ClusterRecord
from federation.policy.routing import choose_version
from federation.policy.standing import assigned_versions, is_routable, is_up_to_date, warm_versions
from federation.policy.state import State, Step

ByModel = dict[str, tuple[AssignedVersion, ...]]


def settle(step: Step, models: Iterable[str] | None = None) -> None:
    """Recompute what follows from the wishes for `models` (None = for all)."""
    state = step.state
    wishes = wishes_of(state)
    affected = set(models) if models is not None else wishes.keys() | _assigned_models(state)
    changes: dict[str, ByModel] = {}
    for model in sorted(affected):
        for cluster, versions in _placed(state, wishes.get(model), model).items():
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


def _placed(state: State, wish: Wish | None, model: str) -> ByModel:
    """Return, by cluster, the versions of one model where they differ from what is assigned."""
    warm_at = _warm_at(state, wish) if wish else {}
    changed: ByModel = {}
    for name, record in state.clusters.items():
        current = assigned_versions(record, model)
        versions: tuple[AssignedVersion, ...] = ()
        if wish:
            elsewhere = {number for number, clusters in warm_at.items() if clusters - {name}}
            versions = place(
                wish,
                record,
                up_to_date=is_up_to_date(state, record),
                warm_elsewhere=elsewhere,
            )
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
    listed = ", ".join(f"{v.model} {v.version}" for v in versions) or "nothing"
    step.audit("Cluster", name, "AssignmentChanged", f"cluster {name!r} shall serve {listed}.")


def _route(step: Step, wish: Wish) -> None:
    model = wish.spec.model
    record = next(d for d in step.state.deployments.values() if d.spec.model == model)
    chosen = choose_version(step.state, wish, record.routed_version)
    if chosen == record.routed_version:
        return
    step.put("Deployment", replace(record, meta=step.next_meta(record.meta), routed_version=chosen))
    step.audit(
        "Deployment",
        record.meta.name,
        "DefaultVersionMoved",
        f"requests for model {model!r} that name no version go to version {chosen} now"
        + (f" (before: {record.routed_version})." if record.routed_version else "."),
    )
