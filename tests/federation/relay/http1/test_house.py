from typing import cast

from federation.relay.connections import Connections
from federation.relay.http1.house import House, Respond
from federation.relay.http1.server import ServerConnection


async def test_it_makes_connections_and_tells_the_time_as_http_does() -> None:
    house = House(
        cast(Respond, None), Connections(), ServerConnection, keepalive_s=1.0, lingering_s=1.0
    )
    assert isinstance(house(), ServerConnection)
    assert house.date().endswith(" GMT")
    assert house.date() is house.date() or house.date()
    assert repr(house) == "House(0 connections)"
