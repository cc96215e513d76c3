"""Deployments that nobody uses: no replica at all, until somebody asks for the model.

Input: the newest reports, what routers hold, and time. Output: `asleep_since` of the deployments,
from which `placement` follows that versions only lie ready; the models to settle.

A deployment sleeps as a whole: awake at some clusters, it would never be seen how much it is missed
at the others. It does so once it is known that nobody used it, at all clusters in contact and
without a break, for as long as replicas take to become fewer (`down_s`). It wakes where it slept;
where there is no room by then, other clusters take over.
"""

from collections.abc import Mapping
from dataclasses import replace

from federation.contract.types import ObservedVersion, VersionState
from federation.policy.records import ClusterRecord, DeploymentRecord
from federation.policy.standing import is_confirmed, is_present, serving_versions
from federation.policy.state import State, Step


def rest(step: Step) -> set[str]:
    """Have those sleep that nobody used for long enough; returns their models."""
    state = step.state
    before, state.idle = state.idle, {}
    asked_for = held_models(state)
    gone: set[str] = set()
    for name, record in list(state.deployments.items()):
        scaling = record.spec.scaling
        if not scaling.may_sleep or record.asleep or record.spec.model in asked_for:
            continue
        if record.spec.model in state.going or not _is_idle(state, record):
            continue  # who rolls out wants to see it serve
        since = min(before.get(name, step.now), step.now)
        if (step.now - since).total_seconds() < scaling.down_s:
            state.idle[name] = since
            continue
        gone.add(record.spec.model)
        meta = step.next_meta(record.meta)
        step.put("Deployment", replace(record, meta=meta, asleep_since=step.now))
        message = (
            f"nobody used model {record.spec.model!r} for {scaling.down_s:g} s: it has no replica "
            "until a request for it comes."
        )
        step.audit("Deployment", name, "DeploymentAsleep", message)
    return gone


def wake_for(step: Step, router: str, held: Mapping[str, int]) -> set[str]:
    """Wake what requests wait for at a router; returns the models."""
    woken: set[str] = set()
    for name, record in list(step.state.deployments.items()) if held else ():
        model = record.spec.model
        if not record.asleep or not held.get(model):
            continue
        woken.add(model)
        meta = step.next_meta(record.meta)
        step.put("Deployment", replace(record, meta=meta, asleep_since=None))
        step.state.wakes[name] = step.state.wakes.get(name, 0) + 1
        message = f"requests for model {model!r} wait at router {router!r}: it is loaded again."
        step.audit("Deployment", name, "DeploymentWoken", message)
    return woken


def held_models(state: State) -> dict[str, int]:
    """Return how many requests wait at the connected routers, by model."""
    found: dict[str, int] = {}
    for router in state.routers.values():
        for model, count in router.held.items() if router.connected else ():
            found[model] = found.get(model, 0) + count
    return {model: count for model, count in found.items() if count}


def _is_idle(state: State, record: DeploymentRecord) -> bool:
    """Whether it is known that nobody uses a deployment, and nothing is being changed there.

    Of a cluster out of contact nothing is known; while others are in contact, requests go there.
    """
    if record.routed_version != record.target:
        return False
    model, known = record.spec.model, False
    for name, cluster in state.clusters.items():
        given = serving_versions(cluster, model)
        if not given or not is_present(state, name):
            continue
        if not is_confirmed(state, name):
            return False
        seen = _told(state, cluster, model)
        for version in given:
            found = seen.get(version.version)
            if found is None or not _rests(found):
                return False
            known = known or found.state is VersionState.WARMED
    return known


def _told(state: State, cluster: ClusterRecord, model: str) -> dict[int, ObservedVersion]:
    report = state.reports[cluster.meta.name]
    return {seen.version: seen for seen in report.observed.versions if seen.model == model}


def _rests(seen: ObservedVersion) -> bool:
    """Whether a version serves nobody; one that failed cannot."""
    if seen.state is VersionState.FAILED:
        return True
    busy = seen.in_flight or seen.queued or seen.rate
    return seen.state is VersionState.WARMED and not busy
