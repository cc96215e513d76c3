import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from blake3 import blake3

from federation.api.chunks import Chunks
from federation.app import ControlPlane
from federation.artifacts.objects_local import LocalObjects
from federation.artifacts.packs import PackStore
from federation.chunking.encoding import encode
from federation.contract.errors import Exhausted, FederationError
from federation.contract.locations import ZSTD, Frame
from federation.contract.manifest import MAX_CHUNK_BYTES
from federation.runtime.clock import SystemClock
from tests.fakes.control_plane import Answer, Operator, framed

UPLOAD, MISSING = "/api/v1/chunks", "/api/v1/chunks/missing"
ONE, TWO, THREE = b"one" * 100, b"two" * 100, b"three" * 100


def digests(*chunks: bytes) -> bytes:
    return b"".join(blake3(chunk).digest() for chunk in chunks)


async def missing(api: Operator, *chunks: bytes) -> list[bool]:
    answer = await api.call("POST", MISSING, data=digests(*chunks))
    assert answer.status == 200, answer.body
    return [bool(one) for one in answer.body]


async def test_chunks_go_up_once(api: Operator) -> None:
    assert await missing(api, ONE, TWO, ONE) == [True, True, True]
    stored = await api.upload(ONE, TWO)
    assert (stored.status, stored.json) == (200, {"chunks": 2, "bytes": 600})
    assert await missing(api, ONE, THREE, TWO) == [False, True, False]
    assert (await api.upload(ONE)).json == {"chunks": 1, "bytes": 300}
    assert (await api.upload()).json == {"chunks": 0, "bytes": 0}
    assert await missing(api) == []


async def test_an_encoded_chunk_is_known_by_its_own_bytes(api: Operator) -> None:
    stored = encode(ONE, ZSTD)
    head = Frame(digest=digests(ONE), length=len(ONE), stored=len(stored), code=ZSTD)
    answer = await api.call("POST", UPLOAD, data=head.pack() + stored)
    assert answer.json == {"chunks": 1, "bytes": 300}
    assert await missing(api, ONE) == [False]


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (framed(TWO)[:-1] + b"x", 400),  # other bytes than its digest says
        (Frame(digest=digests(TWO), length=300, stored=299).pack() + TWO[:299], 400),
        (Frame(digest=digests(TWO), length=301, stored=300, code=ZSTD).pack() + TWO, 400),
        (
            Frame(digest=digests(TWO), length=300, stored=len(encode(TWO, 1)), code=2).pack()
            + encode(TWO, 1),
            400,
        ),
        (
            Frame(digest=digests(TWO), length=600, stored=len(encode(TWO, 1)), code=1).pack()
            + encode(TWO, 1),
            400,
        ),  # a length that lies
        (Frame(digest=digests(TWO), length=2**31, stored=1, code=1).pack() + b"x", 413),
        (Frame(digest=digests(TWO), length=300, stored=300, code=77).pack() + TWO, 400),
        (
            Frame(digest=digests(TWO), length=300, stored=9, code=0x82, base=b"?" * 32).pack()
            + b"x" * 9,
            404,
        ),  # its base is not there
    ],
    ids=["bytes", "raw-length", "not-zstd", "planes", "length", "huge", "code", "base"],
)
async def test_of_a_hostile_body_only_the_good_chunks_before_are_kept(
    api: Operator, bad: bytes, status: int
) -> None:
    answer = await api.call("POST", UPLOAD, data=framed(ONE) + bad + framed(THREE))
    assert answer.status == status, answer.body
    assert await missing(api, ONE, TWO, THREE) == [False, True, True]


@pytest.mark.parametrize("length", [1, 40, 41, 42, 340])
async def test_a_body_that_is_too_short_is_told(api: Operator, length: int) -> None:
    answer = await api.call("POST", UPLOAD, data=framed(ONE) + framed(TWO)[:length])
    assert (answer.status, "middle of a chunk" in answer.json["detail"]) == (400, True)
    assert await missing(api, ONE, TWO) == [False, True]


async def test_a_body_that_breaks_off_leaves_what_was_whole(api: Operator) -> None:
    arrived = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield framed(ONE) + framed(TWO)[:-5]
        await asyncio.sleep(0.5)
        arrived.set()
        await asyncio.sleep(60)

    async def send() -> Answer:
        return await api.call("POST", UPLOAD, data=body())

    sending = asyncio.create_task(send())
    await arrived.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    async with asyncio.timeout(5):
        while (await missing(api, ONE))[0]:
            await asyncio.sleep(0.02)
    assert await missing(api, ONE, TWO) == [False, True]


async def test_a_missing_question_must_be_digests(api: Operator) -> None:
    assert (await api.call("POST", MISSING, data=b"x" * 33)).status == 400

    async def many(number: int) -> AsyncIterator[bytes]:
        yield b"x" * 32 * number

    assert (await api.call("POST", MISSING, data=many(100_001))).status == 413
    answer = await api.call("POST", MISSING, data=many(100_000))
    assert (answer.status, len(answer.body)) == (200, 100_000)


async def test_a_stranger_uploads_nothing(api: Operator, plane: ControlPlane) -> None:
    for path in (UPLOAD, MISSING):
        answer = await api.call("POST", path, data=b"", headers={"Authorization": ""})
        assert answer.status == 401


# ------------------------------------------------------------ limits


async def chunks_at(tmp_path: Path, **limits: int) -> Chunks:
    store = await PackStore.open(LocalObjects(tmp_path / "objects"), clock=SystemClock())
    return Chunks(store, **limits)


async def call(chunks: Chunks, body: AsyncIterator[bytes]) -> tuple[str, int]:
    """Upload to these handlers alone; returns how it ended and how many bytes were taken."""
    sent = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal sent
        async for block in body:
            yield block
            sent += len(block)

    outcome = "stored"

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal outcome
        try:
            return await chunks._upload(request)
        except FederationError as error:
            outcome = type(error).__name__
            return web.Response(status=400)

    app = web.Application(client_max_size=0)
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.post(f"http://127.0.0.1:{port}/", data=counted()) as answer:
                    await answer.read()
            except aiohttp.ClientError:
                pass
    finally:
        await runner.cleanup()
    return outcome, sent


async def test_an_endless_body_ends_at_the_limit_and_keeps_its_chunks(tmp_path: Path) -> None:
    chunks = await chunks_at(tmp_path, max_upload_bytes=2_000_000)
    made: list[bytes] = []

    async def endless() -> AsyncIterator[bytes]:
        for number in itertools.count():
            chunk = number.to_bytes(8, "little") * 1000
            made.append(chunk)
            yield framed(chunk)

    outcome, sent = await call(chunks, endless())
    assert outcome == "TooLarge"
    assert sent < 20_000_000
    absent = await chunks._store.missing([blake3(chunk).digest() for chunk in made])
    assert absent[:100] == [False] * 100
    assert all(absent[251:])


async def test_one_endless_chunk_is_never_taken(tmp_path: Path) -> None:
    chunks = await chunks_at(tmp_path)

    async def endless() -> AsyncIterator[bytes]:
        yield Frame(digest=b"x" * 32, length=MAX_CHUNK_BYTES, stored=MAX_CHUNK_BYTES).pack()
        for _ in range(64):
            yield bytes(1 << 20)

    outcome, sent = await call(chunks, endless())
    assert outcome == "Invalid"
    assert sent < 64 << 20


async def test_too_many_uploads_at_once_are_told_to_wait(tmp_path: Path) -> None:
    chunks = await chunks_at(tmp_path, max_uploads=1)
    async with chunks._uploading():
        with pytest.raises(Exhausted):
            async with chunks._uploading():
                pass
    async with chunks._uploading():
        pass
