from federation.policy import routers
from federation.policy.events import (
    RouterAnswered,
    RouterConnected,
    RouterDisconnected,
    RouterReported,
    Touch,
)
from federation.policy.records import ClusterSeen
from tests.federation.policy.world import World


def connect(world: World, name: str = "r", instance: str = "i1") -> None:
    event = RouterConnected(
        name=name,
        instance=instance,
        url="http://r:7400",
        location=None,
        software_version="1",
        snapshot_version=3,
    )
    assert world.do(event) is True


def seen(*, healthy: bool, rtt_ms: float = 1.0) -> RouterReported:
    clusters = {"c": ClusterSeen(rtt_ms=rtt_ms, healthy=healthy)}
    return RouterReported(
        name="r", instance="i1", requests_total=5, errors_total=1, clusters=clusters
    )


def test_a_router_is_known_while_connected_and_after() -> None:
    world = World()
    connect(world)
    assert world.state.routers["r"].snapshot_version == 3
    assert world.do(RouterDisconnected(name="r", instance="i1")) is True
    assert not world.state.routers["r"].connected
    assert world.told() == ["RouterConnected", "RouterDisconnected"]
    assert world.do(RouterDisconnected(name="r", instance="i1")) is False


def test_a_refused_snapshot_is_told_and_forgotten_with_the_next_good_one() -> None:
    world = World()
    connect(world)
    refused = RouterAnswered(name="r", instance="i1", snapshot_version=9, rejection="two routes")
    world.do(refused)
    assert world.state.routers["r"].rejection == "two routes"
    assert world.state.routers["r"].snapshot_version == 3
    told = list(world.state.audit.values())[-1].message
    assert told == "router 'r' refused snapshot 9: two routes"
    world.do(RouterAnswered(name="r", instance="i1", snapshot_version=10))
    assert world.state.routers["r"].rejection == ""
    assert world.state.routers["r"].snapshot_version == 10


def test_watchers_hear_of_health_and_not_of_every_millisecond() -> None:
    world = World()
    connect(world)
    world.do(seen(healthy=True))
    world.commands.clear()
    world.do(seen(healthy=True, rtt_ms=2.0))
    assert world.commands == []
    assert world.state.routers["r"].clusters["c"].rtt_ms == 2.0
    world.do(seen(healthy=False))
    assert [type(c) for c in world.commands] == [Touch]


def test_an_older_process_of_the_same_name_changes_nothing() -> None:
    world = World()
    connect(world)
    connect(world, instance="i2")
    before = world.state.copy()
    assert world.do(seen(healthy=True)) is False
    assert world.do(RouterAnswered(name="r", instance="i1", snapshot_version=9)) is False
    assert world.do(RouterDisconnected(name="r", instance="i1")) is False
    assert world.state == before


def test_the_longest_gone_are_forgotten_first() -> None:
    world = World()
    for number in range(routers.KEPT + 2):
        connect(world, f"r{number}")
        if number not in (0, 1):
            world.do(RouterDisconnected(name=f"r{number}", instance="i1"))
    assert len(world.state.routers) == routers.KEPT
    assert "r1" in world.state.routers
    assert "r2" not in world.state.routers
