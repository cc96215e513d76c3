"""What the status of a custom resource says."""

from datetime import timedelta
from typing import Any

from federation.bridge.policy.custom import CLUSTER, DEPLOYMENT, ROLLOUT, Bridged, Custom, read
from federation.bridge.policy.status import MAX_CANNOT, Trouble, status_of
from tests.fakes.kube_kinds import Kind
from tests.fakes.kube_schemas import check
from tests.federation.bridge.policy.world import NOW

Obj = dict[str, Any]
DEPLOYED: Obj = {
    "status": {
        "version": 2,
        "routed_version": 1,
        "ready": False,
        "reason": "version 2 is warm at 1 of 3 clusters",
        "warm": 1,
        "wanted": 3,
        "cannot": [{"cluster": f"c-{n}", "reason": "x" * 5000} for n in range(50)],
    }
}
REGISTERED: Obj = {
    "status": {
        "ready": True,
        "reason": "",
        "scheduling": "active",
        "engine": {"kind": "triton"},
        "gpus": 8,
        "models": {"warm": 1, "assigned": 2},
        "conditions": [
            {"type": "Joined", "status": "True", "reason": "AgentJoined", "message": ""}
        ],
    }
}
ROLLED: Obj = {
    "status": {
        "phase": "rolled-back",
        "stable": 1,
        "canary": 2,
        "wave": 1,
        "of_waves": 3,
        "weights": {"eu": 25.0, "us": 5},
        "verdict": {"outcome": "fail", "words": "p95 +38 % in eu"},
        "next": "",
        "reason": "p95 +38 % in eu",
    }
}
REFUSED = Trouble("Refused", "model 'm' is unknown.")


def custom(bridged: Bridged, status: Obj | None = None) -> Custom:
    return read(bridged, {"metadata": {"name": "d", "generation": 3}, "status": status or {}})


def condition(status: Obj, kind: str) -> Obj:
    (found,) = [each for each in status["conditions"] if each["type"] == kind]
    return dict(found)


def test_a_deployment() -> None:
    status = status_of(custom(DEPLOYMENT), DEPLOYED, None, now=NOW, created_at="t")
    numbers = {key: status[key] for key in ("version", "routedVersion", "warm", "wanted")}
    assert numbers == {"version": 2, "routedVersion": 1, "warm": 1, "wanted": 3}
    assert (status["observedGeneration"], status["createdAt"]) == (3, "t")
    assert len(status["cannot"]) == MAX_CANNOT
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NotReady")
    assert ready["message"] == "version 2 is warm at 1 of 3 clusters"
    assert ready["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_a_cluster() -> None:
    status = status_of(custom(CLUSTER), REGISTERED, None, now=NOW)
    assert (status["engine"], status["gpus"], status["warm"], status["assigned"]) == (
        ("triton", 8, 1, 2)
    )
    assert condition(status, "Joined")["status"] == "True"
    assert condition(status, "Ready")["reason"] == "Ready"
    older = {"status": {"ready": True}}
    status = status_of(custom(CLUSTER), older, None, now=NOW)
    assert condition(status, "Joined")["status"] == "Unknown"


def test_every_status_fits_its_schema() -> None:
    silent = Trouble("ControlPlaneUnreachable", "it does not answer", silent=True)
    for bridged, live in ((DEPLOYMENT, DEPLOYED), (CLUSTER, REGISTERED)):
        resource = bridged.resource
        kind = Kind(resource.group, resource.version, resource.plural, resource.kind)
        spec = {"model": "m"} if bridged is DEPLOYMENT else {"region": "eu"}
        for document in (live, None, {}):
            for trouble in (None, REFUSED, silent):
                status = status_of(
                    custom(bridged), document, trouble, now=NOW, claim="1", created_at="t"
                )
                obj = {"metadata": {"name": "d"}, "spec": spec, "status": status}
                check(kind, "d", obj, None)


def test_a_moment_changes_with_the_state_alone() -> None:
    first = status_of(custom(DEPLOYMENT), DEPLOYED, None, now=NOW)
    later = NOW + timedelta(seconds=9)
    same = status_of(custom(DEPLOYMENT, first), DEPLOYED, None, now=later)
    assert same == first
    told = status_of(custom(DEPLOYMENT, first), DEPLOYED, REFUSED, now=later)
    assert condition(told, "Synced")["lastTransitionTime"] == "2026-01-02T03:04:14Z"
    assert condition(told, "Ready") == condition(first, "Ready")


def test_long_words_are_cut() -> None:
    trouble = Trouble("Refused", "x" * 5000)
    status = status_of(custom(DEPLOYMENT), None, trouble, now=NOW)
    assert len(condition(status, "Synced")["message"]) == 1000


def test_a_rollout() -> None:
    status = status_of(custom(ROLLOUT), ROLLED, None, now=NOW, created_at="t")
    assert (status["phase"], status["wave"], status["weight"]) == ("rolled-back", "1/3", 25.0)
    assert status["verdict"] == "p95 +38 % in eu"
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "RolledBack")
    assert ready["message"] == "p95 +38 % in eu"
    promoted: Obj = {"status": {**ROLLED["status"], "phase": "promoted"}}
    done = status_of(custom(ROLLOUT), promoted, None, now=NOW)
    assert condition(done, "Ready")["status"] == "True"
    obj = {"metadata": {"name": "r"}, "spec": {"model": "m", "version": 2}, "status": done}
    check(Kind("federation.inference", "v1alpha1", "rollouts", "Rollout"), "r", obj, None)
