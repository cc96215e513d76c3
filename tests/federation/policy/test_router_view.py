from typing import Any

from federation.contract.spiffe import PeerRole
from federation.policy.router_view import router_status
from tests.federation.policy.world import World


def status(world: World) -> dict[str, Any]:
    return router_status(world.state, world.state.registered_routers["r"])


def test_a_registered_router_is_shown_before_and_after_it_connected() -> None:
    world = World()
    world.register_router("r")
    assert (status(world)["joined"], status(world)["connected"]) == (False, False)
    world.join("r", role=PeerRole.ROUTER)
    world.router("r", reverse_address="192.0.2.1:7402")
    shown = status(world)
    assert (shown["joined"], shown["connected"], shown["url"]) == (True, True, "https://r:7400")
    assert shown["reverse_address"] == "192.0.2.1:7402"
    world.restart()
    shown = status(world)
    assert (shown["joined"], shown["connected"], shown["connected_at"]) == (True, False, None)
    assert shown["reverse_address"] == "192.0.2.1:7402"
