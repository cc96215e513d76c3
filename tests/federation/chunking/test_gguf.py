"""Spans of GGUF files; counts and lengths that lie."""

import struct

import pytest

from benchmarks.chunking.files import Tensor, gguf
from federation.chunking.gguf import spans
from federation.chunking.reader import Malformed, Reader, Span

TENSORS = [
    Tensor("a", "BF16", (2, 3), b"a" * 12),
    Tensor("b", "F32", (8,), b"b" * 32),
    Tensor("c", "I8", (5,), b"c" * 5),
]


def test_spans_and_widths() -> None:
    data = gguf(TENSORS, "name", tokens=100)
    start = data.index(b"a" * 12)
    assert start % 32 == 0
    assert spans(Reader.over(data), 9) == [
        Span(start, start + 32, 2),  # to the next one: padding belongs to it
        Span(start + 32, start + 64, 4),
        Span(start + 64, start + 69),
    ]


def _head(pairs: int = 0, tensors: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def _pair(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def _array(inner: int, count: int, values: bytes = b"") -> bytes:
    return _pair(b"k", 9, struct.pack("<IQ", inner, count) + values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGML" + bytes(40),
        _head(version=1),
        _head(version=99),
        _head(pairs=1),
        _head(pairs=1 << 63),
        _head(tensors=1 << 63),
        _head(tensors=1),
        _head(1) + _pair(b"k" * 9, 13, bytes(8)),
        _head(1) + _array(9, 1, struct.pack("<IQ", 9, 1)),
        _head(1) + _array(13, 1),
        _head(1) + _array(8, 1 << 62),
        _head(1) + _array(8, 1 << 62, bytes(8 * 1000)),
        _head(2) + _array(8, 1, struct.pack("<Q", 1 << 63)),
        _head(1) + _pair(b"general.alignment", 4, bytes(4)),
        _head(1) + _pair(b"general.alignment", 4, b"\xff" * 4),
        _head(tensors=1) + struct.pack("<Q", 0) + struct.pack("<I", 1 << 31) + bytes(64),
    ],
)
def test_files_that_are_none(data: bytes) -> None:
    with pytest.raises(Malformed):
        spans(Reader.over(data), 100)


def test_steps_without_bytes_have_an_end() -> None:
    """An array of fixed numbers, however long it claims to be, is one step; an empty string
    takes 8 bytes: no count makes this long."""
    with pytest.raises(Malformed):
        spans(Reader.over(_head(2) + _array(0, (1 << 64) - 1)), 100)
    pairs = b"".join(_pair(b"", 0, b"x") for _ in range(1000))
    assert spans(Reader.over(_head(1000) + pairs), 100) == []
