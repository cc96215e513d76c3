from dataclasses import replace

from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.spiffe import PeerRole
from federation.contract.types import (
    Connectivity,
    EngineKind,
    Location,
    ModelProtocol,
    ModelRoute,
    ObservedVersion,
    Replica,
    RouterSite,
    Scheduling,
    VersionState,
)
from federation.policy import snapshot
from federation.policy.events import AliasMoved, RouterDisconnected
from tests.federation.policy.world import ACTOR, World


def served() -> World:
    world = World()
    world.cluster("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m", residency=("eu",)))
    world.serve("c")
    return world


def test_a_served_model_has_a_route_a_replica_and_an_endpoint() -> None:
    world = served()
    world.do(AliasMoved(actor=ACTOR, model="m", alias="best", version=1))
    built = world.snapshot()
    route = ModelRoute(name="m", default_version=1, aliases={"best": 1}, residency=("eu",))
    assert built.models == (route,)
    assert built.replicas == (Replica(model="m", version=1, cluster="c"),)
    (endpoint,) = built.endpoints
    assert (endpoint.cluster, endpoint.region, endpoint.url) == ("c", "eu", "https://c:7500")
    assert endpoint.location == Location(latitude=53.3, longitude=-6.3)


def test_only_warm_versions_of_the_assigned_content_are_replicas() -> None:
    world = served()
    for state in set(VersionState) - {VersionState.WARMED}:
        world.report("c", world.seen("c", state))
        assert world.snapshot().replicas == ()
    world.report("c", [replace(v, digest="other") for v in world.seen("c")])
    assert world.snapshot().replicas == ()
    world.report("c", world.seen("c"))
    assert len(world.snapshot().replicas) == 1


def test_routers_that_are_connected_are_told_to_each_other() -> None:
    world = served()
    assert world.snapshot().routers == ()
    world.router("r")
    assert world.snapshot().routers == (RouterSite(name="r", url="https://r:7400"),)
    world.do(RouterDisconnected(name="r", instance="i1"))
    assert world.snapshot().routers == ()
    world.connect_router("r")
    assert len(world.snapshot().routers) == 1
    world.revoke("r", PeerRole.ROUTER)
    assert world.snapshot().routers == ()


def test_a_draining_cluster_leaves_and_a_cordoned_one_stays() -> None:
    world = served()
    world.schedule("c", Scheduling.CORDONED)
    assert len(world.snapshot().replicas) == 1
    world.schedule("c", Scheduling.DRAINING)
    assert world.snapshot().endpoints == ()
    assert world.snapshot().replicas == ()
    assert [m.name for m in world.snapshot().models] == ["m"]


def test_a_static_engine_brings_its_own_models() -> None:
    world = served()
    world.cluster("s", engine=EngineKind.STATIC)
    seen = [
        ObservedVersion(
            model=model,
            version=version,
            digest="",
            state=VersionState.WARMED,
            protocol=ModelProtocol.TEXT,
        )
        for model, version in (("llama", 1), ("llama", 2), ("m", 1))
    ]
    world.report("s", seen)
    built = world.snapshot()
    assert [(m.name, m.default_version, m.protocol) for m in built.models] == [
        ("llama", 2, ModelProtocol.TEXT),
        ("m", 1, ModelProtocol.TENSOR),
    ]
    assert [r for r in built.replicas if r.cluster == "s"] == [
        Replica(model="llama", version=1, cluster="s"),
        Replica(model="llama", version=2, cluster="s"),
    ]


def test_two_snapshots_are_equal_but_for_their_number() -> None:
    world = served()
    one, two = snapshot.build(world.state, 1), snapshot.build(world.state, 2)
    assert snapshot.same_content(one, two)
    world.advance(11)
    assert not snapshot.same_content(one, snapshot.build(world.state, 2))


def test_who_is_no_member_any_more_leaves() -> None:
    world = served()
    assert world.snapshot().endpoints != ()
    world.revoke("c")
    assert world.snapshot().endpoints == ()
    assert world.snapshot().replicas == ()


def test_a_reversed_cluster_has_no_url() -> None:
    world = World()
    world.cluster("c", spec=ClusterSpec(region="eu", connectivity=Connectivity.REVERSE))
    (endpoint,) = world.snapshot().endpoints
    assert (endpoint.url, endpoint.connectivity) == ("", Connectivity.REVERSE)


def test_what_did_not_change_stays_one_object() -> None:
    """To compare and to encode a thousand clusters of which one changed costs next to nothing."""
    world, parts = served(), snapshot.Parts()
    world.cluster("d")
    world.serve("d")
    first = snapshot.build(world.state, 1, parts=parts)
    world.report("c", world.seen("c", VersionState.LOADED))
    second = snapshot.build(world.state, 2, parts=parts)
    assert [r.cluster for r in second.replicas] == ["d"]
    assert second.replicas[0] is first.replicas[1]
    assert all(a is b for a, b in zip(first.endpoints, second.endpoints, strict=True))
