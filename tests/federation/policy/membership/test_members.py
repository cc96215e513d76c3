import pytest

from federation.contract.errors import Conflict, Invalid, Unauthenticated
from federation.contract.spiffe import PeerRole
from federation.policy.membership import members
from federation.policy.membership.records import Membership
from tests.federation.policy.world import World


@pytest.mark.parametrize(
    ("membership", "generation", "reason"),
    [
        (Membership(), 0, "certificate-replaced"),
        (Membership(), 5, "certificate-replaced"),
        (Membership(generation=5), 4, "certificate-replaced"),
        (Membership(generation=5), 6, "certificate-replaced"),
        (Membership(generation=5, revoked=True), 5, "certificate-revoked"),
        (Membership(generation=5, accepted=False), 5, "awaiting-acceptance"),
    ],
)
def test_who_is_no_member(membership: Membership, generation: int, reason: str) -> None:
    with pytest.raises((Unauthenticated, Conflict)) as refusal:
        members.check_member(membership, PeerRole.ROUTER, "r", generation)
    assert refusal.value.reason == reason
    assert "fed router" in refusal.value.hint


def test_a_valid_membership_passes() -> None:
    members.check_member(Membership(generation=5), PeerRole.CLUSTER, "c", 5)


def test_members_are_found_by_role_and_a_control_plane_is_none() -> None:
    world = World()
    world.cluster("x")
    world.router("x")
    cluster = members.find(world.state, PeerRole.CLUSTER, "x")
    router = members.find(world.state, PeerRole.ROUTER, "x")
    assert cluster is world.state.clusters["x"]
    assert router is world.state.registered_routers["x"]
    assert members.find_or_none(world.state, PeerRole.ROUTER, "y") is None
    assert members.uri_of(world.state, PeerRole.ROUTER, "x").endswith("/router/x")
    with pytest.raises(Invalid):
        members.find(world.state, PeerRole.CONTROL_PLANE, "main")
