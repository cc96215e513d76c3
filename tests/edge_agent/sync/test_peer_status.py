"""The status of a package on its way between clusters, and answers that are none."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.policy.swarm_members import PeerStatus
from edge_agent.sync.peer_status import PeerStatuses, decode_status, encode_status
from federation.contract.errors import PermissionDenied, Unavailable
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncPeer
from federation.identity.authority import Authority
from tests.edge_agent.sync.store import Ask, Store, serving
from tests.pki import credentials_for, make_authority

DIGEST = "ab" * 32
STATUS = PeerStatus(have=b"\x05", fetching=b"\x02", age_s=1.5, able=False, received_bytes=7)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def store(authority: Authority) -> Iterator[Store]:
    with serving(credentials_for(authority, PeerRole.CLUSTER, "b")) as store:
        yield store


def test_there_and_back() -> None:
    assert decode_status(encode_status(STATUS)) == STATUS
    later = encode_status(STATUS)[:-1] + b',"of_a_newer_one":1}'
    assert decode_status(later) == STATUS
    assert decode_status(b'{"have":"AA=="}').origin_rate == 0  # of an older one


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"have":"?"}',
        b'{"have":"AA==","age_s":-1}',
        b'{"have":"AA==","origin_rate":-1}',
        b"\xff",
    ],
)
def test_what_is_no_status_is_refused(data: bytes) -> None:
    with pytest.raises(Unavailable):
        decode_status(data)


async def ask(authority: Authority, store: Store, name: str = "b") -> PeerStatus | None:
    statuses = PeerStatuses(credentials_for(authority, PeerRole.CLUSTER, "a"), ask_s=1.0)
    try:
        return await statuses.ask(SyncPeer(cluster=name, url=store.url + "/"), DIGEST)
    finally:
        await statuses.close()
        for sock in store.connections:  # asyncio would wait for the farewell of a silent server
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        await asyncio.sleep(0.05)


def body(data: bytes, status: int = 200) -> object:
    def answer(request: Ask) -> None:
        request.head(status, Content_Length=len(data))
        request.raw(data)

    return answer


async def test_it_is_asked_over_mutual_tls(authority: Authority, store: Store) -> None:
    store.answer = body(encode_status(STATUS))  # type: ignore[assignment]
    assert await ask(authority, store) == STATUS
    assert store.asked[0].target == f"/fed/v1/packages/{DIGEST}"


async def test_a_peer_that_knows_nothing_of_it(authority: Authority, store: Store) -> None:
    store.answer = body(b"{}", 404)  # type: ignore[assignment]
    assert await ask(authority, store) is None


async def test_a_peer_that_does_not_know_us(authority: Authority, store: Store) -> None:
    store.answer = body(b"{}", 403)  # type: ignore[assignment]
    with pytest.raises(PermissionDenied, match="cluster b"):
        await ask(authority, store)


@pytest.mark.parametrize("status", [204, 302, 500, 503])
async def test_another_answer(authority: Authority, store: Store, status: int) -> None:
    store.answer = body(b"", status)  # type: ignore[assignment]
    with pytest.raises(Unavailable, match=f"cluster b: it answered with {status}"):
        await ask(authority, store)


async def test_an_answer_without_end(authority: Authority, store: Store) -> None:
    def endless(request: Ask) -> None:
        request.head(200, Content_Length=1 << 40)
        while not store.stopped.is_set():
            request.raw(bytes(1 << 20))

    store.answer = endless
    with pytest.raises(Unavailable):
        await ask(authority, store)
    assert store.sent_bytes < 64 << 20


async def test_silence(authority: Authority, store: Store) -> None:
    store.answer = lambda _: store.stopped.wait(5)  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="cluster b"):
        await ask(authority, store)


async def test_somebody_else(authority: Authority, store: Store, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cluster c"):
        await ask(authority, store, "c")
    with pytest.raises(Unavailable):
        await ask(make_authority(tmp_path), store)
