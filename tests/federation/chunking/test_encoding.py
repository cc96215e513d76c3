"""Encoded chunks come back, in any code; what is not one is refused and takes no memory."""

import contextlib
import random
import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from federation.chunking.encoding import choose, decode, encode, shrink
from federation.contract.errors import Invalid
from federation.contract.locations import RAW, WITH_BASE, ZSTD
from federation.contract.manifest import MAX_CHUNK_BYTES

CODES = (RAW, ZSTD, 2, 4, 0x82, 0x84)
NOISE = random.Random(1).randbytes(1 << 20)


def weights(kind: str) -> bytes:
    """Return 1 MiB of weights as models have them: F32, F16 or BF16."""
    numbers = np.random.default_rng(1).standard_normal(1 << 18, dtype=np.float32) * np.float32(0.02)
    if kind == "F16":
        return numbers.astype(np.float16).tobytes() * 2
    return (
        numbers.tobytes()
        if kind == "F32"
        else (numbers.view("<u4") >> 16).astype("<u2").tobytes() * 2
    )


BF16 = weights("BF16")


@given(st.sampled_from(CODES), st.binary(min_size=1, max_size=200), st.binary(min_size=200))
def test_there_and_back(code: int, data: bytes, base: bytes) -> None:
    base = base[: len(data)] if code & WITH_BASE else b""
    assert decode(encode(data, code, base), code, len(data), base) == data


@given(
    st.sampled_from((*CODES, 3, 0x81, 0xFF)),
    st.binary(max_size=100),
    st.integers(-1, 300),
    st.binary(max_size=100),
)
def test_any_stored_bytes(code: int, stored: bytes, length: int, base: bytes) -> None:
    for data in (stored, zstandard.ZstdCompressor().compress(stored)):
        with contextlib.suppress(Invalid):
            assert len(decode(data, code, length, base)) == length


@pytest.mark.parametrize(
    ("kind", "width", "most"), [("BF16", 2, 0.70), ("F16", 2, 0.86), ("F32", 4, 0.85)]
)
def test_floating_point_numbers_become_smaller(kind: str, width: int, most: float) -> None:
    data = weights(kind)
    assert len(encode(data, width)) < min(most * len(data), len(encode(data, ZSTD)))
    assert choose(data, width) == width
    assert shrink(data, width) == (width, encode(data, width))
    assert shrink(data[1:-2], width)[0] == width  # cuts by content fall between the bytes of one


def test_a_base_leaves_little() -> None:
    moved = bytearray(BF16)
    for at in range(0, len(moved), 20):
        moved[at] ^= 1
    code, stored = shrink(bytes(moved), 2, BF16)
    assert code == 0x82
    assert len(stored) < 0.2 * len(BF16)
    assert decode(stored, code, len(BF16), BF16) == moved
    assert shrink(bytes(moved), 0, BF16)[0] in (RAW, ZSTD)  # there is no code for that


def test_what_does_not_become_smaller_stays_as_it_is() -> None:
    for width in (0, 2, 4):
        assert choose(NOISE, width) == RAW
        assert shrink(NOISE, width) == (RAW, NOISE)
    middle = NOISE[: 480 << 10] + bytes(64 << 10) + NOISE[: 480 << 10]
    assert choose(middle) == ZSTD  # the sample flatters: 1/4 of it are zeros, 1/16 of the whole
    assert shrink(middle) == (RAW, middle)
    assert shrink(b"x" * 1000)[0] == ZSTD
    assert shrink(b"x") == (RAW, b"x")


def _claiming(length: int, frame: bytes) -> bytes:
    """Return a frame whose header claims another length of the content (8 bytes, RFC 8878)."""
    return b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", length) + frame


RAW_BLOCK = struct.pack("<I", 5 << 3 | 1)[:3] + b"12345"  # the last block


def test_the_frame_that_the_test_makes_is_sound() -> None:
    assert decode(_claiming(5, RAW_BLOCK), ZSTD, 5) == b"12345"


@pytest.mark.parametrize(
    ("stored", "length"),
    [
        (b"", 5),
        (b"12345", 5),
        (encode(b"1234", ZSTD), 5),
        (encode(b"12345", ZSTD)[:-1], 5),
        (encode(b"12345", ZSTD) + b"x", 5),
        (encode(b"12345", ZSTD) * 2, 5),
        (encode(b"12345", ZSTD) * 2, 10),
        (encode(b"", ZSTD), 0),
        (encode(b"", ZSTD), -1),
        (_claiming(1 << 60, RAW_BLOCK), 1 << 60),
        (_claiming(4, RAW_BLOCK), 4),
        (_claiming(6, RAW_BLOCK), 6),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"12345"), 5),
        (encode(bytes(MAX_CHUNK_BYTES + 1), ZSTD), MAX_CHUNK_BYTES + 1),
        (encode(bytes(MAX_CHUNK_BYTES), ZSTD), 5),
    ],
)
def test_bombs_and_lies_are_refused_and_take_no_memory(stored: bytes, length: int) -> None:
    tracemalloc.start()
    try:
        for code in (ZSTD, 2, 4):
            with pytest.raises(Invalid):
                decode(stored, code, length)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_raw_bytes_of_another_length() -> None:
    with pytest.raises(Invalid, match="4 bytes instead of 5"):
        decode(b"1234", RAW, 5)


@pytest.mark.parametrize("code", [3, 5, 0x80, 0x81, 0x83, 255])
def test_unknown_codes(code: int) -> None:
    with pytest.raises(Invalid, match="unknown way"):
        encode(b"1", code, b"2")
    with pytest.raises(Invalid, match="unknown way"):
        decode(b"1", code, 1, b"2")


def test_a_base_of_another_length() -> None:
    with pytest.raises(Invalid, match="has a base of 3"):
        encode(b"1234", 0x82, b"123")
    with pytest.raises(Invalid, match="has a base of 0"):
        decode(encode(b"1234", 2), 0x82, 4)


def test_a_base_that_does_not_help_is_not_used() -> None:
    for other in (NOISE, BF16[::-1]):
        assert choose(BF16, 2, other) == 2
        assert shrink(BF16, 2, other) == (2, encode(BF16, 2))
