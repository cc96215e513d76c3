from federation.contract.resources import ClusterSpec, DeploymentSpec, PrefetchSpec
from federation.contract.sync import SyncPeer
from federation.contract.types import Connectivity, VersionState
from federation.policy.sync.peers import Neighbours, peers
from tests.federation.policy.world import World


def digests(world: World, whose: str) -> dict[str, tuple[str, ...]]:
    return {peer.cluster: peer.digests for peer in peers(world.state)[whose]}


def test_all_of_a_region_are_told_the_same_and_others_nothing_of_them() -> None:
    world = World()
    for name, region in (("a", "eu"), ("b", "eu"), ("c", "us")):
        world.cluster(name, region)
    told = peers(world.state)
    assert told["a"] == told["b"]
    assert told["a"] == (
        SyncPeer(cluster="a", url="https://a:7500"),
        SyncPeer(cluster="b", url="https://b:7500"),
    )
    assert [peer.cluster for peer in told["c"]] == ["c"]


def test_it_tells_what_they_have_or_fetch() -> None:
    world = World()
    world.cluster("a")
    world.push("m", "1")
    world.push("m", "2")
    world.deploy(DeploymentSpec(model="m", version=1))
    assert digests(world, "a") == {"a": ("m:1",)}
    world.prefetch(PrefetchSpec(model="m", version=2))
    assert digests(world, "a") == {"a": ("m:1", "m:2")}
    old = world.seen("a", VersionState.CACHED, only=2)
    world.remove("Prefetch", "p")
    world.report("a", [*world.seen("a"), *old])
    assert digests(world, "a") == {"a": ("m:1", "m:2")}, "its bytes are still there"
    world.report("a", world.seen("a"))
    assert digests(world, "a") == {"a": ("m:1",)}


def test_only_members_that_are_in_contact_are_peers_and_reversed_ones_do_not_serve() -> None:
    world = World()
    world.cluster("a")
    world.cluster("b", spec=ClusterSpec(region="eu", connectivity=Connectivity.REVERSE))
    world.register("n", ClusterSpec(region="eu"))
    world.cluster("r")
    world.revoke("r")
    assert [(p.cluster, p.url) for p in peers(world.state)["a"]] == [
        ("a", "https://a:7500"),
        ("b", ""),
    ]
    world.advance(6)
    world.report("b")
    world.advance(6)
    assert [p.cluster for p in peers(world.state)["b"]] == ["b"]
    assert set(peers(world.state)) == {"a", "b", "n", "r"}


def test_what_is_remembered_changes_nothing_and_equal_regions_stay_one_object() -> None:
    world, known = World(), Neighbours()
    for name, region in (("a", "eu"), ("b", "eu"), ("c", "us")):
        world.cluster(name, region)
    first = known.of(world.state)
    world.push("m")
    world.deploy(DeploymentSpec(model="m", regions=("us",)))
    second = known.of(world.state)
    assert second == peers(world.state)
    assert second["c"] != first["c"]
    assert second["a"] is first["a"]
    world.serve("c")
    assert known.of(world.state) == peers(world.state)
    world.advance(60)
    assert known.of(world.state) == peers(world.state)
