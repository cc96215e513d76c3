"""Tenants: who may use which models, where, and how much.

Input: events from the operator API. Output: records and commands in the Step; refusals as errors,
raised before anything changed. Routers hear of a change with the next snapshot.
"""

import re

from federation.contract.errors import Conflict, Invalid
from federation.contract.names import check_name, did_you_mean
from federation.contract.resources import TenantSpec
from federation.policy import lookup
from federation.policy.access.events import TenantApplied
from federation.policy.access.records import TenantRecord
from federation.policy.events import Applied, ObjectRemoved
from federation.policy.state import State, Step

ANONYMOUS = "anonymous"  # what routers call clients without a key, where those are let in
MAX_ENTRIES = 100
MAX_LIMIT = 1_000_000_000
_PATTERN = re.compile(r"[A-Za-z0-9._*?-]{1,63}")
_LIMITS = ("requests_per_minute", "tokens_per_minute", "max_concurrent")
_NAMED = 8  # keys that a refusal names


def tenant_applied(step: Step, event: TenantApplied) -> Applied:
    """Create a tenant or change what it may do."""
    check_name("tenant", event.name)
    if event.name == ANONYMOUS:
        raise Invalid(
            f"{ANONYMOUS!r} is what routers call clients without a key.",
            hint="Give the tenant another name.",
        )
    old = step.state.tenants.get(event.name)
    lookup.check_expected("Tenant", event.name, old.meta if old else None, event.expected)
    _check_spec(step.state, event.spec)
    if old and old.spec == event.spec:
        return Applied(kind="Tenant", name=event.name)
    meta = step.next_meta(old.meta, spec_changed=True) if old else step.new_meta(event.name)
    step.put("Tenant", TenantRecord(meta=meta, spec=event.spec))
    reason, verb = ("TenantChanged", "changed") if old else ("TenantCreated", "created")
    message = f"tenant {event.name!r} was {verb}: {words(event.spec)}."
    step.audit("Tenant", event.name, reason, message)
    step.publish()
    return Applied(kind="Tenant", name=event.name, created=old is None)


def tenant_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Delete a tenant that has no keys any more."""
    record: TenantRecord = lookup.find("Tenant", step.state.tenants, event.name)
    lookup.check_expected("Tenant", event.name, record.meta, event.expected)
    if keys := keys_of(step.state, event.name):
        named = ", ".join(keys[:_NAMED]) + (", ..." if len(keys) > _NAMED else "")
        raise Conflict(
            f"tenant {event.name!r} still has {len(keys)} keys: {named}.",
            hint="Revoke them first: fed delete key NAME",
            reason="in-use",
        )
    step.delete("Tenant", event.name)
    step.audit("Tenant", event.name, "TenantDeleted", f"tenant {event.name!r} was deleted.")
    step.publish()
    return Applied(kind="Tenant", name=event.name)


def keys_of(state: State, tenant: str) -> list[str]:
    """Return the ids of a tenant's keys, in order."""
    return sorted(name for name, key in state.keys.items() if key.tenant == tenant)


def residing(state: State, region: str) -> list[str]:
    """Return the tenants whose residency names the region, in order."""
    return sorted(n for n, t in state.tenants.items() if region in t.spec.residency)


def words(spec: TenantSpec) -> str:
    """Return in words what a tenant may do."""
    parts = [
        f"models {', '.join(spec.models)}" if spec.models else "all models",
        f"only in {', '.join(spec.residency)}" if spec.residency else "in all regions",
    ]
    parts += [
        f"{getattr(spec, name)} {told}"
        for name, told in (
            ("requests_per_minute", "requests a minute"),
            ("tokens_per_minute", "tokens a minute"),
            ("max_concurrent", "requests at once"),
        )
        if getattr(spec, name)
    ]
    return "; ".join(parts)


def _check_spec(state: State, spec: TenantSpec) -> None:
    for name in ("models", "residency"):
        entries: tuple[str, ...] = getattr(spec, name)
        if len(entries) > MAX_ENTRIES or len(set(entries)) != len(entries):
            raise Invalid(f"{name} must name at most {MAX_ENTRIES} things, each once.")
    for pattern in spec.models:
        if not _PATTERN.fullmatch(pattern):
            raise Invalid(
                f"{pattern!r} is no pattern of models.",
                hint="It is a name, perhaps with '*' or '?': 'llama-*'. It names no version.",
            )
    for region in spec.residency:
        if region not in state.regions:
            raise Invalid(
                f"region {region!r} is unknown.",
                hint=did_you_mean(region, state.regions),
                reason="unknown-region",
            )
    for name in _LIMITS:
        if not 0 <= getattr(spec, name) <= MAX_LIMIT:
            raise Invalid(f"{name} must be 0 (no limit) to {MAX_LIMIT}.")
