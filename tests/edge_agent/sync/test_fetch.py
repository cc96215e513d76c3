"""One run by one thread: where it goes on, when it gives up, whose fault it was."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.policy.ranges import Part
from edge_agent.sync.cancel import Cancel, Cancelled
from edge_agent.sync.connection import Connections, Patience
from edge_agent.sync.fetch import Account, Fetch, Means, PutFailed, Refused
from edge_agent.sync.sites import parse_url
from edge_agent.sync.throttle import Held, Throttle
from federation.chunking.encoding import encode
from federation.contract.errors import Conflict, Invalid, Unavailable
from federation.contract.locations import Place, places_of
from federation.contract.sync import SyncSpec
from federation.contract.types import Urgency
from federation.runtime.backoff import Backoff
from federation.runtime.clock import SystemClock
from federation.trust.credentials import Credentials
from tests.edge_agent.sync.store import Ask, Package, Store, make_package, serving

KIB = 1 << 10


@pytest.fixture
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture
def means() -> Iterator[Means]:
    connections = Connections(Credentials(None), SystemClock())
    yield Means(
        connections=connections,
        patience=Patience(connect_s=1, read_s=1),
        tries=3,
        dice=random.Random(1),
        passing=(503,),
        backoff=Backoff(first_s=0.01, cap_s=0.02),
    )
    connections.close()


def account(cancel: Cancel | None = None) -> Account:
    return Account(Throttle(SyncSpec()).origin, Urgency.NORMAL, cancel or Cancel())


def parts_of(package: Package) -> tuple[Part, ...]:
    return tuple(
        Part(chunk.number, chunk.digest, chunk.length, place)
        for chunk, place in zip(package.wanted, places_of(package.locations), strict=True)
    )


def fetch_of(store: Store, package: Package, own: Account | None = None) -> Fetch:
    target = parse_url(f"{store.url}{package.path}?secret")
    return Fetch(target, parts_of(package), package.put, own or account())


class Interrupted(Account):
    """Is told now and then to give its connection up."""

    asked = 0

    def permit(self) -> int:
        self.asked += 1
        if self.asked % 3 == 0:
            raise Held
        return 64 * KIB


def test_a_connection_that_was_given_up_costs_no_byte_twice(store: Store, means: Means) -> None:
    package = make_package(store, [300 * KIB] * 4)
    own = Interrupted(Throttle(SyncSpec()).origin, Urgency.NORMAL, Cancel())
    fetch_of(store, package, own).run(means)
    assert package.whole
    assert len(store.asked) > 5
    starts = [ask.first for ask in store.asked]
    assert starts == sorted(starts)
    assert own.wire_bytes < 1200 * KIB + len(store.asked) * 500


def test_progress_lets_it_fail_again_and_again(store: Store, means: Means) -> None:
    package = make_package(store, [100 * KIB] * 10)

    def one_chunk(ask: Ask) -> None:
        ask.head()
        ask.raw(ask.data[: 110 * KIB])
        ask.sock.shutdown(2)

    store.answer = one_chunk
    fetch_of(store, package).run(means)
    assert package.whole
    assert store.asked[1].first == 110 * KIB


def test_a_byte_a_time_is_no_progress(store: Store, means: Means) -> None:
    package = make_package(store, [100 * KIB])

    def one_byte(ask: Ask) -> None:
        ask.head()
        ask.raw(ask.data[:1])
        ask.sock.shutdown(2)

    store.answer = one_byte
    fetch = fetch_of(store, package)
    with pytest.raises(Unavailable, match="before all was sent") as raised:
        fetch.run(means)
    assert len(store.asked) == 3
    assert "secret" not in raised.value.message
    assert not fetch.begun
    assert len(fetch.rest) == 1


def test_a_busy_source_is_asked_again(store: Store, means: Means) -> None:
    package = make_package(store, [1000])
    busy = [503, 503]

    def sometimes(ask: Ask) -> None:
        if busy:
            ask.head(busy.pop(), Content_Length=0, Retry_After=0)
        else:
            ask.right()

    store.answer = sometimes
    fetch_of(store, package).run(means)
    assert package.whole
    assert len(store.connections) == 1


def test_a_refusal_is_told_with_its_words(store: Store, means: Means) -> None:
    package = make_package(store, [1000])

    def refuse(ask: Ask) -> None:
        ask.head(403, Content_Length=9)
        ask.raw(b"too\n late")

    store.answer = refuse
    with pytest.raises(Refused) as raised:
        fetch_of(store, package).run(means)
    assert raised.value.reason == "it answered with 403: too late"
    assert len(store.asked) == 1


def test_what_put_raises_is_not_the_sources_fault(store: Store, means: Means) -> None:
    package = make_package(store, [1000] * 3)
    closed = Conflict("closed.")

    def put(number: int, data: memoryview) -> None:
        if number == 1:
            raise closed
        package.put(number, data)

    fetch = Fetch(parse_url(f"{store.url}/packs/a"), parts_of(package), put, account())
    with pytest.raises(PutFailed) as raised:
        fetch.run(means)
    assert raised.value.error is closed
    assert [part.number for part in fetch.rest] == [1, 2]


def test_a_cancelled_fetch_asks_nobody(store: Store, means: Means) -> None:
    package = make_package(store, [1000])
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        fetch_of(store, package, account(cancel)).run(means)
    assert store.asked == []


def test_a_difference_needs_its_base(store: Store, means: Means, tmp_path: Path) -> None:
    package = make_package(store, [64 * KIB])
    (raw,) = package.chunks
    base = bytes(b ^ (n % 97 == 0) for n, b in enumerate(raw))
    stored = encode(raw, 0x82, base)
    store.objects["/packs/a"] = stored
    place = Place(0, 0, len(stored), 0x82)
    part = Part(0, package.wanted[0].digest, len(raw), place, b"b" * 32)
    target = parse_url(f"{store.url}/packs/a")
    with pytest.raises(Invalid, match="a difference to a chunk that is not here"):
        Fetch(target, (part,), package.put, account()).run(means)
    with pytest.raises(Invalid, match="not the one in the manifest"):
        Fetch(target, (part,), package.put, account(), lambda _: bytes(len(raw))).run(means)
    Fetch(target, (part,), package.put, account(), {b"b" * 32: base}.get).run(means)
    assert package.whole
