"""Prefetches: wishes that versions lie ready, checked and kept.

Input: events from the operator API. Output: records and commands in the Step; refusals as errors,
raised before anything changed. What follows from a wish is decided in `sync.staging`.
"""

from federation.contract.errors import Invalid
from federation.contract.names import check_name
from federation.contract.resources import PrefetchSpec
from federation.policy import lookup
from federation.policy.events import Applied, ObjectRemoved
from federation.policy.settle import settle
from federation.policy.state import State, Step
from federation.policy.sync.events import PrefetchApplied
from federation.policy.sync.records import PrefetchRecord


def prefetch_applied(step: Step, event: PrefetchApplied) -> Applied:
    """Create or change a prefetch."""
    check_name("prefetch", event.name)
    old = step.state.prefetches.get(event.name)
    lookup.check_expected("Prefetch", event.name, old.meta if old else None, event.expected)
    _check(step.state, event.spec)
    if old and old.spec == event.spec:
        return Applied(kind="Prefetch", name=event.name)
    meta = step.next_meta(old.meta, spec_changed=True) if old else step.new_meta(event.name)
    step.put("Prefetch", PrefetchRecord(meta=meta, spec=event.spec))
    spec = event.spec
    where = f"in {', '.join(spec.regions)}" if spec.regions else "in all regions"
    step.audit(
        "Prefetch",
        event.name,
        "PrefetchChanged" if old else "PrefetchCreated",
        f"version {spec.version} of model {spec.model!r} shall lie ready {where}.",
    )
    settle(step, {spec.model, old.spec.model} if old else {spec.model})
    return Applied(kind="Prefetch", name=event.name, created=old is None)


def _check(state: State, spec: PrefetchSpec) -> None:
    """Raise NotFound or Invalid unless the spec names what there is."""
    model = lookup.model(state, spec.model)
    if spec.version < 1:
        raise Invalid(f"a prefetch names a version, 1 or more, not {spec.version}.")
    lookup.version(model, spec.version)
    for region in spec.regions:
        lookup.region(state, region)


def prefetch_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Delete a prefetch: what lies ready because of it alone may make room for other versions."""
    record = lookup.find("Prefetch", step.state.prefetches, event.name)
    lookup.check_expected("Prefetch", event.name, record.meta, event.expected)
    step.delete("Prefetch", event.name)
    spec = record.spec
    message = f"prefetch {event.name!r} of model {spec.model!r} version {spec.version} was deleted."
    step.audit("Prefetch", event.name, "PrefetchDeleted", message)
    settle(step, {spec.model})
    return Applied(kind="Prefetch", name=event.name)
