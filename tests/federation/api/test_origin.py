from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from federation.api.origin import enter, origin_now, origin_of, origin_of_call
from federation.policy.audit.events import INSIDE, Origin


class Call:
    """The part of gRPC's context that tells who calls."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


def test_outside_of_any_request_it_is_the_control_plane_itself() -> None:
    assert origin_now() == INSIDE


async def test_each_request_has_its_own_also_on_one_connection() -> None:
    async def handle(request: web.Request) -> web.Response:
        if "id" in request.query:
            enter(request, request.query["id"])
            assert origin_now() == origin_of(request)
        origin = origin_of(request)
        return web.Response(text=f"{origin.source} {origin.request_id}")

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestClient(TestServer(app)) as client:
        for query, told in (("?id=a", "127.0.0.1 a"), ("?id=b", "127.0.0.1 b"), ("", "127.0.0.1 ")):
            async with client.get(f"/{query}") as answer:
                assert await answer.text() == told


def test_a_request_without_a_connection_comes_from_nowhere() -> None:
    assert origin_of(make_mocked_request("GET", "/")) == Origin(source="")


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        ("ipv4:192.0.2.1:43210", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:43210", "2001:db8::1"),
        ("ipv6:[::1]:43210", "::1"),
        ("unix:/run/fed.sock", "unix"),
        ("", ""),
    ],
)
def test_the_peer_of_a_grpc_call(peer: str, source: str) -> None:
    assert origin_of_call(cast("Any", Call(peer))) == Origin(source=source)
