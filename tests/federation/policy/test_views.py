import json

import pytest

from federation.contract.errors import Invalid, NotFound
from federation.contract.resources import KINDS, DeploymentSpec, PrefetchSpec, TenantSpec
from federation.policy import views
from federation.policy.access.events import KeyCreated, TenantApplied
from federation.policy.access.records import KeyKind
from tests.federation.policy.rollouts.test_next_words import RECORD
from tests.federation.policy.world import ACTOR, World


@pytest.fixture
def world() -> World:
    world = World()
    world.cluster("c", gpus=2)
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    world.state.rollouts["m-2"] = RECORD
    world.prefetch(PrefetchSpec(model="m", version=1))
    world.serve("c")
    world.router()
    world.do(TenantApplied(actor=ACTOR, name="t", spec=TenantSpec()))
    world.do(KeyCreated(actor=ACTOR, id="k", kind=KeyKind.INFERENCE, digest="d", tenant="t"))
    return world


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_all_kinds_are_shown_as_json(world: World, kind: str) -> None:
    documents = views.documents(world.state, kind, world.now)
    assert documents
    for document in documents:
        assert list(document) == ["apiVersion", "kind", "metadata", "spec", "status"]
        assert document["kind"] == kind
        assert json.loads(json.dumps(document)) == document
        name = document["metadata"]["name"]
        assert views.document(world.state, kind, name, world.now) == document


def test_metadata_and_spec(world: World) -> None:
    document = views.document(world.state, "Deployment", "d", world.now)
    meta = world.state.deployments["d"].meta
    assert document["metadata"] == {
        "name": "d",
        "generation": 1,
        "resourceVersion": meta.resource_version,
        "createdAt": "2026-01-01T00:00:00.000Z",
    }
    assert document["spec"]["model"] == "m"
    assert document["spec"]["pinned_versions"] == []


def test_a_model_lists_its_versions(world: World) -> None:
    status = views.document(world.state, "Model", "m", world.now)["status"]
    assert status["latest"] == 1
    assert status["versions"] == [
        {
            "version": 1,
            "digest": "m:1",
            "size": 1,
            "files": 1,
            "runtime": "onnx",
            "protocol": "tensor",
            "source": "test",
            "signed_by": [],
            "created_at": "2026-01-01T00:00:00.000Z",
        }
    ]


def test_an_event_tells_who_did_what(world: World) -> None:
    status = views.document(world.state, "Event", "1", world.now)["status"]
    assert status == {
        "at": "2026-01-01T00:00:00.000Z",
        "actor": "ada",
        "kind": "Region",
        "name": "eu",
        "reason": "RegionCreated",
        "message": "region 'eu' was created at 53.3, -6.3.",
    }


def test_a_region_lists_its_clusters(world: World) -> None:
    document = views.document(world.state, "Region", "eu", world.now)
    place = {"latitude": 53.3, "longitude": -6.3}
    assert document["spec"] == {"location": place, "time_zone": "UTC", "freeze": []}
    assert document["status"] == {"clusters": ["c"]}


def test_a_router_tells_how_it_is(world: World) -> None:
    status = views.document(world.state, "Router", "r", world.now)["status"]
    assert status["connected"] is True
    assert status["url"] == "https://r:7400"


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_an_unknown_name_is_not_found(world: World, kind: str) -> None:
    with pytest.raises(NotFound, match=f"{kind.lower()} 'nope' is unknown"):
        views.document(world.state, kind, "nope", world.now)


def test_an_unknown_kind_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match="'Receipt' is not a kind"):
        views.documents(world.state, "Receipt", world.now)
    with pytest.raises(Invalid):
        views.document(world.state, "Receipt", "k", world.now)
