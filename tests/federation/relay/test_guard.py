"""Who may speak on live connections, over real mutual TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from federation.contract.errors import Unauthenticated
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation
from federation.identity.authority import Authority
from federation.relay.application import make_application
from federation.relay.guard import PeerGuard
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.runner import RelayRunner
from federation.relay.server import listen, make_runner
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from tests.fakes.enrolling import until
from tests.fakes.requests import QuietTransport
from tests.pki import TRUST_DOMAIN, credentials_for, issue_into, make_authority, trust_of

CLUSTER, ROUTER = PeerRole.CLUSTER, PeerRole.ROUTER
EU = PeerId(TRUST_DOMAIN, CLUSTER, "eu")
R1 = PeerId(TRUST_DOMAIN, ROUTER, "r1")


class ShiftedClock(SystemClock):
    """The machine's clock, put forward."""

    shift = timedelta()

    def utc(self) -> datetime:
        return datetime.now(UTC) + self.shift


@dataclass
class Rig:
    """A guarded server, and the authority that everybody trusts."""

    authority: Authority
    own: Credentials
    guard: PeerGuard
    clock: ShiftedClock
    runner: RelayRunner
    port: int
    release: asyncio.Event
    running: int = 0
    broken: int = 0

    async def get(
        self, session: aiohttp.ClientSession, peer: Credentials, path: str = "/v2/x"
    ) -> tuple[int, str, str]:
        """Status, x-fed-refused and Connection of an answer."""
        url = f"https://127.0.0.1:{self.port}{path}"
        context = peer.client_context()
        async with session.get(url, ssl=context, server_hostname=EU.dns_name) as answer:
            await answer.read()
            refused = answer.headers.get("x-fed-refused", "")
            return answer.status, refused, answer.headers.get("Connection", "")

    def peer(self, role: PeerRole = ROUTER, life: timedelta | None = None) -> Credentials:
        return credentials_for(self.authority, role, "r1", life=life)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    authority = make_authority(tmp_path)
    own = credentials_for(authority, CLUSTER, "eu")
    clock = ShiftedClock()
    guard = PeerGuard(own, ROUTER, clock)
    release = asyncio.Event()

    async def handle(request: Request) -> StreamResponse:
        if request.path != "/v2/stream":
            return Response(text=guard.peer(request).id.name)
        made.running += 1
        try:
            response = StreamResponse()
            await response.prepare(request)
            await response.write(b"data: 1\n\n")
            await release.wait()
            await response.write(b"data: 2\n\n")
        except (asyncio.CancelledError, ConnectionError):
            made.broken += 1
            raise
        finally:
            made.running -= 1
        return response

    runner = make_runner(make_application(handle, guard=guard))
    _, port = await listen(runner, "127.0.0.1:0", own.server_context())
    made = Rig(authority, own, guard, clock, runner, port, release)
    yield made
    release.set()
    await runner.cleanup()
    await until(lambda: repr(guard) == "PeerGuard(router: nobody)")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_router_is_served_and_its_connection_kept(
    rig: Rig, session: aiohttp.ClientSession
) -> None:
    peer = rig.peer()
    for _ in range(3):
        assert await rig.get(session, peer) == (200, "", "")
    assert repr(rig.guard) == "PeerGuard(router: r1)"
    assert len(rig.runner.server.connections) == 1  # type: ignore[union-attr]


async def test_strangers_get_no_handshake(
    rig: Rig, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    nobody = ssl.create_default_context(cadata=trust_of(rig.authority).bundle)
    other = credentials_for(make_authority(tmp_path / "other"), ROUTER, "r1")
    other.trust = rig.own.trust  # it would believe us
    expired = rig.peer(life=timedelta(seconds=-1))
    for context in (nobody, other.client_context(), expired.client_context()):
        url = f"https://127.0.0.1:{rig.port}/v2/x"
        with pytest.raises((aiohttp.ClientError, OSError)):
            async with session.get(url, ssl=context, server_hostname=EU.dns_name) as answer:
                await answer.read()
    assert repr(rig.guard) == "PeerGuard(router: nobody)"


@pytest.mark.parametrize("role", [CLUSTER, PeerRole.CONTROL_PLANE])
async def test_another_role_is_refused_and_not_sent_elsewhere(
    rig: Rig, session: aiohttp.ClientSession, role: PeerRole
) -> None:
    status, refused, connection = await rig.get(session, rig.peer(role))
    assert (status, refused, connection) == (403, "", "close")


async def test_a_certificate_that_expires_on_a_live_connection(
    rig: Rig, session: aiohttp.ClientSession
) -> None:
    peer = rig.peer(life=timedelta(hours=1))
    assert (await rig.get(session, peer))[0] == 200
    rig.clock.shift = timedelta(hours=1)
    answer = await rig.get(session, peer)
    assert answer == (503, "certificate-expired", "close")
    assert rig.guard.refused == 1


async def test_near_its_end_the_peer_is_asked_for_another_connection(
    rig: Rig, session: aiohttp.ClientSession
) -> None:
    peer = rig.peer(life=timedelta(hours=1))
    rig.clock.shift = timedelta(minutes=53)
    assert await rig.get(session, peer) == (200, "", "")
    rig.clock.shift = timedelta(minutes=55)
    assert await rig.get(session, peer) == (200, "", "close")
    await until(lambda: not rig.runner.server.connections)  # type: ignore[union-attr]


async def test_idle_connections_are_closed_at_expiry(
    rig: Rig, session: aiohttp.ClientSession
) -> None:
    peer = rig.peer(life=timedelta(seconds=2))
    assert (await rig.get(session, peer))[0] == 200
    await until(lambda: not rig.runner.server.connections, 10)  # type: ignore[union-attr]


async def test_revocation_breaks_what_runs_at_once(
    rig: Rig, session: aiohttp.ClientSession
) -> None:
    peer, bystander = rig.peer(), credentials_for(rig.authority, ROUTER, "r2")
    streams = []
    url = f"https://127.0.0.1:{rig.port}/v2/stream"
    for one in (peer, bystander):
        context = one.client_context()
        stream = await session.get(url, ssl=context, server_hostname=EU.dns_name)
        assert await stream.content.readany() == b"data: 1\n\n"
        streams.append(stream)
    began = asyncio.get_running_loop().time()
    revoked = Revocation(uri=R1.uri, below=2)
    rig.own.keep_trust(trust_of(rig.authority, 2, revoked=(revoked,)))
    with pytest.raises(aiohttp.ClientError):
        await streams[0].content.readany()
    assert asyncio.get_running_loop().time() - began < 5
    await until(lambda: rig.broken == 1)
    assert rig.guard.aborted == 1
    assert await rig.get(session, peer) == (503, "certificate-revoked", "close")
    rig.release.set()
    assert await streams[1].content.readany() == b"data: 2\n\n"
    issue_into(peer, rig.authority, R1, generation=2)
    assert (await rig.get(session, peer))[0] == 200
    for stream in streams:
        stream.close()


async def test_a_running_stream_ends_in_peace_over_a_rotation(
    rig: Rig, session: aiohttp.ClientSession
) -> None:
    peer = rig.peer()
    url, context = f"https://127.0.0.1:{rig.port}/v2/stream", peer.client_context()
    async with session.get(url, ssl=context, server_hostname=EU.dns_name) as stream:
        assert await stream.content.readany() == b"data: 1\n\n"
        issue_into(rig.own, rig.authority, EU)
        rig.clock.shift = timedelta(days=2)  # and past the end of both certificates
        rig.release.set()
        assert await stream.content.read() == b"data: 2\n\n"
    rig.clock.shift = timedelta()
    assert await rig.get(session, peer) == (200, "", "close"), "made with the older certificate"
    assert await rig.get(session, peer) == (200, "", ""), "and this one with the newer"


async def test_a_new_root_asks_for_new_connections(
    rig: Rig, session: aiohttp.ClientSession
) -> None:
    peer = rig.peer()
    await rig.get(session, peer)
    rig.authority.add_root()
    rig.own.keep_trust(trust_of(rig.authority, 2))
    assert await rig.get(session, peer) == (200, "", "close")


async def test_a_refusal_precedes_the_body(rig: Rig) -> None:
    peer = rig.peer(CLUSTER)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", rig.port, ssl=peer.client_context(), server_hostname=EU.dns_name
    )
    writer.write(b"POST /v2/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n")
    writer.write(b"Content-Length: 9\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 403")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_reversed_connections_are_checked_alike(rig: Rig) -> None:
    """We dialled; the peer is the TLS server, and the HTTP client."""
    router = credentials_for(rig.authority, ROUTER, "r1", life=timedelta(hours=1))
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted.put((reader, writer))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=router.server_context())
    port = listener.sockets[0].getsockname()[1]
    assert rig.runner.server
    await asyncio.get_running_loop().create_connection(
        rig.runner.server,
        "127.0.0.1",
        port,
        ssl=rig.own.client_context(),
        server_hostname=R1.dns_name,
    )
    reader, writer = await accepted.get()
    request = b"GET /v2/x HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" not in head
    assert await reader.readexactly(2) == b"r1"
    rig.own.keep_trust(trust_of(rig.authority, 2, revoked=(Revocation(uri=R1.uri, below=2),)))
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    listener.close()
    await listener.wait_closed()


async def test_without_tls_nobody_is_anybody(rig: Rig) -> None:
    runner = make_runner(make_application(lambda _: Response(), guard=rig.guard))  # type: ignore[arg-type,return-value]
    _, port = await listen(runner, "127.0.0.1:0")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/v2/x") as answer,
    ):
        assert answer.status == 401
    await runner.cleanup()


async def test_a_guard_before_joining_admits_nobody(rig: Rig) -> None:
    empty = PeerGuard(Credentials(None), ROUTER, rig.clock)
    assert empty.refused == 0
    with pytest.raises(Unauthenticated):
        empty.admit(FakeRequest())  # type: ignore[arg-type]
    assert empty.refused == 1


class FakeRequest:
    raw_path = "/"

    class Connection:
        transport = QuietTransport()
        on_lost: list[object] = []  # noqa: RUF012

    connection = Connection()


async def test_who_does_not_shake_hands_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.relay.server.HANDSHAKE_S", 0.2)
    own = credentials_for(make_authority(tmp_path), CLUSTER, "eu")
    runner = make_runner(web.Application())
    _, port = await listen(runner, "127.0.0.1:0", own.server_context())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()
    await runner.cleanup()


async def test_some_paths_are_for_peers_of_another_role(
    rig: Rig, session: aiohttp.ClientSession
) -> None:
    guard = PeerGuard(rig.own, ROUTER, rig.clock, paths={"/shared/": CLUSTER})

    async def handle(request: Request) -> StreamResponse:
        return Response(text=guard.peer(request).id.name)

    runner = make_runner(make_application(handle, guard=guard))
    _, rig.port = await listen(runner, "127.0.0.1:0", rig.own.server_context())
    try:
        for role, shared, other in ((CLUSTER, 200, 403), (ROUTER, 403, 200)):
            peer = rig.peer(role)
            # On one connection as long as nothing is refused: what was allowed before says nothing.
            for path, status in (
                ("/shared/x", shared),
                ("/v2/x", other),
                ("/shared", other),
                ("/Shared/x", other),
                ("/shared/x", shared),
                ("/v2/x", other),
            ):
                assert (await rig.get(session, peer, path))[0] == status, (role, path)
    finally:
        await runner.cleanup()
