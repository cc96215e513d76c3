"""Documents from the control plane: bounded, gated, and errors that can be read."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from edge_agent.sync import origin as module
from edge_agent.sync.origin import Origin
from edge_agent.sync.throttle import Throttle
from federation.contract.errors import Invalid, NotFound, PermissionDenied, Unavailable
from federation.contract.release import MAX_ENVELOPE_BYTES
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncSpec
from federation.contract.types import Urgency
from federation.identity.authority import Authority
from federation.trust.credentials import Credentials
from tests.edge_agent.sync.store import Ask, Store, make_package, serving
from tests.pki import credentials_for, make_authority

PATH = "/api/v1/models/m/versions/3"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def store(authority: Authority) -> Iterator[Store]:
    with serving(credentials_for(authority, PeerRole.CONTROL_PLANE, "main")) as store:
        store.answer = whole
        yield store


@pytest.fixture
def throttle() -> Throttle:
    return Throttle(SyncSpec())


@pytest.fixture
async def origin(store: Store, authority: Authority, throttle: Throttle) -> AsyncIterator[Origin]:
    agent = credentials_for(authority, PeerRole.CLUSTER, "c")
    origin = Origin(url=store.url, credentials=agent, throttle=throttle)
    yield origin
    await origin.close()
    await asyncio.sleep(0.05)  # aiohttp does not wait for the end of TLS


def whole(ask: Ask) -> None:
    data = ask.store.objects[ask.path]
    ask.head(200, Content_Length=len(data))
    ask.raw(data)


async def test_documents_come_as_they_are(origin: Origin, store: Store, throttle: Throttle) -> None:
    store.objects[f"{PATH}/manifest"] = b"m" * 300_000
    store.objects[f"{PATH}/release"] = b"r"
    assert await origin.manifest("m", 3) == b"m" * 300_000
    assert await origin.release("m", 3) == b"r"
    assert throttle.origin.total_bytes == 300_001


async def test_an_offer_is_refreshed_from_where_it_came(origin: Origin, store: Store) -> None:
    package = make_package(store, [10, 20])
    store.objects[f"{PATH}/locations"] = msgspec.json.encode(package.locations)
    offer = await origin.offer(package.manifest, 3)
    assert offer.place_of(package.wanted[1].digest).offset == 10
    moved = store.objects[f"{PATH}/locations"].replace(b"packs/a", b"packs/b")
    store.objects[f"{PATH}/locations"] = moved
    await offer.refresh(0)
    assert offer.url_of(offer.place_of(package.wanted[1].digest)).endswith("/packs/b")
    store.objects[f"{PATH}/locations"] = b"{"
    with pytest.raises(Invalid, match="locations are malformed"):
        await origin.locations("m", 3)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (403, PermissionDenied), (500, Unavailable)]
)
async def test_a_refusal_is_told_in_the_control_planes_words(
    origin: Origin, store: Store, status: int, kind: type[Exception]
) -> None:
    body = b'{"detail": "There is no such version.", "hint": "Look again."}'

    def refuse(ask: Ask) -> None:
        ask.head(status, Content_Length=len(body))
        ask.raw(body)

    store.answer = refuse
    with pytest.raises(kind, match=f"answered with {status} Told. There is no such version"):
        await origin.manifest("m", 3)


async def test_too_long_a_document_is_not_read_on(
    origin: Origin, store: Store, throttle: Throttle
) -> None:
    def endless(ask: Ask) -> None:
        ask.head(200, Content_Length=1 << 40)
        while not ask.store.stopped.is_set():
            ask.raw(bytes(1 << 14))

    store.answer = endless
    with pytest.raises(Invalid, match="release of m@3 is longer than"):
        await origin.release("m", 3)
    assert throttle.origin.total_bytes <= MAX_ENVELOPE_BYTES


async def test_a_document_that_drips_is_given_up(
    origin: Origin, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(ask: Ask) -> None:
        ask.head(200, Content_Length=1000)
        while not ask.store.stopped.wait(0.05):
            ask.raw(b"x")

    monkeypatch.setattr(module, "PACE_WINDOW_S", 0.3)
    store.answer = drip
    with pytest.raises(Unavailable, match="too slow"):
        await origin.manifest("m", 3)


@pytest.mark.parametrize("lie", ["cut", "redirect", "gzip", "garbage"])
async def test_other_answers_are_refused(origin: Origin, store: Store, lie: str) -> None:
    def lying(ask: Ask) -> None:
        if lie == "redirect":
            ask.head(302, Location="/elsewhere", Content_Length=0)
        elif lie == "gzip":
            ask.head(200, Content_Encoding="gzip", Content_Length=0)
        elif lie == "garbage":
            ask.raw(b"garbage\r\n\r\n")
        else:
            ask.head(200, Content_Length=10)
            ask.raw(b"half")
            ask.sock.close()

    store.answer = lying
    with pytest.raises((Unavailable, Invalid), match=f"GET {PATH}/manifest"):
        await origin.manifest("m", 3)


async def test_nothing_is_asked_while_the_windows_are_closed(store: Store, origin: Origin) -> None:
    origin._throttle = Throttle()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(origin.manifest("m", 3, Urgency.PREFETCH), 0.2)
    assert store.connections == []


async def test_before_joining_it_says_so(store: Store, throttle: Throttle) -> None:
    origin = Origin(url=store.url, credentials=Credentials(None), throttle=throttle)
    with pytest.raises(Unavailable, match="not joined"):
        await origin.manifest("m", 3)
    with pytest.raises(Invalid):
        await origin.manifest("../etc", 3)
