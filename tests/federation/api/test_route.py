import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from federation.api.route import CALLER, actor, caller_of, flag, needs
from federation.app import ControlPlane
from federation.contract.errors import Invalid, Unauthenticated
from federation.policy.access.roles import Action, Caller, Verb
from tests.fakes.control_plane import Operator, roots_of


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("", False),
        ("?x", True),
        ("?x=true", True),
        ("?x=True", True),
        ("?x=1", True),
        ("?x=0", False),
    ],
)
def test_flags(query: str, value: bool) -> None:
    assert flag(make_mocked_request("GET", f"/{query}"), "x") is value


def test_a_flag_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="true or false"):
        flag(make_mocked_request("GET", "/?x=yes"), "x")


def test_nobody_acts_on_an_open_route() -> None:
    request = make_mocked_request("GET", "/")
    with pytest.raises(Unauthenticated):
        actor(request)
    request[CALLER] = Caller(name="user/alice")
    assert actor(request) == caller_of(request).name == "user/alice"


def test_a_route_names_its_object_by_its_path() -> None:
    need = needs(Verb.READ, "ModelVersion", "{name}/{version}")
    told = need.action({"name": "{version}", "version": "2"})
    assert told == Action(verb=Verb.READ, kind="ModelVersion", name="{version}/2")


async def exchange(plane: ControlPlane, head: str, body: bytes = b"") -> bytes:
    """Send a head, wait for the first answer, send the body if any, and return what came."""
    host, _, port = plane.http_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=roots_of(plane))
    async with asyncio.timeout(10):
        writer.write(f"{head}\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        rest = await reader.read() if body else b""
        writer.close()
        await writer.wait_closed()
    return first + rest


BODY = b"x" * 32
HEAD = "POST /api/v1/chunks/missing HTTP/1.1\r\nContent-Length: 32\r\nExpect: {expect}\r\n{more}"


async def test_strangers_are_not_invited_to_upload(plane: ControlPlane) -> None:
    head = HEAD.format(expect="100-continue", more="Authorization: Bearer x")
    answer = await exchange(plane, head)
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_operators_are_invited(plane: ControlPlane) -> None:
    head = HEAD.format(expect="100-continue", more=f"Authorization: Bearer {plane.admin.text}")
    answer = await exchange(plane, head, BODY)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


async def test_other_expectations_are_refused(plane: ControlPlane) -> None:
    head = HEAD.format(expect="a-pony", more=f"Authorization: Bearer {plane.admin.text}")
    answer = await exchange(plane, head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert isinstance(plane.api.app, web.Application)


@pytest.mark.parametrize(("path", "status"), [("regions", 200), ("regions/nowhere", 404)])
async def test_nobody_is_told_what_is_not_stored_yet(
    plane: ControlPlane, api: Operator, path: str, status: int
) -> None:
    """While a commit is under way an answer that may show its change waits for it."""
    plane.loop._durable.clear()
    asking = asyncio.ensure_future(api.call("GET", f"/api/v1/{path}"))
    done, _ = await asyncio.wait([asking], timeout=0.1)
    assert not done
    assert (await api.call("GET", "/healthz")).status == 200  # whoever asks how it is is told
    plane.loop._durable.set()
    async with asyncio.timeout(10):
        assert (await asking).status == status
