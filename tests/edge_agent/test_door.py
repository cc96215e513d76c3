"""The two ways to the gateway, over real mutual TLS."""

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest

from edge_agent.door import ListeningDoor, ReverseDoor
from edge_agent.reverse import ReverseDialler
from federation.contract.errors import Conflict
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import RouterAddress
from federation.identity.authority import Authority
from federation.relay.application import Application, make_application
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from tests.pki import TRUST_DOMAIN, credentials_for, issue_into, make_authority, trust_of

EU = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "eu")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def application() -> Application:
    async def hello(_: Request) -> StreamResponse:
        return Response(text="hello")

    return make_application(hello)


def listening(credentials: Credentials, joined: asyncio.Event, port: int = 0) -> ListeningDoor:
    async def wait() -> None:
        await joined.wait()

    address = f"127.0.0.1:{port}"
    return ListeningDoor(application(), address, credentials=credentials, joined=wait)


async def ask(port: int, router: Credentials) -> int:
    url = f"https://127.0.0.1:{port}/v2"
    context = router.client_context()
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, ssl=context, server_hostname=EU.dns_name) as answer,
    ):
        return answer.status


async def test_with_an_identity_it_serves_from_the_first_second(authority: Authority) -> None:
    door = listening(credentials_for(authority, PeerRole.CLUSTER, "eu"), asyncio.Event())
    address = await door.open()
    assert address
    assert await ask(address[1], credentials_for(authority, PeerRole.ROUTER, "r1")) == 200
    await asyncio.wait_for(door.run(), 1)
    await door.close()


async def test_before_it_joined_it_holds_the_port_and_serves_nobody(authority: Authority) -> None:
    credentials, joined = Credentials(None), asyncio.Event()
    door = listening(credentials, joined)
    address = await door.open()
    assert address
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    running = asyncio.get_running_loop().create_task(door.run())
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(address[1], router)
    credentials.keep_trust(trust_of(authority))
    issue_into(credentials, authority, EU)
    joined.set()
    await asyncio.wait_for(running, 5)
    assert await ask(address[1], router) == 200
    await door.close()


async def test_closing_before_joining_frees_the_port(authority: Authority) -> None:
    door = listening(Credentials(None), asyncio.Event())
    address = await door.open()
    assert address
    await door.close()
    again = listening(
        credentials_for(authority, PeerRole.CLUSTER, "eu"), asyncio.Event(), address[1]
    )
    assert await again.open() == address
    third = listening(Credentials(None), asyncio.Event(), address[1])
    with pytest.raises(Conflict, match="in use"):
        await third.open()
    await third.close()
    await again.close()


async def test_reversed_nothing_listens_and_routers_follow_the_list(authority: Authority) -> None:
    credentials = credentials_for(authority, PeerRole.CLUSTER, "eu")
    dialler = ReverseDialler(
        application(), credentials=credentials, clock=SystemClock(), dice=random.Random(1)
    )
    known = [RouterAddress(name="r1", reverse_address="127.0.0.1:1")]

    async def joined() -> None:
        pass

    door = ReverseDoor(dialler, routers=lambda: tuple(known), joined=joined)
    assert await door.open() is None
    running = asyncio.get_running_loop().create_task(door.run())
    async with asyncio.timeout(5):
        while [line.name for line in dialler.lines] != ["r1"]:
            await asyncio.sleep(0.01)
    known.append(RouterAddress(name="r2", reverse_address="127.0.0.1:1"))
    door.routers_changed()
    assert [line.name for line in dialler.lines] == ["r1", "r2"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await door.close()
