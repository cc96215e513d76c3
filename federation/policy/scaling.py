"""Looks at the load of the deployments whose replicas follow it, every few seconds.

Input: the newest reports, and time. Output: the Scales in the State, which `placement` reads, and
the models to settle. Nothing is looked at while no deployment wants it.

A version is looked at where it is warm and its cluster in contact. Where that is not so, nothing is
known: what is there stays, and the windows begin anew. So they do when the control plane restarts.
"""

from collections.abc import Iterator
from datetime import timedelta

from federation.contract.resources import DeploymentSpec
from federation.contract.scaling import ScalingMode
from federation.contract.types import ObservedVersion, VersionState
from federation.policy.autoscaling import Load, Scale, follow, work_of
from federation.policy.sleeping import rest
from federation.policy.standing import is_confirmed, warm_versions
from federation.policy.state import ScaleKey, State, Step

PAUSE = timedelta(seconds=5)


def is_auto(spec: DeploymentSpec) -> bool:
    """Whether replicas of the deployment follow the load."""
    return spec.scaling.mode is ScalingMode.AUTO


def watch_load(step: Step) -> None:
    """Ask for the next look, if any deployment wants it."""
    state = step.state
    if not any(is_auto(each.spec) for each in state.deployments.values()):
        state.look_at, state.scales, state.idle = None, {}, {}
        return
    # A clock that was set back must not silence us.
    if state.look_at is None or not step.now < state.look_at <= step.now + PAUSE:
        state.look_at = step.now + PAUSE
    step.wake_at(state.look_at)


def look_at_load(step: Step) -> set[str]:
    """Take a look if it is due; returns the models of which other numbers are asked for."""
    state = step.state
    due = state.look_at
    if due is None:
        return set()
    if due - PAUSE <= step.now < due:
        step.wake_at(due)
        return set()
    state.look_at = None
    changed: set[str] = set()
    before, state.scales = state.scales, {}
    specs = {d.spec.model: (name, d.spec) for name, d in state.deployments.items()}
    for key, seen, there in _looks(state, specs):
        deployment, spec = specs[key[1]]
        old = before.get(key)
        load, limits = load_of(seen), spec.scaling
        new = follow(
            old, work_of(load), there=there, limits=limits, now=step.now, rounds=load.rounds
        )
        state.scales[key] = new
        if new.asked != (old.asked if old else there):
            changed.add(key[1])
            _tell(step, deployment, key, new, old.asked if old else there)
    changed |= rest(step)
    watch_load(step)
    return changed


def load_of(seen: ObservedVersion) -> Load:
    """Return how busy a version is, by a report."""
    return Load(
        replicas=seen.replicas,
        in_flight=seen.in_flight,
        rate=seen.rate,
        latency_ms=seen.latency_ms,
        queued=seen.queued,
        calibration=seen.calibration,
    )


def _looks(
    state: State, specs: dict[str, tuple[str, DeploymentSpec]]
) -> Iterator[tuple[ScaleKey, ObservedVersion, int]]:
    """Yield each version whose replicas follow the load, where something is known of it, with the
    number of replicas that it was given."""
    auto = {model for model, (_, spec) in specs.items() if is_auto(spec)}
    for name, record in state.clusters.items():
        if not any(version.model in auto for version in record.assignment.versions):
            continue
        if not is_confirmed(state, name) or (report := state.reports.get(name)) is None:
            continue
        told = {
            (seen.model, seen.version): seen
            for seen in report.observed.versions
            if seen.state is VersionState.WARMED
        }
        for version in warm_versions(record):
            seen = told.get((version.model, version.version))
            if version.model in auto and seen is not None:
                yield (name, version.model, version.version), seen, version.replicas


def _tell(step: Step, deployment: str, key: ScaleKey, scale: Scale, before: int) -> None:
    cluster, model, version = key
    step.audit(
        "Deployment",
        deployment,
        "ReplicasAsked",
        f"the load of model {model!r} version {version} at {cluster!r} asks for {scale.asked} "
        f"replicas (before: {before}): now it would keep {scale.work:.2g} busy.",
    )
