"""Chunks from honest sources: every byte once, on few connections, whatever is cut or expires."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.sync.connection import Patience
from edge_agent.sync.lending import Lender
from edge_agent.sync.offers import PeerOutcome, PeerRequest
from edge_agent.sync.throttle import Throttle
from edge_agent.sync.transfer import Transfers
from federation.contract.errors import Exhausted, Unavailable
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncSpec
from federation.contract.types import Urgency
from federation.identity.authority import Authority
from federation.trust.credentials import Credentials
from tests.edge_agent.sync.store import Ask, Store, make_package, serving
from tests.pki import credentials_for, make_authority

KIB = 1 << 10
QUICK = Patience(connect_s=2.0, read_s=0.5, window_s=0.5, min_bytes_per_s=1024.0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def agent(authority: Authority) -> Credentials:
    return credentials_for(authority, PeerRole.CLUSTER, "c")


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


@asynccontextmanager
async def transfers_of(
    agent: Credentials, url: str, spec: SyncSpec | None = None
) -> AsyncIterator[Transfers]:
    transfers = Transfers(
        agent, Throttle(spec or SyncSpec()), url=url, patience=QUICK, peer_patience=QUICK
    )
    try:
        yield transfers
    finally:
        await transfers.close()


async def test_chunks_come_in_coalesced_ranges_over_kept_connections(
    agent: Credentials, store: Store
) -> None:
    package = make_package(store, [700 * KIB] * 40)  # 28 MiB: 4 runs of up to 8 MiB
    async with transfers_of(agent, store.url) as transfers:
        received = await transfers.from_origin(
            package.wanted, package.offer(), package.put, Urgency.NORMAL
        )
        assert package.whole
        assert len(store.asked) == 4
        assert len(store.connections) <= 4
        assert received == store.sent_bytes
        package.put_chunks.clear()
        await transfers.from_origin(
            package.wanted[3:5], package.offer(), package.put, Urgency.NORMAL
        )
        assert (store.asked[-1].first, store.asked[-1].count) == (2100 * KIB, 1400 * KIB)
        assert len(store.connections) <= 4  # one of those from before


@pytest.mark.parametrize("code", [1, 2, 4])
async def test_encoded_chunks_are_decoded(agent: Credentials, store: Store, code: int) -> None:
    package = make_package(store, [64 * KIB, 128 * KIB], code=code)
    assert len(package.pack) < 64 * KIB
    async with transfers_of(agent, store.url) as transfers:
        await transfers.from_origin(package.wanted, package.offer(), package.put, Urgency.NORMAL)
    assert package.whole


async def test_the_control_plane_is_asked_over_mutual_tls(
    agent: Credentials, authority: Authority
) -> None:
    own = credentials_for(authority, PeerRole.CONTROL_PLANE, "main")
    with serving(own) as store:
        package = make_package(store, [300 * KIB] * 5)
        relative = replace(package.locations.packs[0], url="/packs/a?signature=x")
        package.locations = replace(package.locations, packs=(relative,))
        async with transfers_of(agent, store.url) as transfers:
            received = await transfers.from_origin(
                package.wanted, package.offer(), package.put, Urgency.NORMAL
            )
        assert package.whole
        assert store.asked[0].target == "/packs/a?signature=x"
        assert 1 < received / store.sent_bytes < 1.02  # TLS is counted


async def test_a_cut_costs_nothing_that_had_arrived(agent: Credentials, store: Store) -> None:
    package = make_package(store, [1000 * KIB] * 6)

    def cut_once(ask: Ask) -> None:
        if len(store.asked) > 1:
            ask.right()
        else:
            ask.head()
            ask.raw(ask.data[: 2500 * KIB])
            ask.sock.shutdown(2)

    store.answer = cut_once
    async with transfers_of(agent, store.url) as transfers:
        await transfers.from_origin(package.wanted, package.offer(), package.put, Urgency.NORMAL)
    assert package.whole
    assert store.asked[1].first == 2500 * KIB
    assert store.sent_bytes < 6001 * KIB


async def test_a_source_that_stays_away_is_named(agent: Credentials, store: Store) -> None:
    package = make_package(store, [1000])
    store.answer = lambda ask: ask.sock.close()
    async with transfers_of(agent, store.url) as transfers:
        with pytest.raises(Unavailable, match=r"http://127.*/packs/a: "):
            await transfers.from_origin(
                package.wanted, package.offer(), package.put, Urgency.NORMAL
            )
    assert len(store.asked) == 4


async def test_old_urls_are_refreshed_once_and_the_transfer_goes_on(
    agent: Credentials, store: Store
) -> None:
    package = make_package(store, [900 * KIB] * 30, path="/packs/a")
    source = package.locations.packs[0]
    package.locations = replace(package.locations, packs=(replace(source, url=source.url + "?1"),))
    offer = package.offer()
    fresh = replace(package.locations, packs=(replace(source, url=source.url + "?2"),))

    def expiring(ask: Ask) -> None:
        if ask.target.endswith("?1") and len(store.asked) > 2:
            package.locations = fresh
            return ask.head(403, Content_Length=0)
        return ask.right()

    store.answer = expiring
    async with transfers_of(agent, store.url) as transfers:
        await transfers.from_origin(package.wanted, offer, package.put, Urgency.NORMAL)
    assert package.whole
    assert package.loads == 1  # although several streams were refused at once


async def test_urls_that_never_become_good_end_the_transfer(
    agent: Credentials, store: Store
) -> None:
    package = make_package(store, [1000])
    store.answer = lambda ask: ask.head(403, Content_Length=0)
    async with transfers_of(agent, store.url) as transfers:
        with pytest.raises(Unavailable, match="answered with 403"):
            await transfers.from_origin(
                package.wanted, package.offer(), package.put, Urgency.NORMAL
            )
    assert package.loads == 2


async def test_what_put_raises_comes_through(agent: Credentials, store: Store) -> None:
    package = make_package(store, [1000] * 3)

    def full(number: int, data: memoryview) -> None:
        raise Exhausted("the disk is full.")

    async with transfers_of(agent, store.url) as transfers:
        with pytest.raises(Exhausted, match=r"^the disk is full\.$"):
            await transfers.from_origin(package.wanted, package.offer(), full, Urgency.NORMAL)


async def test_after_a_cancelled_transfer_nothing_is_put(agent: Credentials, store: Store) -> None:
    package = make_package(store, [100 * KIB] * 50)
    blocked = threading.Event()

    def stalls(ask: Ask) -> None:
        ask.head()
        ask.raw(ask.data[: 450 * KIB])
        blocked.set()
        store.stopped.wait(30)

    store.answer = stalls
    async with transfers_of(agent, store.url) as transfers:
        task = asyncio.ensure_future(
            transfers.from_origin(package.wanted, package.offer(), package.put, Urgency.NORMAL)
        )
        assert await asyncio.to_thread(blocked.wait, 10)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 5
        count = len(package.put_chunks)
        await asyncio.sleep(0.1)
        assert len(package.put_chunks) == count


async def test_close_ends_what_waits_for_a_window(agent: Credentials, store: Store) -> None:
    package = make_package(store, [1000])
    transfers = Transfers(agent, Throttle(), url=store.url)
    task = asyncio.ensure_future(
        transfers.from_origin(package.wanted, package.offer(), package.put, Urgency.NORMAL)
    )
    await asyncio.sleep(0.1)
    await transfers.close()
    with pytest.raises(Unavailable, match="this agent stops"):
        await task
    assert store.asked == []


async def test_all_transfers_together_take_the_memory_of_one_budget(
    agent: Credentials, store: Store
) -> None:
    budget = 3 << 20
    packages = [make_package(store, [1000 * KIB] * 12, path=f"/packs/{n}") for n in range(4)]
    lender = Lender(budget)
    transfers = Transfers(agent, Throttle(SyncSpec()), url=store.url, lender=lender)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for package in packages:
            group.create_task(
                transfers.from_origin(package.wanted, package.offer(), package.put, Urgency.NORMAL)
            )
    await transfers.close()
    assert all(package.whole for package in packages)
    assert 1000 * KIB < lender.peak_bytes <= budget


async def test_a_rollback_gets_memory_that_prefetches_have_taken(
    agent: Credentials, store: Store
) -> None:
    first = make_package(store, [1000 * KIB] * 8)
    urgent = make_package(store, [1000 * KIB], path="/packs/b")
    entered, leave = threading.Event(), threading.Event()

    def put(number: int, data: memoryview) -> None:
        entered.set()
        leave.wait(20)
        first.put(number, data)

    transfers = Transfers(agent, Throttle(SyncSpec()), url=store.url, lender=Lender(1 << 20))
    prefetch = asyncio.ensure_future(
        transfers.from_origin(first.wanted, first.offer(), put, Urgency.PREFETCH)
    )
    assert await asyncio.to_thread(entered.wait, 20)
    async with asyncio.timeout(20):
        await transfers.from_origin(urgent.wanted, urgent.offer(), urgent.put, Urgency.ROLLBACK)
    assert urgent.whole
    leave.set()
    await prefetch
    await transfers.close()


# ---------------------------------------------------------------- peers


@pytest.fixture
def peer(authority: Authority) -> Iterator[Store]:
    with serving(credentials_for(authority, PeerRole.CLUSTER, "other")) as store:
        yield store


def request_to(peer: Store, cluster: str = "other") -> PeerRequest:
    return PeerRequest(cluster=cluster, url=peer.url, digest="d" * 64, piece=7)


def stall(ask: Ask) -> None:
    ask.store.stopped.wait(10)


PIECE = f"/fed/v1/packages/{'d' * 64}/pieces/7"


async def test_a_peer_gives_the_missing_chunks_of_a_piece(agent: Credentials, peer: Store) -> None:
    package = make_package(peer, [100 * KIB] * 6, path=PIECE)
    some = [package.wanted[n] for n in (1, 2, 5)]
    async with transfers_of(agent, "https://nowhere.test") as transfers:
        answer = await transfers.from_peer(request_to(peer), some, package.put, Urgency.NORMAL)
    assert (answer.outcome, answer.reason) == (PeerOutcome.GOT, "")
    assert sorted(package.put_chunks) == [1, 2, 5]
    assert [(ask.first, ask.count) for ask in peer.asked] == [
        (100 * KIB, 200 * KIB),
        (500 * KIB, 100 * KIB),
    ]
    assert len(peer.connections) == 1
    assert answer.wire_bytes >= 300 * KIB


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (202, PeerOutcome.NOT_YET),
        (404, PeerOutcome.REFUSED),
        (403, PeerOutcome.REFUSED),
        (503, PeerOutcome.REFUSED),
        (429, PeerOutcome.REFUSED),
        (200, PeerOutcome.BAD),
        (302, PeerOutcome.BAD),
    ],
)
async def test_what_a_peers_status_means(
    agent: Credentials, peer: Store, status: int, outcome: PeerOutcome
) -> None:
    package = make_package(peer, [1000], path=PIECE)

    def refuse(ask: Ask) -> None:
        ask.head(status, Content_Length=4)
        ask.raw(b"told")

    peer.answer = refuse
    async with transfers_of(agent, "https://nowhere.test") as transfers:
        answer = await transfers.from_peer(
            request_to(peer), package.wanted, package.put, Urgency.NORMAL
        )
    assert answer.outcome == outcome
    assert answer.reason.startswith("cluster other")
    assert package.put_chunks == {}


async def test_a_peer_with_wrong_bytes_or_another_name_is_bad(
    agent: Credentials, peer: Store
) -> None:
    package = make_package(peer, [1000], path=PIECE)
    peer.objects[PIECE] = bytes(1000)
    async with transfers_of(agent, "https://nowhere.test") as transfers:
        answers = [
            await transfers.from_peer(
                request_to(peer, cluster), package.wanted, package.put, Urgency.NORMAL
            )
            for cluster in ("other", "third")
        ]
    assert [answer.outcome for answer in answers] == [PeerOutcome.BAD] * 2
    assert "third" in answers[1].reason
    assert len(peer.asked) == 1  # the other one was hung up on in the handshake
    assert package.put_chunks == {}


async def test_a_peer_that_is_gone_or_stalls_is_unreachable(
    agent: Credentials, peer: Store, tmp_path: Path
) -> None:
    package = make_package(peer, [1000], path=PIECE)
    peer.answer = stall
    async with transfers_of(agent, "https://nowhere.test") as transfers:
        stalled = await transfers.from_peer(
            request_to(peer), package.wanted, package.put, Urgency.NORMAL
        )
        gone = replace(request_to(peer), url="https://127.0.0.1:1")
        away = await transfers.from_peer(gone, package.wanted, package.put, Urgency.NORMAL)
    assert stalled.outcome == away.outcome == PeerOutcome.UNREACHABLE
    assert "sent nothing" in stalled.reason
