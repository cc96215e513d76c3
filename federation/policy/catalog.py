"""Models: their immutable versions and the aliases that move.

Input: events from the operator API. Output: records and commands in the Step; refusals as errors,
raised before anything changed. A version number is given to one content for ever, also across the
deletion of its model.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from federation.contract.errors import Conflict, Invalid
from federation.contract.names import check_model_name, check_name
from federation.contract.resources import ModelSpec
from federation.policy import lookup
from federation.policy.events import (
    AliasMoved,
    Applied,
    ModelApplied,
    ModelVersionPushed,
    ObjectRemoved,
)
from federation.policy.records import DeploymentRecord, ModelRecord, RetiredModel, VersionRecord
from federation.policy.settle import settle
from federation.policy.state import State, Step

_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}")


def model_applied(step: Step, event: ModelApplied) -> Applied:
    """Set description and aliases; creates the model if need be."""
    check_model_name(event.name)
    _check_publishers(event.spec)
    old = step.state.models.get(event.name)
    lookup.check_expected("Model", event.name, old.meta if old else None, event.expected)
    for alias, number in event.spec.aliases.items():
        _check_alias(alias)
        if old is None:
            raise Invalid(f"alias {alias!r} needs a version, and the model has none yet.")
        lookup.version(old, number)
    if old is None:
        step.put("Model", ModelRecord(meta=step.new_meta(event.name), spec=event.spec))
        step.audit("Model", event.name, "ModelCreated", f"model {event.name!r} was created.")
        return Applied(kind="Model", name=event.name, created=True)
    _change_spec(step, old, event.spec)
    return Applied(kind="Model", name=event.name)


def alias_moved(step: Step, event: AliasMoved) -> Applied:
    """Set an alias to a version, or remove it (version None)."""
    record = lookup.model(step.state, event.model)
    lookup.check_expected("Model", event.model, record.meta, event.expected)
    aliases = dict(record.spec.aliases)
    if event.version is None:
        lookup.alias(record, event.alias)
        del aliases[event.alias]
    else:
        _check_alias(event.alias)
        aliases[event.alias] = lookup.version(record, event.version).version
    _change_spec(step, record, replace(record.spec, aliases=aliases))
    return Applied(kind="Model", name=event.model, version=event.version or 0)


def _check_publishers(spec: ModelSpec) -> None:
    for key in spec.publishers:
        if not _PUBLIC_KEY.fullmatch(key):
            raise Invalid(
                f"{key[:80]!r} is not a public key.",
                hint="A publisher is an Ed25519 public key: 64 hexadecimal digits, lower case.",
            )


def _check_alias(alias: str) -> None:
    check_name("alias", alias)
    if alias.isdecimal():
        raise Invalid(f"alias {alias!r} would read like a version number.")


def _change_spec(step: Step, record: ModelRecord, spec: ModelSpec) -> None:
    name = record.meta.name
    gone = record.spec.aliases.keys() - spec.aliases.keys()
    for deployment in _deployments_of(step.state, name).values():
        if deployment.spec.version in gone:
            raise Conflict(
                f"alias {deployment.spec.version!r} of model {name!r} is used by deployment "
                f"{deployment.meta.name!r}.",
                hint="Point the deployment at another alias or version first.",
                reason="in-use",
            )
    if spec == record.spec:
        return
    meta = step.next_meta(record.meta, spec_changed=True)
    step.put("Model", replace(record, meta=meta, spec=spec))
    moves = _moves(record.spec.aliases, spec.aliases)
    step.audit("Model", name, "ModelChanged", f"model {name!r} was changed{moves}.")
    settle(step, {name})


def _moves(old: Mapping[str, int], new: Mapping[str, int]) -> str:
    words = [
        f"alias {alias!r} {old.get(alias, 'nothing')} → {new.get(alias, 'nothing')}"
        for alias in sorted(old.keys() | new.keys())
        if old.get(alias) != new.get(alias)
    ]
    return f": {', '.join(words)}" if words else ""


def model_version_pushed(step: Step, event: ModelVersionPushed) -> Applied:
    """Give the content the next version number, or return the number that it has already."""
    name = check_model_name(event.package.name)
    old = step.state.models.get(name)
    for known in old.versions if old else ():
        if known.digest == event.digest:
            return Applied(kind="Model", name=name, version=known.version, digest=known.digest)
    if old and old.spec.publishers and not set(old.spec.publishers) & set(event.signed_by):
        raise Invalid(
            f"a version of model {name!r} must be signed by one of its publishers, and this one "
            "is not.",
            hint="Push it with the publisher's key.",
            reason="not-signed",
        )
    number = _next_number(step.state, name, old)
    version = VersionRecord(
        version=number,
        digest=event.digest,
        size=event.size,
        files=event.files,
        package=event.package,
        source=event.source,
        created_at=step.now,
        created_by=event.actor,
        chunker=event.chunker,
        signed_by=event.signed_by,
        carries_code=event.carries_code,
    )
    if old:
        record = replace(old, meta=step.next_meta(old.meta), versions=(*old.versions, version))
    else:
        spec = ModelSpec(description=event.package.description)
        record = ModelRecord(meta=step.new_meta(name), spec=spec, versions=(version,))
    step.put("Model", record)
    message = f"version {number} of model {name!r} was pushed ({event.size} bytes)."
    step.audit("Model", name, "VersionPushed", message)
    settle(step, {name})
    return Applied(kind="Model", name=name, created=True, version=number, digest=event.digest)


def _next_number(state: State, name: str, record: ModelRecord | None) -> int:
    if record and record.versions:
        return record.versions[-1].version + 1
    retired = state.retired.get(name)
    return retired.last_version + 1 if retired else 1


def model_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Delete a model that no deployment uses, with all its versions."""
    record = lookup.model(step.state, event.name)
    lookup.check_expected("Model", event.name, record.meta, event.expected)
    if users := sorted(_deployments_of(step.state, event.name)):
        raise Conflict(
            f"model {event.name!r} is used by deployments {', '.join(users)}.",
            hint="Delete them first.",
            reason="in-use",
        )
    if users := sorted(n for n, p in step.state.prefetches.items() if p.spec.model == event.name):
        raise Conflict(
            f"model {event.name!r} is used by prefetches {', '.join(users)}.",
            hint="Delete them first.",
            reason="in-use",
        )
    step.delete("Model", event.name)
    if record.versions:
        retired = RetiredModel(name=event.name, last_version=record.versions[-1].version)
        step.put_quietly("RetiredModel", event.name, retired)
    step.audit("Model", event.name, "ModelDeleted", f"model {event.name!r} was deleted.")
    step.publish()
    return Applied(kind="Model", name=event.name)


def _deployments_of(state: State, model: str) -> dict[str, DeploymentRecord]:
    return {n: d for n, d in state.deployments.items() if d.spec.model == model}
