"""Spans of safetensors files; headers that lie."""

import json
import struct

import pytest

from benchmarks.chunking.files import Tensor, safetensors
from federation.chunking.reader import Malformed, Reader, Span
from federation.chunking.safetensors import MAX_HEADER_BYTES, spans


def _file(header: object, data: bytes = b"") -> Reader:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return Reader.over(struct.pack("<Q", len(text)) + text + data)


def test_spans_and_widths() -> None:
    tensors = [
        Tensor("a", "BF16", (3,), b"123456"),
        Tensor("b", "F32", (1,), b"1234"),
        Tensor("c", "I8", (5,), b"12345"),
    ]
    data = safetensors(tensors)
    start = data.index(b"123456")
    assert [span for span in spans(Reader.over(data), 9) if span.end > span.start] == [
        Span(start, start + 6, 2),
        Span(start + 6, start + 10, 4),
        Span(start + 10, start + 15),
    ]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{",
        b'"\xff"',
        b"[" * 10_000,
        b'{"a":' * 10_000,
        {"a": 1},
        {"a": {"data_offsets": [1]}},
        {"a": {"data_offsets": [1, "2"]}},
        {"a": {"data_offsets": {"b": 1}}},
        {"a": {"data_offsets": [0, 1e70]}},
        {str(i): {} for i in range(30)},
    ],
)
def test_headers_that_are_none(header: object) -> None:
    with pytest.raises(Malformed):
        spans(_file(header), 20)


@pytest.mark.parametrize("length", [9, MAX_HEADER_BYTES + 1, (1 << 64) - 1])
def test_a_header_that_claims_to_be_long(length: int) -> None:
    with pytest.raises(Malformed):
        spans(Reader.over(struct.pack("<Q", length) + b"{}"), 9)
