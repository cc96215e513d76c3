"""How far rollouts have come: a table for Deployments, one for RayServices, one for pods."""

from typing import Any

import pytest

from edge_agent.policy.kube.rollouts import (
    Phase,
    Rollout,
    available,
    deployment_rollout,
    pods_failure,
    pods_waiting,
    ray_rollout,
    ray_runs,
)
from tests.fakes.kube_nodes import TRITON_LOG

Obj = dict[str, Any]
NOT_LOADED = TRITON_LOG.format(model="m--v1", words="ValueError: no")
ERROR = 'a\nE1123 1:2.3 1 f.cc:1] "cannot open: error\\n\\nAt"\nbye'
GOING, DONE, FAILED = Phase.GOING, Phase.DONE, Phase.FAILED
DEADLINE = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "message": "timed out",
}
QUOTA = {"type": "ReplicaFailure", "status": "True", "message": "pods are forbidden: quota"}


def failed(words: str) -> Rollout:
    return Rollout(FAILED, words)


def going(words: str) -> Rollout:
    return Rollout(GOING, words)


def deployment(*conditions: Obj, seen: int = 2, **counts: int) -> Obj:
    labels = {"federation.inference/revision": "new"}
    return {
        "metadata": {"generation": 2},
        "spec": {"replicas": 2, "template": {"metadata": {"labels": labels}}},
        "status": {"observedGeneration": seen, "conditions": list(conditions), **counts},
    }


def pod(revision: str = "new", *, conditions: tuple[Obj, ...] = (), **container: Any) -> Obj:
    labels = {"federation.inference/revision": revision}
    return {
        "metadata": {"name": "p", "labels": labels},
        "status": {"conditions": list(conditions), "containerStatuses": [container]},
    }


def waiting(reason: str, message: str = "", **more: Any) -> Obj:
    return {"state": {"waiting": {"reason": reason, "message": message}}, **more}


def ended(message: str = "", **more: Any) -> Obj:
    return {"lastState": {"terminated": {"exitCode": 1, "message": message, **more}}}


PULL = pod(**waiting("ImagePullBackOff", "not found"))
NO_NODE = pod(
    conditions=({"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available."},)
)
FULL = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("obj", "pods", "expected"),
    [
        (deployment(**FULL), (), Rollout(DONE)),
        (deployment(**FULL, seen=1), (), Rollout(GOING)),
        (deployment(DEADLINE, **FULL), (PULL,), Rollout(DONE)),
        (deployment(), (), Rollout(GOING)),
        (deployment(**{**FULL, "replicas": 3}), (), Rollout(GOING)),
        (deployment(**{**FULL, "updatedReplicas": 1}), (), Rollout(GOING)),
        (deployment(replicas=2, updatedReplicas=2), (), Rollout(GOING)),
        (deployment(DEADLINE, replicas=2), (), failed("it made no progress for long: timed out")),
        (
            deployment(DEADLINE, replicas=2),
            (NO_NODE,),
            failed("it made no progress for long: no node takes it: 0/3 nodes are available."),
        ),
        (deployment(QUOTA), (), failed("its pods cannot be made: pods are forbidden: quota")),
        (deployment(), (PULL,), failed("the image cannot be pulled: not found (pod p)")),
        (deployment(), (pod("old", **waiting("ImagePullBackOff")),), Rollout(GOING)),
        (deployment(), (NO_NODE,), going("no node takes it: 0/3 nodes are available.")),
        (deployment(QUOTA | {"status": "False"}), (), Rollout(GOING)),
    ],
)
def test_deployments(obj: Obj, pods: tuple[Obj, ...], expected: Rollout) -> None:
    assert deployment_rollout(obj, pods) == expected


def test_available_replicas() -> None:
    assert (available(deployment(**FULL)), available(deployment()), available({})) == (2, 0, 0)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"state": {"running": {}}}, ""),
        (waiting("ContainerCreating"), ""),
        (waiting("ErrImagePull", "once"), ""),
        (waiting("InvalidImageName"), "the image's name is none: InvalidImageName (pod p)"),
        (
            waiting("CrashLoopBackOff", "back-off 10s", **ended(NOT_LOADED)),
            "the engine ends again and again: ValueError: no (status 1) (pod p)",
        ),
        (
            waiting("CrashLoopBackOff", **ended(reason="OOMKilled")),
            "the engine ends again and again: it used more memory than it may (OOMKilled) (pod p)",
        ),
        (
            waiting("CrashLoopBackOff", **ended(ERROR)),
            "the engine ends again and again: cannot open: error (status 1) (pod p)",
        ),
        (
            waiting("CrashLoopBackOff", **ended("one\ntwo\n")),
            "the engine ends again and again: two (status 1) (pod p)",
        ),
    ],
)
def test_pods_that_will_never_run(container: Obj, words: str) -> None:
    assert pods_failure([pod(**container)]) == words


def test_pods_that_are_about_to_go_say_nothing() -> None:
    going = [{**each, "metadata": {"deletionTimestamp": "now"}} for each in (PULL, NO_NODE)]
    assert pods_failure(going) == pods_waiting(going) == ""


def test_what_pods_wait_for() -> None:
    found = pods_waiting(
        [NO_NODE, pod(**waiting("ContainerCreating")), pod(**ended("fatal error"))]
    )
    assert found == (
        "no node takes it: 0/3 nodes are available.; ContainerCreating; "
        "the engine was started again: fatal error (status 1)"
    )
    assert pods_waiting([pod(state={"running": {}})]) == ""


def ray(
    active: str = "",
    pending: str = "",
    *,
    seen: int = 2,
    upgrade: str = "False",
    ready: Obj | None = None,
) -> Obj:
    def status(state: str) -> Obj:
        deployments = {"Model": {"status": "UNHEALTHY", "message": "Traceback\nValueError: no\n"}}
        found = {"status": state, "message": "m", "serveDeploymentStatuses": deployments}
        return {"applicationStatuses": {"app": found if state else {}, "other": {"status": "X"}}}

    conditions = [
        {"type": "Ready", "status": "True", **(ready or {})},
        {"type": "UpgradeInProgress", "status": upgrade},
    ]
    return {
        "metadata": {"generation": 2},
        "status": {
            "observedGeneration": seen,
            "conditions": conditions,
            "activeServiceStatus": status(active),
            "pendingServiceStatus": status(pending),
        },
    }


NOT_READY = {"status": "False", "reason": "Initializing"}


@pytest.mark.parametrize(
    ("obj", "pods", "expected"),
    [
        (ray("RUNNING"), (), Rollout(DONE)),
        (ray("RUNNING", seen=1), (), Rollout(GOING)),
        (ray("RUNNING", upgrade="True"), (), going("ValueError: no")),
        (ray("RUNNING", ready=NOT_READY), (), going("ValueError: no")),
        (ray("DEPLOYING"), (), going("ValueError: no")),
        (ray("SOMETHING_NEW"), (), going("ValueError: no")),
        (ray("RUNNING", "DEPLOY_FAILED", upgrade="True"), (), failed("ValueError: no")),
        (ray("", "DEPLOY_FAILED", ready=NOT_READY), (), failed("ValueError: no")),
        (ray("DEPLOY_FAILED"), (), failed("ValueError: no")),
        (ray("DEPLOY_FAILED", seen=1), (), Rollout(GOING)),
        (
            ray(ready=NOT_READY | {"reason": "ValidationFailed", "message": "name is too long"}),
            (),
            failed("KubeRay gave up: ValidationFailed: name is too long"),
        ),
        (
            ray(ready=NOT_READY | {"reason": "InitializingTimeout", "message": "after 9m"}),
            (),
            failed("KubeRay gave up: InitializingTimeout: after 9m"),
        ),
        (ray(ready=NOT_READY), (PULL,), failed("the image cannot be pulled: not found (pod p)")),
        (ray(ready=NOT_READY), (NO_NODE,), going("no node takes it: 0/3 nodes are available.")),
        ({"metadata": {"generation": 1}}, (), Rollout(GOING)),
    ],
)
def test_ray_services(obj: Obj, pods: tuple[Obj, ...], expected: Rollout) -> None:
    assert ray_rollout(obj, "app", pods) == expected


def test_an_application_runs_where_the_traffic_goes() -> None:
    assert ray_runs(ray("RUNNING", "DEPLOYING", upgrade="True"), "app")
    assert not ray_runs(ray("", "RUNNING"), "app")
    assert not ray_runs(ray("RUNNING"), "other")
