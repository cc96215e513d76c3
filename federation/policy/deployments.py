"""Deployments: the wish of a model's owner, checked and kept.

Input: events from the operator API. Output: records and commands in the Step; refusals as errors,
raised before anything changed. What follows from a wish is decided in `placement` and `routing`.
"""

import math
from dataclasses import replace

from federation.contract.errors import Conflict, Invalid
from federation.contract.names import check_name
from federation.contract.requirements import resource_problems
from federation.contract.resources import DeploymentSpec
from federation.contract.rollout_rules import check_strategy
from federation.contract.scaling import MAX_REPLICAS, scaling_problems
from federation.contract.types import EngineKind
from federation.policy import lookup
from federation.policy.analysis.limits import limits_of
from federation.policy.events import Applied, DeploymentApplied, ObjectRemoved
from federation.policy.placement import RUNTIMES
from federation.policy.records import DeploymentRecord
from federation.policy.rollouts.ongoing import orphan
from federation.policy.scaling import watch_load
from federation.policy.settle import settle
from federation.policy.state import State, Step

MAX_CLUSTERS = 100_000


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
        models |= {old.spec.model, *old.spec.anti_affinity}  # who may come closer now
        meta = step.next_meta(old.meta, spec_changed=True)
        record = replace(old, meta=meta, spec=spec, asleep_since=None)
        if old.spec.model != spec.model:
            orphan(step, old.spec.model)
            record = DeploymentRecord(meta=meta, spec=spec, target=target)
    step.put("Deployment", record)
    where = f"in {', '.join(spec.regions)}" if spec.regions else "in all regions"
    step.audit(
        "Deployment",
        event.name,
        "DeploymentChanged" if old else "DeploymentCreated",
        f"deployment {event.name!r} wants model {spec.model!r} version {target} {where}.",
    )
    watch_load(step)
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
    if spec.resources and (problem := next(resource_problems(spec.resources), "")):
        raise Invalid(problem)
    if problem := next(scaling_problems(spec.scaling), ""):
        raise Invalid(problem)
    _check_choice(state, spec)
    if spec.rollout is not None:
        check_strategy(spec.rollout)
        if spec.rollout.analysis.enabled:
            limits_of(spec.rollout.analysis, bake_s=spec.rollout.bake_s)
    return target


def _check_choice(state: State, spec: DeploymentSpec) -> None:
    """Raise NotFound or Invalid if what the spec says of clusters makes no sense."""
    if not 0 <= spec.clusters <= MAX_CLUSTERS:
        raise Invalid(f"clusters must be 0 (= all) to {MAX_CLUSTERS}, not {spec.clusters}.")
    if spec.engine in (EngineKind.STATIC, EngineKind.UNKNOWN):
        known = " or ".join(engine.value for engine, runs in RUNTIMES.items() if runs)
        raise Invalid(f"engine {spec.engine.value!r} loads no models.", hint=f"Write {known}.")
    price = spec.max_price_per_gpu_hour
    if not math.isfinite(price) or price < 0:
        raise Invalid("max_price_per_gpu_hour must be a number from 0 (= any) on.")
    for model in spec.anti_affinity:
        lookup.model(state, model)
    if spec.model in spec.anti_affinity:
        raise Invalid(
            f"model {spec.model!r} cannot be apart from itself.",
            hint="Remove it from anti_affinity; replicas says how many are at a cluster.",
        )


def deployment_removed(step: Step, event: ObjectRemoved) -> Applied:
    """Delete a deployment: its model is unloaded everywhere, at once."""
    record = lookup.deployment(step.state, event.name)
    lookup.check_expected("Deployment", event.name, record.meta, event.expected)
    orphan(step, record.spec.model)
    step.delete("Deployment", event.name)
    step.state.wakes.pop(event.name, None)
    message = f"deployment {event.name!r} of model {record.spec.model!r} was deleted."
    step.audit("Deployment", event.name, "DeploymentDeleted", message)
    settle(step, {record.spec.model})
    return Applied(kind="Deployment", name=event.name)
