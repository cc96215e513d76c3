import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge_agent.policy.reversing import StockLimits
from edge_agent.reverse import ReverseDialler, ReverseSettings
from federation.contract.spiffe import PeerRole
from federation.contract.trust import RouterAddress
from federation.identity.authority import Authority
from federation.relay.application import make_application
from federation.relay.http1.messages import Request, Response
from federation.relay.reversal import ALPN, GOODBYE
from federation.relay.server import ServerLimits
from federation.runtime.backoff import Backoff
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from tests.edge_agent.agent_rig import until
from tests.pki import credentials_for, make_authority

QUICK = StockLimits(idle=2, broken=Backoff(0.02, 0.1), refused=Backoff(0.2, 0.4))
ASK = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ByHand:
    """A router's end, held by the test."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.taken: list[Streams] = []
        self.hang_up = self.stopped = False
        self.server: asyncio.Server | None = None
        self.address = "127.0.0.1:0"
        self._context = context

    async def start(self) -> None:
        host, port = self.address.split(":")
        self.stopped = False
        self.server = await asyncio.start_server(self._take, host, int(port), ssl=self._context)
        self.address = "%s:%d" % self.server.sockets[0].getsockname()[:2]  # noqa: UP031

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken.append((reader, writer))
        if self.hang_up:
            writer.close()
        elif self.stopped:  # its handshake ended after the stop
            writer.transport.abort()

    def stop(self) -> None:
        self.stopped = True
        if self.server:
            self.server.close()
        for _, writer in self.taken:
            writer.transport.abort()

    def routers(self, name: str = "r1") -> tuple[RouterAddress, ...]:
        return (RouterAddress(name=name, reverse_address=self.address),)


@asynccontextmanager
async def router_by_hand(credentials: Credentials, *, alpn: str = ALPN) -> AsyncIterator[ByHand]:
    router = ByHand(credentials.server_context(alpn=alpn))
    await router.start()
    try:
        yield router
    finally:
        router.stop()


class Agent:
    """A dialler with an application that answers slowly."""

    def __init__(self, authority: Authority, settings: ReverseSettings | None = None) -> None:
        self.credentials = credentials_for(authority, PeerRole.CLUSTER, "eu-1")
        self.go_on = asyncio.Event()
        self.registry = CollectorRegistry()
        application = make_application(self._slow)
        self.dialler = ReverseDialler(
            application,
            credentials=self.credentials,
            clock=SystemClock(),
            dice=random.Random(1),
            settings=settings or ReverseSettings(stock=QUICK),
            registry=self.registry,
        )

    async def _slow(self, _: Request) -> Response:
        await self.go_on.wait()
        return Response(text="done")

    def metric(self, state: str) -> float | None:
        labels = {"router": "r1", "state": state}
        return self.registry.get_sample_value("fed_reverse_connections", labels)

    def dials(self, outcome: str) -> float:
        labels = {"router": "r1", "outcome": outcome}
        return self.registry.get_sample_value("fed_reverse_dials_total", labels) or 0.0


@asynccontextmanager
async def agent(
    authority: Authority, settings: ReverseSettings | None = None
) -> AsyncIterator[Agent]:
    one = Agent(authority, settings)
    await one.dialler.start()
    running = asyncio.get_running_loop().create_task(one.dialler.run())
    try:
        yield one
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await one.dialler.close(0.2)


def idle(one: Agent, count: int) -> Callable[[], bool]:
    return lambda: bool(one.dialler.lines) and one.dialler.lines[0].stock().idle == count


async def test_it_dials_serves_and_counts(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with router_by_hand(router) as by_hand, agent(authority) as one:
        one.dialler.use(by_hand.routers())
        await until(lambda: len(by_hand.taken) == 2 and idle(one, 2)())
        reader, writer = by_hand.taken[0]
        writer.write(ASK)
        await until(lambda: one.metric("busy") == 1.0 and one.metric("idle") == 2.0)
        one.go_on.set()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await until(idle(one, 3))
        assert one.dials("connected") == 3
        assert "r1 at 127.0.0.1" in repr(one.dialler)


async def test_idle_connections_outlive_the_servers_patience(tmp_path: Path) -> None:
    """The server would close what is idle for `keepalive_s`; the default keeps it for good."""
    assert ReverseSettings().server.keepalive_s > 10 * 86400
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    impatient = ReverseSettings(stock=QUICK, server=ServerLimits(keepalive_s=0.2))
    async with router_by_hand(router) as by_hand, agent(authority, impatient) as one:
        one.dialler.use(by_hand.routers())
        await until(lambda: len(by_hand.taken) > 2)  # this is what would happen


async def test_a_far_end_that_is_not_this_router_is_not_served(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    other = credentials_for(authority, PeerRole.ROUTER, "r2")
    cluster = credentials_for(authority, PeerRole.CLUSTER, "r1")
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    stranger = credentials_for(make_authority(tmp_path / "x"), PeerRole.ROUTER, "r1")
    for credentials, alpn, why in (
        (other, ALPN, "CERTIFICATE_VERIFY_FAILED"),
        (cluster, ALPN, "CERTIFICATE_VERIFY_FAILED"),
        (stranger, ALPN, "TLS fails"),
        (router, "h2", "does not speak"),
    ):
        async with (
            router_by_hand(credentials, alpn=alpn) as by_hand,
            agent(authority) as one,
        ):
            one.dialler.use(by_hand.routers())
            await until(lambda one=one, why=why: why in repr(one.dialler))  # type: ignore[misc]
            assert one.dialler.lines[0].stock().idle == 0
            assert one.dials("refused") >= 1


async def test_a_router_that_hangs_up_at_once_is_not_stormed(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with router_by_hand(router) as by_hand, agent(authority) as one:
        by_hand.hang_up = True
        one.dialler.use(by_hand.routers())
        await until(lambda: "closed the connection at once" in repr(one.dialler))
        await asyncio.sleep(1.0)
        assert len(by_hand.taken) <= 2 + 1.0 / (0.2 * 0.25) / 2
        by_hand.hang_up = False
        await until(idle(one, 2))


async def test_a_router_that_is_away_is_tried_until_it_is_back(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with router_by_hand(router) as by_hand, agent(authority) as one:
        one.dialler.use(by_hand.routers())
        await until(lambda: len(by_hand.taken) == 2 and idle(one, 2)())
        by_hand.stop()
        await until(lambda: one.dials("failed") >= 3)
        assert "connection refused" in repr(one.dialler)
        await by_hand.start()
        await until(idle(one, 2))
        assert one.dialler.lines[0].problem == ""


async def test_it_dials_through_what_stands_in_between(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with router_by_hand(router) as by_hand:
        settings = ReverseSettings(stock=QUICK, connect_to={"router.example:7402": by_hand.address})
        async with agent(authority, settings) as one:
            advertised = RouterAddress(name="r1", reverse_address="router.example:7402")
            one.dialler.use((advertised,))
            await until(idle(one, 2))
            one.dialler.use((RouterAddress(name="r1", reverse_address="nonsense"),))
            await until(lambda: "'nonsense' is not an address" in repr(one.dialler))
            assert one.dialler.lines[0].stock().old == 2  # still in use: nothing replaces them


async def test_a_router_that_moved_is_followed(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with (
        router_by_hand(router) as before,
        router_by_hand(router) as after,
        agent(authority) as one,
    ):
        one.dialler.use(before.routers())
        await until(idle(one, 2))
        one.dialler.use(after.routers())
        await until(lambda: len(after.taken) == 2)
        for reader, writer in before.taken:
            assert await reader.readexactly(len(GOODBYE)) == GOODBYE
            writer.close()
        await until(lambda: one.dialler.lines[0].stock().total == 2)


async def test_connections_are_replaced_before_the_routers_certificate_ends(
    tmp_path: Path,
) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1", life=timedelta(seconds=8))
    async with router_by_hand(router) as by_hand, agent(authority) as one:
        one.dialler.use(by_hand.routers())
        await until(lambda: len(by_hand.taken) == 2)
        await until(lambda: len(by_hand.taken) >= 4)  # after about three quarters of it
        assert await by_hand.taken[0][0].readexactly(len(GOODBYE)) == GOODBYE


async def test_before_joining_nothing_is_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.reverse._REVIEW_S", 60.0)
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with router_by_hand(router) as by_hand, agent(authority) as one:
        leaf, one.credentials.leaf = one.credentials.leaf, None
        one.dialler.use(by_hand.routers())
        await until(lambda: "has not joined" in repr(one.dialler))
        assert not by_hand.taken
        assert leaf is not None
        one.credentials.install(leaf.certificate, leaf.key)
        await until(idle(one, 2), 10.0)  # at once, not after the wait


async def test_closing_lets_requests_end_in_their_time(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with router_by_hand(router) as by_hand, agent(authority) as one:
        one.dialler.use(by_hand.routers())
        await until(lambda: len(by_hand.taken) == 2 and idle(one, 2)())
        reader, writer = by_hand.taken[0]
        writer.write(ASK)
        await until(lambda: one.metric("busy") == 1.0)
        closing = asyncio.get_running_loop().create_task(one.dialler.close(5.0))
        for other, its_writer in by_hand.taken[1:]:
            assert await other.readexactly(len(GOODBYE)) == GOODBYE
            its_writer.close()
        assert not closing.done()
        one.go_on.set()
        assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(len(GOODBYE)) == GOODBYE
        writer.close()
        async with asyncio.timeout(10):
            await closing
        assert one.credentials.on_change == []


async def test_closing_ends_what_does_not_end(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with router_by_hand(router) as by_hand, agent(authority) as one:
        one.dialler.use(by_hand.routers())
        await until(lambda: len(by_hand.taken) == 2 and idle(one, 2)())
        reader, writer = by_hand.taken[0]
        writer.write(ASK)
        await until(lambda: one.metric("busy") == 1.0)
        async with asyncio.timeout(5):
            await one.dialler.close(0.1)
            assert b"200" not in await reader.read()


async def test_a_router_of_several_processes_has_a_line_for_each(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    async with (
        router_by_hand(router) as first,
        router_by_hand(router) as second,
        agent(authority) as one,
    ):
        addresses = [r.reverse_address for by in (first, second) for r in by.routers()]
        one.dialler.use([RouterAddress(name="r1", reverse_address=",".join(addresses))])
        await until(lambda: len(first.taken) == 2 and len(second.taken) == 2)
        await until(lambda: all(line.stock().idle == 2 for line in one.dialler.lines))
        assert [line.address for line in one.dialler.lines] == addresses
        assert one.metric("idle") == 4.0  # one sample for the router
        one.dialler.use(first.routers())
        await until(lambda: one.metric("idle") == 2.0)
        assert len(one.dialler.lines) == 1
