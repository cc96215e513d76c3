"""How far an engine's rollout has come, and why it fails.

Input: a Deployment or a RayService with its pods, as plain JSON. Output: a Rollout. A failure is
told as soon as waiting longer makes no sense; what may pass (no free node, a volume that is late)
is told as what is waited for.
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge_agent.policy.kube.fields import Json, at, items, mapping, text, told
from edge_agent.policy.kube.workloads import REVISION

_HOPELESS = {
    "ImagePullBackOff": "the image cannot be pulled",
    "InvalidImageName": "the image's name is none",
    "ErrImageNeverPull": "the image is not on the node",
    "CrashLoopBackOff": "the engine ends again and again",
}
_LONGEST = 300  # characters of an engine's own words
_TELLING = re.compile(r"error|fail|exception", re.IGNORECASE)
# Triton's logs: https://github.com/triton-inference-server/core/blob/main/src/model_lifecycle.cc
_BREAK = "\\n"  # it writes line breaks of messages so
_NOT_LOADED = re.compile(
    r"failed to load '[^']*' version \d+: (?:Internal: )?(.+?)(?:\\n|\"?$)", re.M
)
_PREFIX = re.compile(r"^[IWEF]\d{4} \S+ \d+ \S+\] ")
_BESIDE = re.compile(
    r"^[IW]\d{4} |creating server: |NVML|^[\s|+-]+$"
)  # warnings, summaries, frames


class Phase(StrEnum):
    """How far a rollout has come."""

    GOING = "going"  # the reason tells what is waited for, if anything
    DONE = "done"  # every wanted replica is there, is of the wanted kind, and answers
    FAILED = "failed"  # it will not get further; the reason tells why


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is known of a rollout."""

    phase: Phase
    reason: str = ""


def deployment_rollout(deployment: Json, pods: Iterable[Json]) -> Rollout:
    """Return how far a Deployment has come; of `pods` those of its newest template count."""
    wanted = at(deployment, "spec", "replicas")
    status = mapping(deployment, "status")
    if not _observed(deployment):
        return Rollout(Phase.GOING)
    counts = [status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    if all(count == wanted for count in counts):
        return Rollout(Phase.DONE)
    newest = text(deployment, "spec", "template", "metadata", "labels", REVISION)
    mine = [pod for pod in pods if text(pod, "metadata", "labels", REVISION) == newest]
    if hopeless := pods_failure(mine):
        return Rollout(Phase.FAILED, hopeless)
    waiting = pods_waiting(mine)
    for condition in items(status, "conditions"):
        kind, yes = condition.get("type"), condition.get("status") == "True"
        words = _short(text(condition, "message"))
        if kind == "ReplicaFailure" and yes:
            return Rollout(Phase.FAILED, f"its pods cannot be made: {words}")
        if kind == "Progressing" and text(condition, "reason") == "ProgressDeadlineExceeded":
            return Rollout(Phase.FAILED, f"it made no progress for long: {waiting or words}")
    return Rollout(Phase.GOING, waiting)


def available(deployment: Json) -> int:
    """Return how many replicas answer."""
    found = at(deployment, "status", "availableReplicas")
    return found if isinstance(found, int) else 0


def ray_rollout(service: Json, application: str, pods: Iterable[Json]) -> Rollout:
    """Return how far a RayService has come that shall run one application.

    Ready alone is not enough: while a cluster replaces another, the old one keeps it true.
    """
    if not _observed(service):
        return Rollout(Phase.GOING)
    ready = _condition(service, "Ready")
    if text(ready, "reason") in ("ValidationFailed", "InitializingTimeout"):
        words = f"{text(ready, 'reason')}: {_short(text(ready, 'message'))}"
        return Rollout(Phase.FAILED, f"KubeRay gave up: {words}")
    applications = [_application(service, which, application) for which in ("pending", "active")]
    for found in applications:
        if text(found, "status") == "DEPLOY_FAILED":
            return Rollout(Phase.FAILED, _ray_words(found) or "Ray Serve does not say why")
    if (
        text(ready, "status") == "True"
        and text(_condition(service, "UpgradeInProgress"), "status") != "True"
        and ray_runs(service, application)
    ):
        return Rollout(Phase.DONE)
    listed = list(pods)
    if hopeless := pods_failure(listed):
        return Rollout(Phase.FAILED, hopeless)
    waiting = [pods_waiting(listed), *(_ray_words(found) for found in applications)]
    return Rollout(Phase.GOING, told(waiting))


def ray_runs(service: Json, application: str) -> bool:
    """Return whether the cluster that gets the traffic runs the application."""
    return text(_application(service, "active", application), "status") == "RUNNING"


def pods_failure(pods: Sequence[Json]) -> str:
    """Return why one of the pods will never run, in words; "" if none is hopeless."""
    for pod, container in _containers(pods):
        waiting = mapping(container, "state", "waiting")
        reason = text(waiting, "reason")
        if reason not in _HOPELESS:
            continue
        words = _short(text(waiting, "message"))
        if reason == "CrashLoopBackOff":
            words = _ended(container)
        return f"{_HOPELESS[reason]}: {words or reason} (pod {text(pod, 'metadata', 'name')})"
    return ""


def pods_waiting(pods: Sequence[Json]) -> str:
    """Return what pods that do not run yet wait for, in words; may be empty."""
    found = []
    for pod in pods:
        if at(pod, "metadata", "deletionTimestamp"):
            continue
        for condition in items(pod, "status", "conditions"):
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                words = _short(text(condition, "message"))
                found.append(f"no node takes it: {words or text(condition, 'reason')}")
    for _, container in _containers(pods):
        waiting = mapping(container, "state", "waiting")
        if reason := text(waiting, "reason"):
            found.append(_short(f"{reason} {text(waiting, 'message')}"))
        elif mapping(container, "lastState", "terminated"):
            found.append(f"the engine was started again: {_ended(container)}")
    return told(found)


def _observed(obj: Json) -> bool:
    """Return whether the status is about the newest spec."""
    seen, newest = at(obj, "status", "observedGeneration"), at(obj, "metadata", "generation")
    return isinstance(seen, int) and isinstance(newest, int) and seen >= newest


def _containers(pods: Sequence[Json]) -> Iterator[tuple[Json, Json]]:
    for pod in pods:
        if at(pod, "metadata", "deletionTimestamp"):
            continue  # of what was there before
        for group in ("initContainerStatuses", "containerStatuses"):
            for container in items(pod, "status", group):
                yield pod, container


def _ended(container: Json) -> str:
    """Return how a container ended: its own last words, which the kubelet keeps for us."""
    ended = mapping(container, "lastState", "terminated") or mapping(
        container, "state", "terminated"
    )
    how = f"status {at(ended, 'exitCode')}"
    if text(ended, "reason") == "OOMKilled":
        how = "it used more memory than it may (OOMKilled)"
    words = _last_words(text(ended, "message"))
    return f"{words} ({how})" if words else how


def _last_words(log: str) -> str:
    """Return what the end of a log says most clearly: why a model does not load, else the last
    line that speaks of an error, else the last one."""
    if found := _NOT_LOADED.findall(log):
        return _short(found[-1])
    lines = [line for line in log.splitlines() if line.strip() and not _BESIDE.search(line)]
    telling = [line for line in lines if _TELLING.search(line)]
    last = (telling or lines or [""])[-1]
    return _short(_PREFIX.sub("", last).split(_BREAK)[0].strip('"'))


def _condition(obj: Json, kind: str) -> Json:
    found = (c for c in items(obj, "status", "conditions") if c.get("type") == kind)
    return next(found, {})


def _application(service: Json, which: str, name: str) -> Json:
    return mapping(service, "status", f"{which}ServiceStatus", "applicationStatuses", name)


def _ray_words(application: Json) -> str:
    """Return what Ray Serve says of an application and its deployments, the innermost first."""
    deployments = mapping(application, "serveDeploymentStatuses").values()
    messages = [text(each, "message") for each in (*deployments, application)]
    return next((_last_words(message) for message in messages if message.strip()), "")


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 2]} …"
