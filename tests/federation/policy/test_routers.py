import pytest

from federation.contract.errors import NotFound, Unauthenticated
from federation.contract.spiffe import PeerRole
from federation.contract.trust import RouterAddress
from federation.policy.events import RouterAnswered, RouterDisconnected, RouterReported, Touch
from federation.policy.membership.events import PublishRouters
from federation.policy.membership.trust import router_addresses
from federation.policy.records import ClusterSeen
from tests.federation.policy.world import World


def seen(*, healthy: bool, rtt_ms: float = 1.0) -> RouterReported:
    clusters = {"c": ClusterSeen(rtt_ms=rtt_ms, healthy=healthy)}
    return RouterReported(
        name="r", instance="i1", requests_total=5, errors_total=1, clusters=clusters
    )


def test_a_router_is_known_while_connected_and_after() -> None:
    world = World()
    world.router()
    assert world.state.routers["r"].snapshot_version == 3
    assert world.do(RouterDisconnected(name="r", instance="i1")) is True
    assert not world.state.routers["r"].connected
    assert world.told()[-2:] == ["RouterConnected", "RouterDisconnected"]
    assert world.do(RouterDisconnected(name="r", instance="i1")) is False


def test_a_refused_snapshot_is_told_and_forgotten_with_the_next_good_one() -> None:
    world = World()
    world.router()
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
    world.router()
    world.do(seen(healthy=True))
    world.commands.clear()
    world.do(seen(healthy=True, rtt_ms=2.0))
    assert world.commands == []
    assert world.state.routers["r"].clusters["c"].rtt_ms == 2.0
    world.do(seen(healthy=False))
    assert [type(c) for c in world.commands] == [Touch]


def test_an_older_process_of_the_same_name_changes_nothing() -> None:
    world = World()
    world.router()
    world.router(instance="i2")
    before = world.state.copy()
    assert world.do(seen(healthy=True)) is False
    assert world.do(RouterAnswered(name="r", instance="i1", snapshot_version=9)) is False
    assert world.do(RouterDisconnected(name="r", instance="i1")) is False
    assert world.state == before


def test_only_a_member_connects() -> None:
    world = World()
    with pytest.raises(NotFound) as unknown:
        world.connect_router("r")
    assert "fed router register r" in unknown.value.hint
    world.register_router("r")
    with pytest.raises(Unauthenticated):
        world.connect_router("r")
    old = world.join("r", role=PeerRole.ROUTER).generation
    world.register_router("r", token="second", rejoin=True)
    world.join("r", token="second", key="other", role=PeerRole.ROUTER)
    with pytest.raises(Unauthenticated, match="earlier join"):
        world.connect_router("r", generation=old)
    world.connect_router("r")
    world.revoke("r", PeerRole.ROUTER)
    with pytest.raises(Unauthenticated, match="revoked"):
        world.connect_router("r")


def test_agents_are_told_where_routers_take_connections_and_it_outlives_restarts() -> None:
    world = World()
    world.router(reverse_address="192.0.2.1:7402")
    assert PublishRouters() in world.commands
    told = (RouterAddress(name="r", reverse_address="192.0.2.1:7402"),)
    assert router_addresses(world.state) == told
    world.commands.clear()
    world.router(reverse_address="192.0.2.1:7402")
    assert PublishRouters() not in world.commands
    world.do(RouterDisconnected(name="r", instance="i1"))
    world.restart()
    assert router_addresses(world.state) == told
    world.commands.clear()
    world.router()
    assert PublishRouters() in world.commands
    assert router_addresses(world.state) == ()
