import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from edge_agent.policy.reversing import Stock, Supply
from edge_agent.reverse_line import Connection, Line
from federation.contract.errors import PermissionDenied
from federation.contract.spiffe import PeerId, PeerRole
from federation.relay.http1.server import ServerConnection
from federation.relay.reversal import GOODBYE
from federation.trust.credentials import Leaf
from federation.trust.keys import Facts
from federation.trust.peers import Peer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROUTER = Peer(id=PeerId("fed.test", PeerRole.ROUTER, "r1"), generation=1, not_after=NOW)


def leaf() -> Leaf:
    facts = Facts(
        id=PeerId("fed.test", PeerRole.CLUSTER, "eu-1"),
        generation=1,
        not_before=NOW,
        not_after=NOW + timedelta(days=1),
    )
    return Leaf(certificate="", key="", facts=facts)


class Transport(asyncio.Transport):
    """Remembers what was done to it."""

    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


class Inner:
    """Aiohttp's server protocol, as far as the wrapper uses it."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.heard.append(name)


class Bench:
    """A line whose time stands still, and connections without sockets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.kicks = 0
        self.forgotten: list[Connection] = []
        self.leaf = leaf()
        self.transports: dict[Connection, Transport] = {}
        self.inner: dict[Connection, Inner] = {}
        self.line = Line(
            name="r1",
            address="router:7402",
            supply=Supply(dice=random.Random(1)),
            now=lambda: self.now_s,
            kick=self._kick,
        )

    def _kick(self) -> None:
        self.kicks += 1

    def open(self, *, refused: str = "") -> Connection:
        def admit(_: asyncio.Transport) -> Peer:
            if refused:
                raise PermissionDenied(refused)
            return ROUTER

        inner, transport = Inner(), Transport()
        handler = cast(ServerConnection, inner)
        one = Connection(self.line, handler, self.leaf, admit=admit, forget=self.forgotten.append)
        self.transports[one], self.inner[one] = transport, inner
        one.connection_made(transport)
        return one

    def stock(self) -> Stock:
        return self.line.stock()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_connection_is_idle_busy_and_idle_again(bench: Bench) -> None:
    one = bench.open()
    assert bench.stock() == Stock(idle=1)
    bench.line.began(one, 0)
    assert bench.stock() == Stock(busy=1)
    assert bench.kicks == 1  # fewer than the least are idle
    bench.line.ended(one)
    assert bench.stock() == Stock(idle=1)
    assert "Connection(r1, idle)" in repr(one)
    assert "router:7402" in repr(bench.line)


def test_what_the_transport_tells_reaches_the_server(bench: Bench) -> None:
    one = bench.open()
    one.data_received(b"x")
    one.pause_writing()
    one.resume_writing()
    one.eof_received()
    one.connection_lost(None)
    assert bench.inner[one].heard == [
        "connection_made",
        "data_received",
        "pause_writing",
        "resume_writing",
        "eof_received",
        "connection_lost",
    ]
    assert bench.forgotten == [one]
    assert bench.stock() == Stock()


def test_a_stranger_is_cut_off_and_nothing_of_it_is_heard(bench: Bench) -> None:
    one = bench.open(refused="it is no router.")
    one.data_received(b"GET / HTTP/1.1\r\n\r\n")
    one.pause_writing()
    one.resume_writing()
    one.eof_received()
    one.connection_lost(None)
    assert one.problem == "it is no router."
    assert bench.transports[one].aborted
    assert bench.inner[one].heard == []
    assert bench.stock() == Stock()


def test_closed_at_once_and_unused_is_a_refusal(bench: Bench) -> None:
    one = bench.open()
    bench.now_s += 0.5
    one.connection_lost(None)
    assert bench.line.supply.failures == 1
    assert "closed the connection at once" in bench.line.problem
    served = bench.open()
    bench.line.began(served, 0)
    assert bench.line.supply.failures == 0  # it works with us after all
    served.connection_lost(None)
    long = bench.open()
    bench.now_s += 5
    long.connection_lost(None)
    assert bench.line.supply.failures == 0


def test_a_connection_that_lived_for_a_while_ends_the_doubt(bench: Bench) -> None:
    bench.line.failed("cannot connect", 99.0, refused=True)
    bench.open()
    bench.line.review(bench.leaf)
    assert bench.line.supply.failures == 1
    bench.now_s += 1.0
    bench.line.review(bench.leaf)
    assert (bench.line.supply.failures, bench.line.problem) == (0, "")


def test_a_router_that_is_reached_again_is_told(bench: Bench) -> None:
    bench.line.failed("cannot connect", 99.0, refused=False)
    bench.open()
    assert bench.line.problem == ""


async def test_the_longest_idle_ones_say_goodbye(bench: Bench) -> None:
    a, b, c = (bench.open() for _ in range(3))
    bench.line.began(a, 0)
    bench.line.ended(a)
    bench.line.give_up(2, old=False)
    assert bench.stock() == Stock(idle=1, leaving=2)
    assert [bench.transports[one].written for one in (a, b, c)] == [b"", GOODBYE, GOODBYE]
    b.connection_lost(None)
    c.connection_lost(None)
    assert bench.stock() == Stock(idle=1)
    assert bench.line.supply.failures == 0  # that was no refusal


async def test_a_request_that_crosses_the_goodbye_is_served(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.reverse_line._FAREWELL_S", 0.01)
    one, other = bench.open(), bench.open()
    bench.line.give_up(2, old=False)
    bench.line.began(one, 0)
    await asyncio.sleep(0.05)
    assert not bench.transports[one].aborted
    assert bench.transports[other].aborted  # the router did not close it
    bench.line.ended(one)
    assert bench.transports[one].written == GOODBYE * 2
    assert bench.stock().idle == 0
    for connection in (one, other):
        connection.connection_lost(None)


async def test_connections_of_an_older_certificate_become_old(bench: Bench) -> None:
    idle, busy, near = bench.open(), bench.open(), bench.open()
    bench.line.began(busy, 0)
    near.old_s = 90.0
    bench.line.review(bench.leaf)
    assert bench.stock() == Stock(idle=1, old=1, busy=1)
    newest = leaf()
    bench.line.review(newest)
    bench.line.ended(busy)
    bench.line.review(newest)
    assert bench.stock() == Stock(old=3)
    bench.line.began(idle, 0)
    assert bench.stock() == Stock(old=2, busy=1)
    bench.line.give_up(5, old=True)
    assert bench.stock() == Stock(busy=1, leaving=2)
    for one in (near, busy):
        one.connection_lost(None)


def test_a_router_at_another_address_has_only_old_connections(bench: Bench) -> None:
    bench.open()
    bench.line.replace_all("elsewhere:1")
    bench.line.review(bench.leaf)
    assert bench.stock() == Stock(old=1)
    assert bench.line.address == "elsewhere:1"


async def test_a_line_that_is_not_wanted_gives_up_what_ends(bench: Bench) -> None:
    one = bench.open()
    bench.line.began(one, 0)
    bench.line.supply.wanted = False
    bench.line.ended(one)
    assert bench.transports[one].written == GOODBYE
    one.connection_lost(None)
    lost = bench.open()
    bench.line.began(lost, 0)
    lost.connection_lost(None)
    bench.line.ended(lost)  # its request ended after it
    assert bench.stock() == Stock()


def test_a_routers_word_on_who_waits_counts_for_a_second(bench: Bench) -> None:
    one = bench.open()
    bench.line.began(one, 7)
    assert bench.stock().waiting == 7
    bench.now_s += 1.1
    assert bench.stock().waiting == 0
    bench.line.began(one, 7)
    bench.line.began(one, 0)
    assert bench.stock().waiting == 0
