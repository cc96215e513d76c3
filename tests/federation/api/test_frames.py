from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.api.frames import frames_of
from federation.contract.errors import Invalid, TooLarge
from federation.contract.locations import FRAME_BYTES, Frame
from federation.contract.manifest import MAX_CHUNK_BYTES

DIGEST, BASE = b"d" * 32, b"b" * 32
FRAMES = st.builds(
    lambda code, data, extra: (
        Frame(
            digest=DIGEST,
            length=len(data) + (extra if code else 0),
            stored=len(data),
            code=code,
            base=BASE if code & 0x80 else b"",
        ),
        data,
    ),
    st.sampled_from([0, 1, 2, 4, 0x82, 0x84]),
    st.binary(min_size=1, max_size=200),
    st.integers(0, 1000),
)


async def pieces(data: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


async def read(data: bytes, sizes: list[int] | None = None) -> list[tuple[Frame, bytes]]:
    return [found async for found in frames_of(pieces(data, sizes or []))]


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 120), max_size=20))
async def test_frames_come_out_as_they_went_in(
    frames: list[tuple[Frame, bytes]], sizes: list[int]
) -> None:
    body = b"".join(frame.pack() + data for frame, data in frames)
    assert await read(body, sizes) == frames


@given(st.lists(FRAMES, min_size=1, max_size=3), st.data())
async def test_what_is_whole_comes_out_of_a_cut_body(
    frames: list[tuple[Frame, bytes]], data: st.DataObject
) -> None:
    bodies = [frame.pack() + stored for frame, stored in frames]
    cut = data.draw(st.integers(1, len(bodies[-1]) - 1))
    found: list[tuple[Frame, bytes]] = []
    with pytest.raises(Invalid, match="middle of a chunk"):
        async for one in frames_of(pieces(b"".join(bodies)[:-cut], [])):
            found += [one]
    assert found == frames[:-1]


@given(st.binary(max_size=300))
async def test_noise_is_refused_or_is_a_frame(noise: bytes) -> None:
    try:
        found = await read(noise)
    except (Invalid, TooLarge):
        return
    assert sum(FRAME_BYTES + len(f.base) + len(stored) for f, stored in found) == len(noise)


@pytest.mark.parametrize(
    ("length", "stored", "code", "error"),
    [
        (MAX_CHUNK_BYTES + 1, 1, 1, TooLarge),
        (1, MAX_CHUNK_BYTES + 1, 1, TooLarge),
        (2**32 - 1, 2**32 - 1, 0, TooLarge),
        (0, 0, 0, Invalid),
        (5, 0, 1, Invalid),
        (5, 4, 0, Invalid),
        (4, 5, 0, Invalid),
        (4, 5, 1, Invalid),
        (4, 4, 3, Invalid),
        (4, 4, 0x80, Invalid),
        (4, 4, 0x81, Invalid),
        (4, 4, 255, Invalid),
    ],
)
async def test_heads_that_lie_are_refused_before_anything_is_held(
    length: int, stored: int, code: int, error: type[Exception]
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield Frame(digest=DIGEST, length=length, stored=stored, code=code).pack()
        raise AssertionError("the head was not refused")

    with pytest.raises(error):
        async for _ in frames_of(endless()):
            pass
