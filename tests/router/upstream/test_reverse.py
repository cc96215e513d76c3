import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from federation.contract.errors import Conflict, Invalid
from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Revocation
from federation.identity.authority import Authority
from federation.relay.forward import ConnectFailed, Deadlines, Forwarder, Outgoing, SentNoAnswer
from federation.relay.reversal import ALPN, GOODBYE
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from router.upstream.lending import Counts
from router.upstream.reverse import ReverseLimits, ReversePool
from tests.pki import credentials_for, make_authority, trust_of
from tests.router.fakes import eventually

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
ASKED = Outgoing(method="POST", url="https://eu-1/x", body=b"body")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Door:
    """A pool that listens, and by-hand agents that dial it."""

    def __init__(self, authority: Authority, limits: ReverseLimits | None) -> None:
        self.authority = authority
        self.credentials = credentials_for(authority, PeerRole.ROUTER, "r1")
        self.pool = ReversePool(self.credentials, clock=SystemClock(), limits=limits)
        self.address = ("", 0)
        self._writers: list[asyncio.StreamWriter] = []

    async def dial(self, credentials: Credentials, *, alpn: str = ALPN) -> Streams:
        streams = await asyncio.open_connection(
            *self.address,
            ssl=credentials.client_context(alpn=alpn),
            server_hostname="r1.router.fed.test",
        )
        self._writers.append(streams[1])
        return streams

    async def agent(self, name: str = "eu-1", *, life: timedelta | None = None) -> Streams:
        before = self.counts(name)
        credentials = credentials_for(self.authority, PeerRole.CLUSTER, name, life=life)
        streams = await self.dial(credentials)
        await eventually(lambda: self.counts(name) != before)
        return streams

    def counts(self, name: str = "eu-1") -> Counts:
        return self.pool.counts().get(name, Counts(0, 0, 0))

    async def empty(self) -> None:
        """Wait until no connection of the cluster is left."""
        await eventually(lambda: self.counts() == Counts(0, 0, 0))

    async def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        await self.pool.close()


@asynccontextmanager
async def door(tmp_path: Path, limits: ReverseLimits | None = None) -> AsyncIterator[Door]:
    one = Door(make_authority(tmp_path), limits)
    one.address = await one.pool.listen("127.0.0.1:0")
    try:
        yield one
    finally:
        await one.close()


@asynccontextmanager
async def forwarder(one: Door, name: str = "eu-1") -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(
        stock=lambda: one.pool.stock_for(name),
        deadlines=Deadlines(connect_s=0.1, first_byte_s=5),
    )
    try:
        yield forwarder
    finally:
        await forwarder.close()


async def ask(forwarder: Forwarder) -> bytes | None:
    async with forwarder.send(ASKED) as upstream:
        return await upstream.read(100)


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the far end closes, rather than sending something."""
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b""
    except (ConnectionError, ssl.SSLError):
        return True


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_requests_use_one_connection_again_and_again(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        reader, writer = await one.agent()
        assert repr(one.pool) == "ReversePool(open; eu-1: 1 idle, 0 lent)"
        for _ in range(3):
            asking = asyncio.get_running_loop().create_task(ask(to_cluster))
            assert b"x-fed-waiting" not in await head(reader)
            assert one.counts() == Counts(idle=0, lent=1, waiting=0)
            writer.write(ANSWER)
            assert await asking == b"hi"
            await reader.readexactly(4)
            assert one.counts() == Counts(idle=1, lent=0, waiting=0)


async def test_without_a_connection_nothing_is_sent(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        with pytest.raises(ConnectFailed, match="eu-1 has no connection to this router"):
            await ask(to_cluster)
        await one.agent("us-1")  # another cluster's is no help
        with pytest.raises(ConnectFailed):
            await ask(to_cluster)


async def test_an_agent_hears_how_many_wait(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        loop = asyncio.get_running_loop()
        asking = [loop.create_task(ask(to_cluster)) for _ in range(5)]
        await eventually(lambda: one.counts().waiting == 5)
        reader, writer = await one.agent()
        for left in (4, 3, 2, 1):
            assert f"x-fed-waiting: {left}".encode() in await head(reader)
            writer.write(ANSWER)
        assert b"x-fed-waiting" not in await head(reader)
        writer.write(ANSWER)
        assert await asyncio.gather(*asking) == [b"hi"] * 5


async def test_a_goodbye_on_an_idle_connection_closes_it(tmp_path: Path) -> None:
    async with door(tmp_path) as one:
        reader, writer = await one.agent()
        writer.write(GOODBYE)
        assert await ended(reader)
        assert one.counts().idle == 0


async def test_a_goodbye_that_crosses_a_request_costs_nothing(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        reader, writer = await one.agent()
        asking = asyncio.get_running_loop().create_task(ask(to_cluster))
        await head(reader)
        writer.write(GOODBYE)
        writer.write(ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert await asking == b"hi"
        await reader.readexactly(4)
        assert await ended(reader)


@pytest.mark.parametrize("after", [GOODBYE, ANSWER])
async def test_what_follows_an_answer_is_nobodys(tmp_path: Path, after: bytes) -> None:
    """A goodbye in the same bytes ends the connection; so does an answer that nobody asked for,
    which otherwise the next request would get."""
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        reader, writer = await one.agent()
        asking = asyncio.get_running_loop().create_task(ask(to_cluster))
        await head(reader)
        await reader.readexactly(4)
        writer.write(ANSWER + after)
        assert await asking == b"hi"
        assert await ended(reader)
        await one.empty()


async def test_garbage_on_an_idle_connection_breaks_it(tmp_path: Path) -> None:
    async with door(tmp_path) as one:
        reader, writer = await one.agent()
        other, _ = await one.agent()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert await ended(reader)
        await eventually(lambda: one.counts() == Counts(idle=1, lent=0, waiting=0))
        assert not other.at_eof()


async def test_an_agent_that_closes_is_forgotten(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        _, writer = await one.agent()
        writer.close()
        await eventually(lambda: one.counts() == Counts(0, 0, 0))
        reader, writer = await one.agent()
        asking = asyncio.get_running_loop().create_task(ask(to_cluster))
        await head(reader)
        writer.transport.abort()
        with pytest.raises(SentNoAnswer):
            await asking
        await one.empty()


async def test_strangers_are_refused_at_once(tmp_path: Path) -> None:
    async with door(tmp_path) as one:
        router = credentials_for(one.authority, PeerRole.ROUTER, "r2")
        cluster = credentials_for(one.authority, PeerRole.CLUSTER, "eu-1")
        elsewhere = make_authority(tmp_path / "other")
        other = credentials_for(elsewhere, PeerRole.CLUSTER, "eu-1")
        other.keep_trust(trust_of(one.authority, 2))  # it believes us, we do not believe it
        for credentials, alpn in ((router, ALPN), (other, ALPN), (cluster, ""), (cluster, "h2")):
            try:
                reader, _ = await one.dial(credentials, alpn=alpn)
                assert await ended(reader)
            except (ConnectionError, ssl.SSLError):
                pass
        nobody = ssl.create_default_context(cadata=trust_of(one.authority).bundle)
        nobody.set_alpn_protocols([ALPN])
        reader, writer = await asyncio.open_connection(
            *one.address, ssl=nobody, server_hostname="r1.router.fed.test"
        )
        assert await ended(reader)
        writer.transport.abort()
        reader, writer = await asyncio.open_connection(*one.address)  # no TLS at all
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await ended(reader)
        writer.transport.abort()
        await one.empty()
        assert one.pool.refused == 3  # those that TLS let pass
        await one.agent()


async def test_an_agent_of_this_cluster_takes_no_other_routers_certificate(tmp_path: Path) -> None:
    async with door(tmp_path) as one:
        cluster = credentials_for(one.authority, PeerRole.CLUSTER, "eu-1")
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(
                *one.address,
                ssl=cluster.client_context(alpn=ALPN),
                server_hostname="r2.router.fed.test",
            )


async def test_revoked_connections_are_broken_whatever_runs_on_them(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        busy, _ = await one.agent()
        asking = asyncio.get_running_loop().create_task(ask(to_cluster))
        await head(busy)
        idle, _ = await one.agent()
        other, _ = await one.agent("us-1")
        uri = PeerId("fed.test", PeerRole.CLUSTER, "eu-1").uri
        revoked = (Revocation(uri=uri, below=2),)
        one.credentials.keep_trust(trust_of(one.authority, 2, revoked=revoked))
        assert await ended(idle)
        with pytest.raises(SentNoAnswer):
            await asking
        await one.empty()
        assert not other.at_eof()
        again, _ = await one.dial(credentials_for(one.authority, PeerRole.CLUSTER, "eu-1"))
        assert await ended(again)
        assert one.pool.refused == 1


async def test_an_expired_certificate_gets_no_further_request(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        life = timedelta(seconds=2)  # certificates end at whole seconds
        idle, _ = await one.agent(life=life)
        reader, writer = await one.agent(life=life)
        asking = asyncio.get_running_loop().create_task(ask(to_cluster))
        await head(reader)
        assert await ended(idle)
        await eventually(lambda: one.counts() == Counts(idle=0, lent=1, waiting=0))
        writer.write(ANSWER)  # what runs may end
        assert await asking == b"hi"
        await one.empty()


async def test_a_root_that_left_takes_its_connections_along(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        busy, writer = await one.agent()
        asking = asyncio.get_running_loop().create_task(ask(to_cluster))
        await head(busy)
        idle, _ = await one.agent()
        one.authority.signing = one.authority.add_root()
        both = trust_of(one.authority, 2)
        one.credentials.keep_trust(both)
        assert one.counts().idle == 1  # a new root changes nothing
        newest = one.authority.roots[one.authority.signing].pem
        one.credentials.keep_trust(
            type(both)(version=3, trust_domain=both.trust_domain, roots=(newest,))
        )
        assert await ended(idle)
        writer.write(ANSWER)
        assert await asking == b"hi"
        await one.empty()


async def test_a_cluster_that_left_is_closed_in_peace(tmp_path: Path) -> None:
    async with door(tmp_path) as one, forwarder(one) as to_cluster:
        busy, writer = await one.agent()
        asking = asyncio.get_running_loop().create_task(ask(to_cluster))
        await head(busy)
        idle, _ = await one.agent()
        one.pool.drop("eu-1")
        one.pool.drop("never-seen")
        assert await ended(idle)
        writer.write(ANSWER)
        assert await asking == b"hi"
        await one.empty()


async def test_there_are_ceilings_for_one_cluster_and_for_all(tmp_path: Path) -> None:
    limits = ReverseLimits(per_cluster=2, total=3)
    async with door(tmp_path, limits) as one:
        for _ in range(2):
            await one.agent("eu-1")
        reader, _ = await one.dial(credentials_for(one.authority, PeerRole.CLUSTER, "eu-1"))
        assert await ended(reader)
        _, writer = await one.agent("us-1")
        reader, _ = await one.dial(credentials_for(one.authority, PeerRole.CLUSTER, "ap-1"))
        assert await ended(reader)
        writer.close()
        await eventually(lambda: one.counts("us-1").idle == 0)
        await one.agent("ap-1")
        assert one.pool.refused == 2


async def test_a_pool_says_why_it_cannot_listen(tmp_path: Path) -> None:
    async with door(tmp_path) as one:
        other = ReversePool(one.credentials, clock=SystemClock())
        with pytest.raises(Conflict, match="in use"):
            await other.listen(f"127.0.0.1:{one.address[1]}")
        for address in ("7402", "127.0.0.1:", "127.0.0.1:99999"):
            with pytest.raises(Invalid):
                await other.listen(address)
        await other.close()
        with pytest.raises(Invalid, match="has not joined"):
            await ReversePool(Credentials(None), clock=SystemClock()).listen("127.0.0.1:0")


async def test_closing_leaves_nothing_open(tmp_path: Path) -> None:
    async with door(tmp_path, ReverseLimits(farewell_s=0.2)) as one:
        readers = [(await one.agent())[0] for _ in range(3)]
        await one.pool.close()
        assert [await ended(reader) for reader in readers] == [True] * 3
        await one.pool.close()
        await one.empty()
        assert one.credentials.on_change == []
