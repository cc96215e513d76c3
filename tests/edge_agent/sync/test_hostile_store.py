"""A store and a peer that lie: nothing wrong is put, little is read, and the error names them."""

import asyncio
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from edge_agent.sync.connection import Patience
from edge_agent.sync.offers import PeerOutcome, PeerRequest
from edge_agent.sync.throttle import Throttle
from edge_agent.sync.transfer import Transfers
from federation.contract.errors import FederationError, Invalid, Unavailable
from federation.contract.locations import Locations, Place, pack_places
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncSpec
from federation.contract.types import Urgency
from federation.trust.credentials import Credentials
from tests.edge_agent.sync.store import Ask, Package, Store, make_package, serving
from tests.pki import credentials_for, make_authority

CHUNK, COUNT = 64 << 10, 8
PATIENCE = Patience(connect_s=2.0, read_s=0.4, window_s=0.3, min_bytes_per_s=4096.0)
HEADS = 4 * (16 << 10)  # what heads may add, with all retries


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return credentials_for(make_authority(tmp_path_factory.mktemp("pki")), PeerRole.CLUSTER, "c")


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


def flipped(ask: Ask) -> None:
    data = bytearray(ask.data)
    data[3 * CHUNK + 17] ^= 1
    ask.head()
    ask.raw(bytes(data))


def zeros(ask: Ask) -> None:
    ask.head()
    ask.raw(bytes(ask.count))


def short(ask: Ask) -> None:
    ask.head()
    ask.raw(ask.data[: CHUNK // 2 if len(ask.store.asked) == 1 else 0])
    ask.sock.shutdown(2)


def endless(ask: Ask) -> None:
    ask.head()
    ask.raw(ask.data)
    while not ask.store.stopped.is_set():
        ask.raw(bytes(64 << 10))


def long_length(ask: Ask) -> None:
    ask.head(Content_Length=1 << 40)
    while not ask.store.stopped.is_set():
        ask.raw(bytes(64 << 10))


def dripping(ask: Ask) -> None:
    ask.head()
    while not ask.store.stopped.wait(0.05):
        ask.raw(b"x")


def dripping_head(ask: Ask) -> None:
    while not ask.store.stopped.wait(0.05):
        ask.raw(b"H")


def silent(ask: Ask) -> None:
    ask.store.stopped.wait(20)


def huge_head(ask: Ask) -> None:
    ask.raw(b"HTTP/1.1 206 Told\r\n")
    while not ask.store.stopped.is_set():
        ask.raw(b"X-Filler: " + b"y" * 4000 + b"\r\n")


def whole_object(ask: Ask) -> None:
    ask.head(200, Content_Length=1 << 40)
    while not ask.store.stopped.is_set():
        ask.raw(bytes(64 << 10))


def other_range(ask: Ask) -> None:
    ask.head(Content_Range=f"bytes 0-{ask.count}/{ask.count + 1}")
    ask.raw(ask.data)


def beyond_the_end(ask: Ask) -> None:
    ask.head(Content_Range=f"bytes {ask.first}-{ask.first + ask.count - 1}/5")
    ask.raw(ask.data)


def no_range(ask: Ask) -> None:
    ask.raw(b"HTTP/1.1 206 Told\r\nContent-Length: %d\r\n\r\n" % ask.count + ask.data)


def gzipped(ask: Ask) -> None:
    ask.head(Content_Encoding="gzip")
    ask.raw(ask.data)


def chunked(ask: Ask) -> None:
    ask.head(Transfer_Encoding="chunked")
    ask.raw(b"fffffff\r\n" + ask.data)


def two_lengths(ask: Ask) -> None:
    ask.raw(
        b"HTTP/1.1 206 Told\r\nContent-Length: 5\r\nContent-Length: %d\r\n\r\n" % ask.count
        + ask.data
    )


def redirect(ask: Ask) -> None:
    ask.head(307, Location="http://127.0.0.1:1/other", Content_Length=0)


def garbage(ask: Ask) -> None:
    ask.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n" + bytes(1 << 16))


def early_hints(ask: Ask) -> None:
    while not ask.store.stopped.is_set():
        ask.raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")


LIES: dict[Callable[[Ask], None], tuple[type[FederationError], str]] = {
    flipped: (Invalid, "chunk 3 that it sent is not the one in the manifest"),
    zeros: (Invalid, "chunk 0 that it sent is not the one in the manifest"),
    short: (Unavailable, "closed the connection before all was sent"),
    long_length: (Invalid, "its answer has 1099511627776 bytes; 524288 were asked for"),
    dripping: (Unavailable, "bytes a second, less than 4096"),
    dripping_head: (Unavailable, "bytes a second, less than 4096"),
    silent: (Unavailable, "sent nothing for 0.4 s"),
    huge_head: (Invalid, "head of its answer is longer than 16384"),
    whole_object: (Invalid, "it ignores ranges"),
    other_range: (Invalid, "its answer is of the range"),
    beyond_the_end: (Invalid, "beyond its own end"),
    no_range: (Invalid, "its answer is of the range ''"),
    gzipped: (Invalid, "encoded the bytes as 'gzip', unasked"),
    chunked: (Invalid, "transfer encoding"),
    two_lengths: (Invalid, "two headers content-length"),
    redirect: (Invalid, "307, a redirect"),
    garbage: (Invalid, "not HTTP/1.1"),
    early_hints: (Invalid, "not HTTP/1.1"),
}


async def bring(agent: Credentials, store: Store, package: Package) -> Throttle:
    throttle = Throttle(SyncSpec())
    transfers = Transfers(agent, throttle, url=store.url, patience=PATIENCE)
    try:
        await transfers.from_origin(package.wanted, package.offer(), package.put, Urgency.NORMAL)
    except FederationError as error:
        error.add_note(str(throttle.origin.total_bytes))
        raise
    finally:
        await transfers.close()
    return throttle


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_a_lie_is_told_and_costs_little(
    agent: Credentials, store: Store, lie: Callable[[Ask], None]
) -> None:
    package = make_package(store, [CHUNK] * COUNT)
    store.answer = lie
    kind, told = LIES[lie]
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(kind) as raised:
            await bring(agent, store, package)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert told in raised.value.message
    assert raised.value.message.startswith(f"{store.url}/packs/a: ")
    assert all(package.chunks[n] == data for n, data in package.put_chunks.items())
    assert int(raised.value.__notes__[0]) <= CHUNK * COUNT + CHUNK + HEADS
    assert time.monotonic() - started < 12


async def test_bytes_after_the_range_are_never_taken_for_an_answer(
    agent: Credentials, store: Store
) -> None:
    package = make_package(store, [CHUNK] * COUNT)
    store.answer = endless
    throttle = await bring(agent, store, package)
    assert package.whole
    assert throttle.origin.total_bytes <= CHUNK * COUNT + HEADS
    package.put_chunks.clear()
    transfers = Transfers(agent, throttle, url=store.url, patience=PATIENCE)
    try:
        for chunk in package.wanted[:3]:
            await asyncio.sleep(0.05)  # what came too much is here: an idle connection shows it
            await transfers.from_origin([chunk], package.offer(), package.put, Urgency.NORMAL)
    finally:
        await transfers.close()
    assert len(package.put_chunks) == 3
    assert len(store.connections) == 4  # none was used again


@pytest.mark.parametrize("claimed", [COUNT * CHUNK, 4 << 30])
async def test_a_zstd_bomb_takes_no_more_than_the_chunk(
    agent: Credentials, store: Store, claimed: int
) -> None:
    package = make_package(store, [CHUNK])
    # A frame of 16 MiB of zeros, or one whose head claims 4 GiB.
    bomb = zstd_zeros(16 << 20) if claimed < 1 << 30 else huge_claim()
    store.objects["/packs/a"] = bomb
    package.locations = Locations(
        packs=package.locations.packs, places=pack_places([Place(0, 0, len(bomb), 1)])
    )
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match="packs/a: a stored chunk"):
            await bring(agent, store, package)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert package.put_chunks == {}


def zstd_zeros(size: int) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(bytes(size))


def huge_claim() -> bytes:
    magic, descriptor = b"\x28\xb5\x2f\xfd", b"\xe0"  # single segment, 8 bytes of content size
    return magic + descriptor + (4 << 30).to_bytes(8, "little") + b"\x01\x00\x00"


async def test_locations_that_cannot_be_are_refused_before_anything_is_asked(
    agent: Credentials, store: Store
) -> None:
    package = make_package(store, [CHUNK])
    package.locations = Locations(
        packs=package.locations.packs, places=pack_places([Place(0, 0, 1 << 31)])
    )
    with pytest.raises(Invalid, match="cannot be"):
        await bring(agent, store, package)
    assert store.asked == []


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
async def test_a_lying_peer_is_found_out(
    agent: Credentials, store: Store, lie: Callable[[Ask], None]
) -> None:
    path = f"/fed/v1/packages/{'d' * 64}/pieces/0"
    package = make_package(store, [CHUNK] * COUNT, path=path)
    store.answer = lie
    request = PeerRequest(cluster="other", url=store.url, digest="d" * 64, piece=0)
    throttle = Throttle(SyncSpec())
    transfers = Transfers(agent, throttle, url="https://none.test", peer_patience=PATIENCE)
    try:
        answer = await transfers.from_peer(request, package.wanted, package.put, Urgency.NORMAL)
    finally:
        await transfers.close()
    kind, told = LIES[lie]
    assert answer.outcome == (PeerOutcome.BAD if kind is Invalid else PeerOutcome.UNREACHABLE)
    assert told in answer.reason
    assert "cluster other" in answer.reason
    assert answer.wire_bytes <= CHUNK * COUNT + CHUNK + HEADS
    assert throttle.peers.total_bytes == answer.wire_bytes
    assert throttle.origin.total_bytes == 0
