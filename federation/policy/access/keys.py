"""Keys: made, rotated, revoked.

Input: events from the operator API; only the digest of a key ever comes here. Output: records and
commands in the Step; refusals as errors, raised before anything changed. Routers hear of inference
keys with the next snapshot, the operator API looks keys up in the State: both know at once.
"""

import re
from collections.abc import Collection
from dataclasses import replace

from federation.contract.access import Grant, Role
from federation.contract.errors import AlreadyExists, Invalid
from federation.contract.names import check_name, did_you_mean
from federation.policy import lookup
from federation.policy.access.events import KeyCreated
from federation.policy.access.records import KeyKind, KeyRecord
from federation.policy.events import Applied, ObjectRemoved
from federation.policy.state import Step

_PATTERN = re.compile(r"[A-Za-z0-9._*?-]{1,63}")


def key_created(step: Step, event: KeyCreated) -> Applied:
    """Remember a new key, or the new digest of one that is rotated."""
    check_name("key", event.id)
    if event.expires_at is not None and event.expires_at <= step.now:
        raise Invalid(f"key {event.id!r} would have expired already.", hint="Choose a later time.")
    if event.rotate:
        return _rotated(step, event)
    if event.id in step.state.keys:
        raise AlreadyExists(
            f"there is a key {event.id!r} already.",
            hint=f"Replace its text with: fed key rotate {event.id}",
        )
    _check_scope(step, event)
    record = KeyRecord(
        meta=step.new_meta(event.id),
        kind=event.kind,
        digest=event.digest,
        created_by=event.actor,
        tenant=event.tenant,
        grants=event.grants,
        expires_at=event.expires_at,
    )
    _put(step, record, "KeyCreated", f"key {event.id!r} was made for {_purpose(record)}.")
    return Applied(kind="Key", name=event.id, created=True)


def _rotated(step: Step, event: KeyCreated) -> Applied:
    record = lookup.find("Key", step.state.keys, event.id)
    if event.digest == record.digest:
        raise Invalid(
            f"key {event.id!r} would get the text that it has.",
            hint="Use a new idempotency key for each new request.",
            reason="idempotency-key-reused",
        )
    expires_at = event.expires_at or record.expires_at
    if expires_at is not None and expires_at <= step.now:
        raise Invalid(
            f"key {event.id!r} expired at {expires_at:%F %T} UTC.",
            hint=f"Say how long it shall last: fed key rotate {event.id} --expires 90d",
        )
    new = replace(
        record, meta=step.next_meta(record.meta), digest=event.digest, expires_at=expires_at
    )
    _put(step, new, "KeyRotated", f"key {event.id!r} got a new text; the old one is void.")
    return Applied(kind="Key", name=event.id)


def key_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Revoke a key: it is void from now on."""
    record: KeyRecord = lookup.find("Key", step.state.keys, event.name)
    lookup.check_expected("Key", event.name, record.meta, event.expected)
    step.delete("Key", event.name)
    step.audit("Key", event.name, "KeyRevoked", f"key {event.name!r} was revoked.")
    _tell_routers(step, record)
    return Applied(kind="Key", name=event.name)


def _put(step: Step, record: KeyRecord, reason: str, message: str) -> None:
    step.put("Key", record)
    step.audit("Key", record.meta.name, reason, message)
    _tell_routers(step, record)


def _tell_routers(step: Step, record: KeyRecord) -> None:
    if record.kind is KeyKind.INFERENCE:
        step.publish()


def _purpose(record: KeyRecord) -> str:
    if record.kind is KeyKind.INFERENCE:
        return f"tenant {record.tenant!r}"
    return " and ".join(words(grant) for grant in record.grants)


def words(grant: Grant) -> str:
    """Return a grant as people read it: "operator of eu-west, us-east"."""
    scope = ", ".join((*grant.regions, *grant.models))
    return f"{grant.role.value} of {scope}" if scope else grant.role.value


def _check_scope(step: Step, event: KeyCreated) -> None:
    """Raise Invalid or NotFound unless the key opens something that exists, and only that."""
    if event.kind is KeyKind.INFERENCE:
        if event.grants or not event.tenant:
            raise Invalid("a key for inference belongs to a tenant and has no roles.")
        lookup.find("Tenant", step.state.tenants, event.tenant)
        return
    if event.tenant or not event.grants:
        raise Invalid(
            "a key for the operator API has one role or more, and no tenant.",
            hint=f"The roles are: {', '.join(Role)}.",
        )
    for grant in event.grants:
        check_grant(grant, step.state.regions)


def check_grant(grant: Grant, regions: Collection[str] | None = None) -> None:
    """Raise Invalid if the role knows no such limit, or a limit is none.

    With `regions`, those named must be among them.
    """
    if grant.models and grant.role is not Role.MODEL_OWNER:
        raise Invalid(f"the role {grant.role.value} cannot be limited to models.")
    if grant.regions and grant.role is not Role.OPERATOR:
        raise Invalid(f"the role {grant.role.value} cannot be limited to regions.")
    for pattern in grant.models:
        if not _PATTERN.fullmatch(pattern):
            raise Invalid(
                f"{pattern!r} is no pattern of models.", hint="It looks like 'llama-*' or 'ocr'."
            )
    for region in grant.regions:
        check_name("region", region)
        if regions is not None and region not in regions:
            raise Invalid(f"region {region!r} is unknown.", hint=did_you_mean(region, regions))
