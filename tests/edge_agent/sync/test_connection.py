"""Connections: whom they trust, how they are kept, and how a thread gets away from one."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.sync.cancel import Cancel
from edge_agent.sync.connection import Connections, Patience
from edge_agent.sync.sites import Target, parse_url
from federation.contract.errors import Invalid, Unauthenticated, Unavailable
from federation.contract.spiffe import PeerId, PeerRole
from federation.identity.authority import Authority
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from tests.edge_agent.sync.store import Ask, Store, serving
from tests.pki import TRUST_DOMAIN, credentials_for, issue_into, make_authority

PATIENCE = Patience(connect_s=0.5, read_s=5.0)
NAME = f"control-plane.{TRUST_DOMAIN}"


class Free:
    """A meter that never makes anybody wait."""

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.permits = 0

    def permit(self) -> int:
        self.permits += 1
        return 64 << 10

    def pay(self, count: int) -> None:
        self.paid.append(count)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def agent(authority: Authority) -> Credentials:
    return credentials_for(authority, PeerRole.CLUSTER, "c")


@pytest.fixture
def store(authority: Authority) -> Iterator[Store]:
    with serving(credentials_for(authority, PeerRole.CONTROL_PLANE, "main")) as store:
        store.objects["/a"] = bytes(range(256)) * 1024
        yield store


@pytest.fixture
def connections(agent: Credentials) -> Iterator[Connections]:
    connections = Connections(agent, SystemClock())
    yield connections
    connections.close()


def ours(store: Store, path: str = "/a") -> Target:
    return parse_url(store.url + path, ours=True, name=NAME)


def get(
    connections: Connections, target: Target, first: int = 0, count: int = 1000, read: int = 1000
) -> bytes:
    meter = Free()
    with connections.use(target.site, PATIENCE, None, Cancel()) as connection:
        head = connection.get(target, (first, count), meter)
        assert head.status == 206
        data = bytearray(read)
        filled = 0
        while filled < read:
            filled += connection.read_into(memoryview(data)[filled:], meter)
    if read == count:
        assert sum(meter.paid) >= count
    return bytes(data)


def test_a_connection_is_used_again_after_a_whole_answer(
    connections: Connections, store: Store
) -> None:
    for _ in range(3):
        assert get(connections, ours(store), 256, 1000) == (bytes(range(256)) * 5)[:1000]
    assert len(store.connections) == 1


def test_a_connection_with_a_rest_on_it_is_not(connections: Connections, store: Store) -> None:
    get(connections, ours(store), 0, 2000, read=1000)
    get(connections, ours(store))
    assert len(store.connections) == 2


def test_a_connection_that_the_server_closed_is_not(connections: Connections, store: Store) -> None:
    get(connections, ours(store))
    socket.socket.shutdown(store.connections[0], socket.SHUT_RDWR)
    time.sleep(0.05)
    get(connections, ours(store))
    assert len(store.connections) == 2


def test_new_credentials_make_new_connections(
    connections: Connections, store: Store, agent: Credentials, authority: Authority
) -> None:
    get(connections, ours(store))
    issue_into(agent, authority, PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "c"), generation=2)
    get(connections, ours(store))
    assert len(store.connections) == 2


def test_more_bytes_than_the_length_says_are_an_error(
    connections: Connections, store: Store
) -> None:
    head = b"HTTP/1.1 206 Told\r\nContent-Length: 3\r\n\r\n"
    store.answer = lambda ask: ask.raw(head + b"four" + head)
    with pytest.raises(Invalid, match="more came than"):
        get(connections, ours(store), 0, 3, 3)


def test_all_bytes_are_paid_for_and_permits_are_asked_per_read(
    connections: Connections, store: Store
) -> None:
    meter, target, count = Free(), ours(store), 256 << 10
    with connections.use(target.site, PATIENCE, None, Cancel()) as connection:
        connection.get(target, (0, count), meter)
        view = memoryview(bytearray(count))
        while len(view):
            view = view[connection.read_into(view, meter) :]
    assert count < sum(meter.paid) < count * 1.03 + 5000
    assert 4 <= meter.permits <= 6


def test_one_call_reads_all_records_that_its_permit_allows(
    connections: Connections, store: Store
) -> None:
    meter, target, count = Free(), ours(store), 256 << 10
    with connections.use(target.site, PATIENCE, None, Cancel()) as connection:
        connection.get(target, (0, count), meter)
        view, reads = memoryview(bytearray(count)), 0
        while len(view):
            view, reads = view[connection.read_into(view, meter) :], reads + 1
    assert reads <= 8  # a record of TLS has 16 KiB


def test_what_came_before_a_cut_is_given_out_and_then_the_cut_is_told(
    connections: Connections, store: Store
) -> None:
    def cut(ask: Ask) -> None:
        ask.head()
        ask.raw(ask.data[: 40 << 10])
        ask.sock.shutdown(socket.SHUT_RDWR)

    store.answer = cut
    meter, target, data = Free(), ours(store), bytearray(64 << 10)
    with (
        pytest.raises(Unavailable, match=r"closed the connection|was cut|connection broke"),
        connections.use(target.site, PATIENCE, None, Cancel()) as connection,
    ):
        connection.get(target, (0, len(data)), meter)
        filled = 0
        while True:
            filled += connection.read_into(memoryview(data)[filled:], meter)
    assert filled == 40 << 10
    assert bytes(data[:filled]) == (bytes(range(256)) * 256)[:filled]
    assert sum(meter.paid) > filled


@pytest.mark.parametrize("name", [f"other.cluster.{TRUST_DOMAIN}", "127.0.0.2"])
def test_a_server_with_another_name_is_not_believed(
    connections: Connections, store: Store, name: str
) -> None:
    target = parse_url(f"{store.url}/a", ours=True, name=name)
    with pytest.raises(Unauthenticated, match=f"did not prove to be {name}"):
        get(connections, target)
    assert store.asked == []


def test_a_server_of_another_authority_is_not_believed(
    connections: Connections, tmp_path: Path
) -> None:
    own = credentials_for(make_authority(tmp_path), PeerRole.CONTROL_PLANE, "main")
    with serving(own) as store:
        store.objects["/a"] = b"x"
        with pytest.raises(Unauthenticated):
            get(connections, ours(store), 0, 1, 1)


def test_a_foreign_server_is_checked_against_the_systems_roots(
    connections: Connections, store: Store
) -> None:
    with pytest.raises(Unauthenticated):
        get(connections, parse_url(f"{store.url}/a"))


def test_nobody_there(connections: Connections) -> None:
    with pytest.raises(Unavailable, match="no connection could be made: Connection refused"):
        get(connections, parse_url("http://127.0.0.1:1/a"))
    with pytest.raises(Unavailable, match="is not known"):
        get(connections, parse_url("https://no-such-host.invalid/a"))


def test_a_server_that_does_not_finish_the_handshake(connections: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = parse_url(f"https://127.0.0.1:{silent.getsockname()[1]}/a")
        started = time.monotonic()
        with pytest.raises(Unavailable, match=r"within 0\.5 s"):
            get(connections, target)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("when", ["handshake", "head"])
def test_cancel_gets_a_thread_away_at_once(
    connections: Connections, store: Store, when: str
) -> None:
    def stall(ask: Ask) -> None:
        ask.store.stopped.wait(10)

    store.answer = stall
    cancel, meter = Cancel(), Free()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        target = parse_url(f"https://127.0.0.1:{port}/a") if when == "handshake" else ours(store)
        slow = Patience(connect_s=30.0, read_s=30.0)
        threading.Timer(0.2, cancel.set).start()
        started = time.monotonic()
        with (
            pytest.raises(Exception),  # noqa: B017  # whichever the socket tells
            connections.use(target.site, slow, None, cancel) as connection,
        ):
            connection.get(target, (0, 10), meter)
        assert time.monotonic() - started < 5


def test_a_small_receive_buffer_is_set_before_the_connection_is_made(
    connections: Connections, store: Store
) -> None:
    target = ours(store)
    with connections.use(target.site, PATIENCE, 64 << 10, Cancel()) as connection:
        got = connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert got <= 2 * (64 << 10)  # Linux doubles it for its own books
