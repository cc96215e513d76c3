from dataclasses import replace

import pytest

from federation.app import ControlPlane
from federation.contract.capacity import Capacity, Pool
from federation.contract.types import EngineKind, EngineStatus, Observed
from federation.policy.membership.records import Membership
from federation.policy.records import LastObserved
from tests.fakes.control_plane import LOCATION, Operator

PATH = "/api/v1/plan"


def document(name: str = "m", **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "federation/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"model": "m", **spec},
    }


async def cluster(plane: ControlPlane, api: Operator, name: str, *, cap: float = 0.0) -> None:
    """A cluster that has joined and has two GPUs."""
    region = {"apiVersion": "federation/v1", "kind": "Region", "metadata": {"name": "eu"}}
    await api.call("PUT", "/api/v1/regions/eu", {**region, "spec": {"location": LOCATION}})
    sync = {"max_mbytes_per_second": cap}
    made = await api.call(
        "POST",
        f"/api/v1/clusters/{name}/register",
        {"spec": {"region": "eu", "allow_code": True, "sync": sync}},
    )
    assert made.status == 201, made.body
    clusters = plane.loop.state.clusters
    pool = Pool(node="n", resource="gpu", vendor="x", total=2, allocatable=2, free=2, physical=2)
    status = EngineStatus(kind=EngineKind.TRITON, ready=True)
    last = LastObserved(
        engine=EngineKind.TRITON,
        engine_version="1",
        url="https://c:7500",
        capacity=Capacity(pools=(pool,)),
        observed=Observed(observed_generation=0, engine=status),
    )
    membership = Membership(generation=1, accepted=True)
    clusters[name] = replace(clusters[name], last=last, membership=membership)


async def test_a_plan_says_what_would_be_and_nothing_is(plane: ControlPlane, api: Operator) -> None:
    await cluster(plane, api, "a", cap=1.0)
    await cluster(plane, api, "b")
    assert (await api.push("m", b"content" * 1000)).status == 201
    before = plane.loop.state.copy()
    answer = await api.call("POST", PATH, document(replicas=2, resources={"gpus": 1}))
    assert answer.status == 200, answer.body
    plan = answer.json
    assert (plan["deployment"], plan["version"], plan["created"]) == ("m", 1, True)
    assert [row["cluster"] for row in plan["place"]] == ["a", "b"]
    first, second = plan["place"]
    assert first["exact"] is True
    assert first["bytes"] > 7000
    assert first["eta_s"] == round(first["bytes"] / 1e6, 1)
    assert first["assumes"] == "1 MB/s, its cap"
    assert second["eta_s"] is None
    (region,) = plan["regions"]
    assert region == {
        "region": "eu",
        "clusters": 2,
        "bytes": 2 * first["bytes"],
        "from_origin_bytes": first["bytes"],
        "eta_s": None,
    }
    assert plane.loop.state == before

    none = await api.call("POST", PATH, document(resources={"gpus": 4}))
    assert [row["reason"] for row in none.json["cannot"]] == [
        "needs 4 GPUs on one node; the most that are free together is 2 on n"
    ] * 2
    assert none.json["place"] == []


async def test_without_its_manifest_the_size_of_the_version_is_told(
    plane: ControlPlane, api: Operator
) -> None:
    await cluster(plane, api, "a")
    await api.push("m", b"content")
    model = plane.loop.state.models["m"]
    lost = replace(model.versions[0], digest="0" * 64, size=123)
    plane.loop.state.models["m"] = replace(model, versions=(lost,))
    answer = await api.call("POST", PATH, document())
    (place,) = answer.json["place"]
    assert (place["bytes"], place["exact"]) == (123, False)
    assert answer.json["regions"][0]["from_origin_bytes"] == 123


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (document(model="n"), 404, "model 'n' is unknown"),
        (document(regions=["nowhere"]), 404, "region 'nowhere' is unknown"),
        (document(cluster=1), 400, "clusters"),
        (document(engine="static"), 400, "loads no models"),
        (document(anti_affinity=["m"]), 400, "apart from itself"),
        (document(resources={"gpus": 1, "fraction": 1.5}), 400, "fraction"),
        (document(clusters=-1), 400, "clusters must be"),
        (document("Bad Name"), 400, "name"),
        ({**document(), "kind": "Model"}, 400, "kind must be"),
        ({}, 400, "apiVersion"),
    ],
)
async def test_what_could_not_be_applied_is_not_planned(
    api: Operator, body: dict[str, object], status: int, told: str
) -> None:
    await api.push("m", b"content")
    answer = await api.call("POST", PATH, body)
    assert answer.status == status, answer.body
    assert told in str(answer.json)
