"""Connections over real TLS: who is refused and how it is said, rotation, expiry, giving up."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from federation.contract.errors import Unavailable
from federation.contract.spiffe import PeerId, PeerRole
from federation.identity.authority import Authority
from federation.relay.forward import (
    BrokenMidway,
    ConnectFailed,
    Forwarder,
    ForwardError,
    Outgoing,
    PoolLimits,
    SentNoAnswer,
)
from federation.relay.pool import DialledStock, Origin
from federation.trust.credentials import Credentials
from federation.trust.peers import peer_from_ssl
from tests.pki import TRUST_DOMAIN, credentials_for, issue_into, make_authority, trust_of

EU = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "eu")
ROUTER = PeerId(TRUST_DOMAIN, PeerRole.ROUTER, "r")


class Gateway:
    """Answers with the port and serial number of the connection; a POST streams until `more`."""

    def __init__(self) -> None:
        self.url = ""
        self.more = asyncio.Event()
        self.asked = asyncio.Event()
        self.connections: set[asyncio.BaseTransport] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.connections.add(request.transport)
        self.asked.set()
        if request.path == "/never":
            await asyncio.sleep(60)
        if request.method == "GET":
            peer = peer_from_ssl(request.transport.get_extra_info("peercert"))
            port = request.transport.get_extra_info("peername")[1]
            return web.json_response({"port": port, "generation": peer.generation})
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first ")
        await self.more.wait()
        await response.write(b"second")
        return response

    @property
    def open(self) -> int:
        return sum(not transport.is_closing() for transport in self.connections)


@asynccontextmanager
async def gateway(credentials: Credentials) -> AsyncIterator[Gateway]:
    fake, app = Gateway(), web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=credentials.server_context()).start()
    fake.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


@asynccontextmanager
async def forwarding(
    credentials: Credentials, to: PeerId = EU, **more: Any
) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(tls=credentials.client_context, server_hostname=to.dns_name, **more)
    try:
        yield forwarder
    finally:
        await forwarder.close()


def generation_one(certificate: Mapping[str, Any]) -> str:
    return "old" if peer_from_ssl(certificate).generation == 1 else ""


async def ask(forwarder: Forwarder, url: str) -> dict[str, int]:
    async with forwarder.send(Outgoing(method="GET", url=url)) as upstream:
        body = await upstream.read(1000)
        assert body is not None
        answer: dict[str, int] = json.loads(body)
        return answer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def router(authority: Authority) -> Credentials:
    return credentials_for(authority, PeerRole.ROUTER, "r")


@pytest.fixture
def eu(authority: Authority) -> Credentials:
    return credentials_for(authority, PeerRole.CLUSTER, "eu")


async def test_a_peer_that_is_somebody_else_is_refused_before_anything_is_sent(
    tmp_path: Path, authority: Authority, router: Credentials
) -> None:
    alien = make_authority(tmp_path / "alien")
    us = credentials_for(authority, PeerRole.CLUSTER, "us")
    expired = credentials_for(authority, PeerRole.CLUSTER, "eu", life=timedelta(seconds=-1))
    wrong = {
        "not valid for 'eu.cluster.fed.test'": us,
        "self-signed certificate": credentials_for(alien, PeerRole.CLUSTER, "eu"),
        "certificate has expired": expired,
    }
    for words, credentials in wrong.items():
        async with gateway(credentials) as fake, forwarding(router) as forwarder:
            with pytest.raises(ConnectFailed, match=words) as caught:
                await ask(forwarder, fake.url)
            assert not caught.value.may_have_run
            assert not fake.connections


async def test_a_peer_that_refuses_our_certificate_shows_on_the_first_read(
    tmp_path: Path, authority: Authority, eu: Credentials
) -> None:
    stranger = credentials_for(make_authority(tmp_path / "alien"), PeerRole.ROUTER, "r")
    shown = Credentials(None)
    shown.keep_trust(trust_of(authority))
    assert stranger.leaf is not None
    shown.install(stranger.leaf.certificate, stranger.leaf.key)
    async with gateway(eu) as fake, forwarding(shown) as forwarder:
        with pytest.raises(SentNoAnswer, match="perhaps it does not accept our certificate"):
            await ask(forwarder, fake.url)
        assert not fake.connections


async def test_without_credentials_nothing_is_sent() -> None:
    def context() -> ssl.SSLContext:
        raise Unavailable("this router has no certificate yet.")

    forwarder = Forwarder(tls=context)
    with pytest.raises(ConnectFailed, match="has no certificate yet") as caught:
        await ask(forwarder, "https://127.0.0.1:1")
    assert not caught.value.may_have_run
    assert repr(forwarder) == "Forwarder(closed, running=0)"


async def test_connections_are_reused_until_our_certificate_changes(
    authority: Authority, router: Credentials, eu: Credentials
) -> None:
    async with gateway(eu) as fake, forwarding(router) as forwarder:
        first, again = await ask(forwarder, fake.url), await ask(forwarder, fake.url)
        assert first == again
        issue_into(router, authority, ROUTER, generation=2)
        after = await ask(forwarder, fake.url)
        assert after["generation"] == 2
        assert after["port"] != first["port"]
        async with asyncio.timeout(10):
            while fake.open > 1:  # the old one was idle
                await asyncio.sleep(0.01)
        assert await ask(forwarder, fake.url) == after


async def test_what_runs_survives_any_number_of_rotations_on_both_sides(
    authority: Authority, router: Credentials, eu: Credentials
) -> None:
    async with gateway(eu) as fake, forwarding(router) as forwarder:
        async with forwarder.send(Outgoing(method="POST", url=fake.url)) as upstream:
            chunks = upstream.chunks()
            assert await anext(chunks) == b"first "
            for generation in range(2, 6):
                issue_into(router, authority, ROUTER, generation=generation)
                issue_into(eu, authority, EU, generation=generation)
                assert (await ask(forwarder, fake.url))["generation"] == generation
                async with asyncio.timeout(10):
                    while fake.open > 2:
                        await asyncio.sleep(0.01)
            assert forwarder.running == 1
            fake.more.set()
            assert b"".join([chunk async for chunk in chunks]) == b"second"
        assert forwarder.running == 0
        async with asyncio.timeout(10):
            while fake.open > 1:
                await asyncio.sleep(0.01)


async def test_severing_breaks_at_once_what_it_is_meant_for_and_no_more(
    router: Credentials, eu: Credentials
) -> None:
    async with gateway(eu) as fake, forwarding(router) as forwarder:
        loop = asyncio.get_running_loop()

        async def fail(method: str, path: str) -> ForwardError:
            with pytest.raises(ForwardError) as caught:
                outgoing = Outgoing(method=method, url=fake.url + path)
                async with forwarder.send(outgoing) as upstream:
                    assert await upstream.read(1000) is not None
            return caught.value

        waiting = loop.create_task(fail("POST", "/never"))
        await fake.asked.wait()
        outgoing = Outgoing(method="POST", url=fake.url)
        with pytest.raises(BrokenMidway):
            async with forwarder.send(outgoing) as upstream:
                chunks = upstream.chunks()
                assert await anext(chunks) == b"first "
                started = loop.time()
                assert forwarder.sever(lambda _: "") == 0
                assert forwarder.sever(generation_one) == 2
                assert isinstance(await waiting, SentNoAnswer)
                await anext(chunks)
        assert loop.time() - started < 5
        async with asyncio.timeout(10):
            while fake.open:
                await asyncio.sleep(0.01)
        await ask(forwarder, fake.url)


async def test_retiring_lets_what_runs_finish(router: Credentials, eu: Credentials) -> None:
    async with gateway(eu) as fake, forwarding(router) as forwarder:
        async with forwarder.send(Outgoing(method="POST", url=fake.url)) as upstream:
            forwarder.retire()
            fake.more.set()
            assert await upstream.read(100) == b"first second"
        forwarder.retire()
        async with asyncio.timeout(10):
            while fake.open:
                await asyncio.sleep(0.01)


async def test_a_kept_connection_is_vetted_again_and_replaced(
    authority: Authority, router: Credentials, eu: Credentials
) -> None:
    refused: set[int] = set()

    def vet(certificate: Mapping[str, Any]) -> str:
        generation = peer_from_ssl(certificate).generation
        return f"generation {generation} is refused" if generation in refused else ""

    async with gateway(eu) as fake, forwarding(router, vet=vet) as forwarder:
        first = await ask(forwarder, fake.url)
        refused.add(1)
        issue_into(eu, authority, EU, generation=2)
        after = await ask(forwarder, fake.url)
        assert after["port"] != first["port"]
        refused.add(2)
        with pytest.raises(ConnectFailed, match="generation 2 is refused") as caught:
            await ask(forwarder, fake.url)
        assert not caught.value.may_have_run


async def test_stocks_of_another_kind_can_be_given(router: Credentials, eu: Credentials) -> None:
    made: list[DialledStock] = []

    def stock() -> DialledStock:
        port = int(fake.url.rpartition(":")[2])
        origin = Origin("127.0.0.1", port, router.client_context(), EU.dns_name)
        made.append(DialledStock(origin, keepalive_s=5))
        return made[-1]

    async with gateway(eu) as fake, forwarding(router, stock=stock) as forwarder:
        await ask(forwarder, fake.url)
        assert repr(made[0]).endswith("1 connections)")
        forwarder.retire()
        await ask(forwarder, fake.url)
        assert len(made) == 2


async def test_idle_connections_are_closed_after_a_while(
    router: Credentials, eu: Credentials
) -> None:
    async with (
        gateway(eu) as fake,
        forwarding(router, pool=PoolLimits(keepalive_s=0.2)) as forwarder,
    ):
        await ask(forwarder, fake.url)
        assert fake.open == 1
        async with asyncio.timeout(10):
            while fake.open:
                await asyncio.sleep(0.01)


class Recorder(asyncio.Protocol):
    """Another protocol on one of our connections."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        self.heard.append(data[:12].decode())

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append("lost")


async def test_another_protocol_gets_a_connection_that_is_vetted_and_severed_too(
    authority: Authority, router: Credentials, eu: Credentials
) -> None:
    refused: set[int] = set()

    def vet(certificate: Mapping[str, Any]) -> str:
        return "refused" if peer_from_ssl(certificate).generation in refused else ""

    async with gateway(eu) as fake, forwarding(router, vet=vet) as forwarder:
        dialler = forwarder.dialler(fake.url)
        other = Recorder()
        transport = await dialler.connect(lambda: other, connect_s=5)
        assert dialler.usable(transport)
        transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            while "HTTP/1.1 200" not in other.heard:
                await asyncio.sleep(0.01)
        refused.add(1)
        assert not dialler.usable(transport)
        with pytest.raises(ConnectFailed, match="refused"):
            await dialler.connect(Recorder, connect_s=5)
        assert forwarder.sever(vet) >= 1
        async with asyncio.timeout(5):
            while other.heard[-1] != "lost":
                await asyncio.sleep(0.01)
        assert other.heard[0] == "made"
