"""Our custom resources at API servers, the fake and real ones: schemas, rules, status, finalizers.

A real one takes part where FEDERATION_TEST_KUBECONFIG names it: see tests/contract/kube_servers.py.
"""

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from federation.kube.errors import Conflict, NotFound, Refused
from federation.kube.resources import MODEL_DEPLOYMENTS, ROLLOUTS, resource_of
from tests.contract.kube_definitions import DEFINITIONS, cluster, deployment, installed, rollout
from tests.contract.kube_servers import SERVERS, Server, kube_server
from tests.fakes.kube_schemas import HAS_CEL, definitions

Obj = dict[str, Any]
STRICT = {"fieldValidation": "Strict"}
DRY = {"dryRun": "All", **STRICT}
needs_cel = pytest.mark.skipif(not HAS_CEL, reason="needs the package common-expression-language")


@pytest.fixture(params=[pytest.param(name, marks=SERVERS[name][1]) for name in SERVERS])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    async with kube_server(request.param, tmp_path) as found, installed(found):
        yield found


async def create(server: Server, obj: Obj) -> Obj:
    """Create it with strict validation."""
    path = resource_of(obj).path(server.namespace)
    return await server.api.request("POST", path, query=STRICT, body=obj)


def path(server: Server, name: str = "one", sub: str = "") -> str:
    return MODEL_DEPLOYMENTS.path(server.namespace, name) + sub


# ---------------------------------------------------------------- definitions


async def test_the_definitions_pass_strict_validation(server: Server) -> None:
    for definition in definitions().values():
        new = copy.deepcopy(definition)
        name = new["metadata"]["name"]
        query = {**DRY, "fieldManager": "test", "force": "true"}
        answer = await server.api.request(
            "PATCH",
            DEFINITIONS.path("", name),
            query=query,
            body=new,
            content_type="application/apply-patch+yaml",
        )
        assert answer["metadata"]["name"] == name


EVERYTHING: Obj = {
    "model": "Llama-3.1_8b",
    "version": "champion",
    "pinnedVersions": [1, 2],
    "regions": ["eu", "us"],
    "clusterLabels": {"tier": "gold"},
    "scaling": {"mode": "auto", "min": 0, "max": 4, "target": 0.5, "upSeconds": 1.5},
    "resources": {"gpus": 1, "fraction": 0.25, "products": ["*H100*"], "memoryMib": 1000},
    "residency": ["eu", "us"],
    "clusters": 3,
    "spread": False,
    "antiAffinity": ["other"],
    "engine": "triton",
    "maxPricePerGpuHour": 2,
    "rollout": {"waves": [{"regions": ["eu"]}, {"regions": ["*"]}], "steps": [5, 100]},
    "deletionPolicy": "Keep",
}
STRATEGY: Obj = {
    "waves": [
        {"regions": ["eu"], "approval": True},
        {"clusters": ["lab-1"], "clusterLabels": {"tier": "gold"}},
        {"regions": ["*"]},
    ],
    "steps": [1, 12.5, 100],
    "bakeSeconds": 90,
    "analysis": {"maxErrorRate": 0.02, "maxP95Ratio": 1.5, "onInconclusive": "promote"},
    "inPlace": True,
    "allowSignatureChange": False,
}
WINDOW = {"start": "22:00", "end": "06:00", "days": ["mon", "fri"], "maxMbytesPerSecond": 20}


async def test_what_is_right_is_taken(server: Server) -> None:
    made = await create(server, deployment(server, **EVERYTHING))
    assert made["spec"] == {**EVERYTHING, "model": "Llama-3.1_8b"}
    await create(server, deployment(server, "two", version=3, replicas=2))
    sync: Obj = {"windows": [WINDOW], "timeZone": "Europe/Dublin", "rollbackWaits": True}
    labels = {"price-per-gpu-hour": "2.5"}
    spec: Obj = {"labels": labels, "sync": sync, "connectivity": "reverse"}
    spec |= {"scheduling": "cordoned"}
    await create(server, cluster(server, **spec))
    made = await create(server, rollout(server, strategy=STRATEGY, paused=False))
    assert made["spec"]["strategy"] == STRATEGY


WRONG: list[tuple[Obj, str]] = [
    ({"model": ""}, "model"),
    ({"model": "../x"}, "model"),
    ({"model": None}, "model"),
    ({"engine": "static"}, "engine"),
    ({"replicas": 0}, "replicas"),
    ({"replicas": "2"}, "replicas"),
    ({"scaling": {"mode": "auto", "target": 0}}, "target"),
    ({"resources": {"gpus": 1, "fraction": 1.0}}, "fraction"),
    ({"deletionPolicy": "Orphan"}, "deletionPolicy"),
]
WRONG_CLUSTERS: list[tuple[Obj, str]] = [
    ({"sync": {"windows": [{"start": "24:00", "end": "06:00"}]}}, "start"),
    ({"sync": {"windows": [{"start": "22:00"}]}}, "end"),
    ({"region": "EU west"}, "region"),
    ({"connectivity": "unknown"}, "connectivity"),
]
WRONG_ROLLOUTS: list[tuple[Obj, str]] = [
    ({"model": ""}, "model"),
    ({"strategy": {"steps": [0, 100]}}, "steps"),
    ({"strategy": {"steps": []}}, "steps"),
    ({"strategy": {"analysis": {"maxErrorRate": 5}}}, "maxErrorRate"),
    ({"strategy": {"analysis": {"maxP95Ratio": 0.2}}}, "maxP95Ratio"),
    ({"strategy": {"analysis": {"onInconclusive": "hope"}}}, "onInconclusive"),
]
BROKEN: list[tuple[Obj, str]] = [
    ({"regions": ["eu", "us"], "residency": ["eu"]}, "outside of the residency"),
    ({"antiAffinity": ["m"]}, "apart from itself"),
    ({"scaling": {"mode": "auto", "min": 3, "max": 2}}, "min must be at most max"),
    ({"scaling": {"mode": "auto", "min": 3}}, "min must be at most max"),
    ({"scaling": {"mode": "engine", "min": 0, "max": 2}}, "a min of 0 needs mode auto"),
    ({"scaling": {"mode": "auto"}, "replicas": 2}, "replicas is for scaling.mode fixed"),
    ({"resources": {"fraction": 0.5}}, "share of one GPU"),
    ({"resources": {"gpus": 2, "fraction": 0.5}}, "share of one GPU"),
    ({"resources": {"gpus": 1, "fraction": 0.5, "exclusive": True}}, "refuses to"),
]
BROKEN_CLUSTERS: list[tuple[Obj, str]] = [
    ({"labels": {"price-per-gpu-hour": "cheap"}}, "price-per-gpu-hour is a number"),
    ({"sync": {"rollbackWaits": True}}, "without sync.windows"),
]


BROKEN_ROLLOUTS: list[tuple[Obj, str]] = [
    ({"strategy": {"steps": [5, 25]}}, "the last step must be 100"),
    ({"strategy": {"waves": [{"approval": True}]}}, "names regions, clusters or labels"),
    ({"strategy": {"waves": [{"regions": ["eu", "*"]}]}}, "stands alone"),
    (
        {"strategy": {"bakeSeconds": 60, "analysis": {"maxBakeSeconds": 30}}},
        "cannot be less than bakeSeconds",
    ),
]


async def refused(server: Server, obj: Obj, told: str) -> None:
    with pytest.raises(Refused, match=told) as caught:
        await create(server, obj)
    assert caught.value.status == 422, obj["spec"]


async def test_schemas_refuse(server: Server) -> None:
    for spec, told in WRONG:
        await refused(server, deployment(server, **spec), told)
    for spec, told in WRONG_CLUSTERS:
        await refused(server, cluster(server, **spec), told)
    for spec, told in WRONG_ROLLOUTS:
        await refused(server, rollout(server, **spec), told)


@needs_cel
async def test_a_rollout_does_not_change(server: Server) -> None:
    await create(server, rollout(server, strategy=STRATEGY))
    path = ROLLOUTS.path(server.namespace, "one")
    told = await server.api.merge(path, {"spec": {"paused": True}}, manager="test")
    assert told["spec"]["paused"] is True
    for change in ({"version": 3}, {"model": "n"}, {"strategy": {"steps": [100]}}):
        with pytest.raises(Refused, match="a rollout does not change"):
            await server.api.merge(path, {"spec": change}, manager="test")


@needs_cel
async def test_rules_refuse(server: Server) -> None:
    for spec, told in BROKEN:
        await refused(server, deployment(server, **spec), told)
    for spec, told in BROKEN_CLUSTERS:
        await refused(server, cluster(server, **spec), told)
    for spec, told in BROKEN_ROLLOUTS:
        await refused(server, rollout(server, **spec), told)


async def test_names_are_those_of_the_control_plane(server: Server) -> None:
    with pytest.raises(Refused, match="name"):
        await create(server, deployment(server, "with.a.dot"))


async def test_unknown_fields_are_refused_by_name_or_dropped(server: Server) -> None:
    obj = deployment(server, scaling={"mode": "auto", "maximum": 3}, modle="x")
    with pytest.raises(Refused, match=r'unknown field "spec.modle"') as caught:
        await create(server, obj)
    assert caught.value.status == 400
    assert 'unknown field "spec.scaling.maximum"' in caught.value.message
    made = await server.api.create(obj)
    assert made["spec"] == {"model": "m", "scaling": {"mode": "auto"}}


# ---------------------------------------------------------------- status


def status(server: Server, text: str = "Applied") -> Obj:
    condition = {"type": "Synced", "status": "True", "reason": text, "message": ""}
    condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    return {"observedGeneration": 1, "conditions": [condition], "warm": 1}


async def test_a_status_is_written_apart_from_the_spec(server: Server) -> None:
    made = await create(server, {**deployment(server), "status": status(server)})
    assert not made.get("status")
    version = made["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "status": status(server)}
    patch["spec"] = {"model": "other"}
    told = await server.api.merge(path(server, sub="/status"), patch, manager="test")
    assert told["spec"] == {"model": "m"}
    assert told["status"]["warm"] == 1
    assert told["metadata"]["generation"] == made["metadata"]["generation"] == 1
    with pytest.raises(Conflict):
        await server.api.merge(path(server, sub="/status"), patch, manager="test")
    less = {"status": {"warm": None}}
    told = await server.api.merge(path(server, sub="/status"), less, manager="test")
    assert set(told["status"]) == {"observedGeneration", "conditions"}
    change = {"spec": {"replicas": 2}, "status": {"warm": 9}}
    told = await server.api.merge(path(server), change, manager="test")
    assert (told["spec"], told["metadata"]["generation"]) == ({"model": "m", "replicas": 2}, 2)
    assert "warm" not in told["status"]


async def test_a_status_fits_its_schema(server: Server) -> None:
    await create(server, deployment(server))
    with pytest.raises(Refused, match="reason"):
        patch = {"status": status(server, "two words")}
        await server.api.merge(path(server, sub="/status"), patch, manager="test")


# ---------------------------------------------------------------- finalizers


async def test_a_deletion_waits_for_finalizers(server: Server) -> None:
    made = await create(server, deployment(server))
    own = "federation.inference/test"
    held = await server.api.merge(path(server), {"metadata": {"finalizers": [own]}}, manager="test")
    await server.api.delete(MODEL_DEPLOYMENTS, server.namespace, "one")
    dying = await server.api.get(MODEL_DEPLOYMENTS, server.namespace, "one")
    assert dying["metadata"]["deletionTimestamp"]
    assert dying["metadata"]["uid"] == made["metadata"]["uid"]
    assert int(dying["metadata"]["resourceVersion"]) > int(held["metadata"]["resourceVersion"])
    assert dying["metadata"]["generation"] == 2
    with pytest.raises(Refused, match="finalizers"):
        more = {"metadata": {"finalizers": [own, "federation.inference/more"]}}
        await server.api.merge(path(server), more, manager="test")
    told = await server.api.merge(
        path(server, sub="/status"), {"status": status(server)}, manager="t"
    )
    assert told["status"]["warm"] == 1
    await server.api.merge(path(server), {"metadata": {"finalizers": []}}, manager="test")
    with pytest.raises(NotFound):
        await server.api.get(MODEL_DEPLOYMENTS, server.namespace, "one")
