"""Deployments: the wish of a model's owner, checked and kept.

Input: events from the operator API. Output: records and commands in the Step; refusals as errors,
raised before anything changed. What follows from a wish is decided in `placement` and `routing`.
"""

from dataclasses import replace

from federation.contract.errors import Conflict, Invalid
from federation.contract.names import check_name
from federation.contract.resources import DeploymentSpec
from federation.policy import lookup
from federation.policy.events import Applied, DeploymentApplied, ObjectRemoved
from federation.policy.records import DeploymentRecord
from federation.policy.settle import settle
from federation.policy.state import State, Step

MAX_REPLICAS = 1_000


def deployment_applied(step: Step, event: DeploymentApplied) -> Applied:
    """Create or change a deployment."""
    check_name("deployment", event.name)
    old = step.state.deployments.get(event.name)
    lookup.check_expected("Deployment", event.name, old.meta if old else None, event.expected)
    spec = event.spec
    target = _check(step.state, event.name, spec)
    if old and old.spec == spec:
        return Applied(kind="Deployment", name=event.name)
    models = {spec.model}
    if old is None:
        record = DeploymentRecord(meta=step.new_meta(event.name), spec=spec, target=target)
    else:
        models.add(old.spec.model)
        meta = step.next_meta(old.meta, spec_changed=True)
        record = replace(old, meta=meta, spec=spec)
        if old.spec.model != spec.model:
            record = DeploymentRecord(meta=meta, spec=spec, target=target)
    step.put("Deployment", record)
    where = f"in {', '.join(spec.regions)}" if spec.regions else "in all regions"
    step.audit(
        "Deployment",
        event.name,
        "DeploymentChanged" if old else "DeploymentCreated",
        f"deployment {event.name!r} wants model {spec.model!r} version {target} {where}.",
    )
    settle(step, models)
    return Applied(kind="Deployment", name=event.name, created=old is None)


def _check(state: State, name: str, spec: DeploymentSpec) -> int:
    """Return the version that the spec means; raises NotFound, Conflict or Invalid."""
    model = lookup.model(state, spec.model)
    other = next(
        (n for n, d in state.deployments.items() if d.spec.model == spec.model and n != name), None
    )
    if other:
        # A model has one default version and one residency for all of its requests.
        raise Conflict(
            f"model {spec.model!r} is deployed by {other!r} already.",
            hint=f"Change deployment {other!r}, or delete it first.",
            reason="model-deployed",
        )
    target = lookup.resolve(model, spec.version)
    for number in spec.pinned_versions:
        lookup.version(model, number)
    for region in (*spec.regions, *spec.residency):
        lookup.region(state, region)
    if spec.residency and (outside := sorted(set(spec.regions) - set(spec.residency))):
        raise Invalid(
            f"region {outside[0]!r} is outside of the residency ({', '.join(spec.residency)}): "
            "no request could ever be served there.",
            hint="Remove it from regions, or add it to residency.",
        )
    if not 1 <= spec.replicas <= MAX_REPLICAS:
        raise Invalid(f"replicas must be 1 to {MAX_REPLICAS}, not {spec.replicas}.")
    if spec.resources and (spec.resources.gpus < 0 or spec.resources.memory_mib < 0):
        raise Invalid("resources must not be negative.")
    return target


def deployment_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Delete a deployment: its model is unloaded everywhere, at once."""
    record = lookup.deployment(step.state, event.name)
    lookup.check_expected("Deployment", event.name, record.meta, event.expected)
    step.delete("Deployment", event.name)
    message = f"deployment {event.name!r} of model {record.spec.model!r} was deleted."
    step.audit("Deployment", event.name, "DeploymentDeleted", message)
    settle(step, {record.spec.model})
    return Applied(kind="Deployment", name=event.name)
