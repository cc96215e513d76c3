from datetime import timedelta

import pytest

from federation.contract.errors import NotFound
from federation.contract.resources import ClusterSpec
from federation.contract.spiffe import PeerRole
from federation.policy.events import CloseAgent, Delete, ObjectRemoved, Put, WakeAt
from federation.policy.membership.events import CloseRouter, PublishRouters, PublishTrust
from federation.policy.membership.revoking import SKEW
from federation.policy.membership.trust import revocations, router_addresses
from tests.federation.policy.world import ACTOR, World


def test_a_revocation_is_told_kept_and_forgotten_when_no_certificate_can_live() -> None:
    world = World()
    world.cluster("c")
    record = world.state.clusters["c"]
    world.commands.clear()
    world.revoke("c")
    until = world.now + world.state.leaf_life + SKEW
    assert PublishTrust() in world.commands
    assert WakeAt(at=until) in world.commands
    assert [c.epoch for c in world.commands if isinstance(c, CloseAgent)] == [record.epoch]
    (revoked,) = revocations(world.state)
    assert revoked.uri == "spiffe://federation.internal/cluster/c"
    assert revoked.below == record.membership.generation + 1
    kept = [c.record for c in world.commands if isinstance(c, Put) and c.kind == "Revocation"]
    assert [r.until for r in kept] == [until]
    world.restart()
    assert revocations(world.state) == (revoked,)
    world.commands.clear()
    world.now = until - timedelta(seconds=1)
    world.advance(0)
    assert revocations(world.state) == (revoked,)
    assert WakeAt(at=until) in world.commands
    world.advance(1)
    assert revocations(world.state) == ()
    assert PublishTrust() in world.commands
    assert [c.name for c in world.commands if isinstance(c, Delete)] == [revoked.uri]


def test_a_revoked_cluster_loses_its_presence_and_keeps_its_assignment() -> None:
    world = World()
    world.cluster("c")
    assignment = world.state.clusters["c"].assignment
    world.revoke("c")
    assert (world.state.presences, world.state.reports) == ({}, {})
    assert world.state.clusters["c"].assignment == assignment
    revision = world.state.revision
    world.revoke("c")  # twice is once
    assert world.state.revision == revision


def test_a_revocation_before_the_join_voids_the_token() -> None:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"))
    world.revoke("c")
    assert revocations(world.state) == ()
    assert world.state.clusters["c"].ticket is None


def test_a_removed_cluster_is_revoked() -> None:
    world = World()
    world.cluster("c")
    generation = world.state.clusters["c"].membership.generation
    world.remove("Cluster", "c")
    (revoked,) = revocations(world.state)
    assert revoked.below == generation + 1


@pytest.mark.parametrize("what", ["revoke", "remove"])
def test_a_router_that_leaves_is_dialled_no_more(what: str) -> None:
    world = World()
    world.router(reverse_address="192.0.2.1:7402")
    generation = world.state.registered_routers["r"].membership.generation
    world.commands.clear()
    if what == "revoke":
        world.revoke("r", PeerRole.ROUTER)
    else:
        world.do(ObjectRemoved(actor=ACTOR, kind="Router", name="r"))
    assert router_addresses(world.state) == ()
    assert PublishRouters() in world.commands
    closed = [c for c in world.commands if isinstance(c, CloseRouter)]
    assert [(c.name, c.generation) for c in closed] == [("r", generation)]
    assert world.state.routers == {}


def test_who_is_unknown_is_not_revoked() -> None:
    world = World()
    for role in (PeerRole.CLUSTER, PeerRole.ROUTER):
        with pytest.raises(NotFound):
            world.revoke("x", role)
