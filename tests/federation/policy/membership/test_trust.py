from federation.contract.spiffe import PeerRole
from federation.contract.trust import RouterAddress
from federation.policy.membership.trust import revocations, router_addresses
from tests.federation.policy.world import World


def test_revocations_are_ordered_by_uri() -> None:
    world = World()
    for name in ("b", "a"):
        world.cluster(name)
        world.revoke(name)
    assert [r.uri.rpartition("/")[2] for r in revocations(world.state)] == ["a", "b"]


def test_only_members_with_an_address_are_told() -> None:
    world = World()
    world.router("b", reverse_address="b:1")
    world.router("a", reverse_address="a:1")
    world.router("without")
    world.register_router("unjoined")
    told = [RouterAddress(name=n, reverse_address=f"{n}:1") for n in ("a", "b")]
    assert list(router_addresses(world.state)) == told
    world.revoke("a", PeerRole.ROUTER)
    assert list(router_addresses(world.state)) == told[1:]
