"""Spans of ONNX models: initializers, constants, subgraphs, files beside; messages that lie."""

import pytest

from benchmarks.chunking.files import (
    Tensor,
    block,
    external,
    number,
    onnx,
    onnx_node,
    onnx_tensor,
)
from federation.chunking.onnx import read
from federation.chunking.reader import Malformed, Reader, Span

BIG = 5000


def _tensor(name: str, kind: str, fill: bytes) -> Tensor:
    return Tensor(name, kind, (BIG,), fill * BIG)


def _spans(data: bytes) -> list[tuple[bytes, int]]:
    found = read(Reader.over(data), 100).spans
    assert all(data[s.start : s.end] == data[s.start : s.start + 1] * BIG for s in found)
    return [(data[s.start : s.start + 1], s.width) for s in found]


def test_tensors_wherever_they_are() -> None:
    constant = block(1, b"value") + block(5, onnx_tensor(_tensor("c", "F32", b"c")))
    several = block(10, onnx_tensor(_tensor("d", "I8", b"d")))
    inner = block(1, onnx_node("x", [block(5, onnx_tensor(_tensor("e", "BF16", b"e")))]))
    branch = block(6, inner) + block(11, block(5, onnx_tensor(_tensor("f", "F32", b"f"))))
    sparse = block(22, block(1, onnx_tensor(_tensor("g", "F32", b"g"))))
    nodes = [onnx_node("n", [constant, several, branch, sparse])]
    data = onnx([onnx_tensor(_tensor("a", "BF16", b"a"))], nodes)
    assert _spans(data) == [
        (b"c", 4), (b"d", 0), (b"e", 2), (b"f", 4), (b"g", 4), (b"a", 2),
    ]  # fmt: skip


def test_functions_and_float_data() -> None:
    floats = number(2, 1) + block(4, b"h" * BIG)
    function = block(7, onnx_node("x", [block(5, floats)]))
    assert _spans(block(25, function)) == [(b"h", 4)]


def test_small_tensors_and_unknown_fields_are_passed_over() -> None:
    small = onnx_tensor(Tensor("s", "F32", (1,), b"1234"))
    odd = number(99, 5) + bytes((98 << 3 & 0x7F | 1,))[:0] + block(97, b"?" * BIG)
    assert _spans(odd + onnx([small], [])) == []
    fixed = bytes((1 << 3 | 5, 1, 2, 3, 4)) + bytes((2 << 3 | 1, *range(8)))
    assert _spans(fixed + onnx([onnx_tensor(_tensor("a", "I8", b"a"))], [])) == [(b"a", 0)]


def test_files_beside() -> None:
    tensors = [_tensor("a", "BF16", b"a"), _tensor("b", "F32", b"b")]
    files = external(tensors, "model.onnx")
    found = read(Reader.over(files["model.onnx"]), 100)
    assert found.spans == []
    assert found.beside == {"model.onnx.data": [Span(0, BIG, 2), Span(8192, 8192 + BIG, 4)]}


@pytest.mark.parametrize("length", ["", "x", "-5", "9" * 30, "٣", "4095"])
def test_numbers_beside_that_are_none(length: str) -> None:
    entries = {"location": "x", "offset": "0", "length": length}
    proto = b"".join(
        block(13, block(1, k.encode()) + block(2, v.encode())) for k, v in entries.items()
    )
    assert read(Reader.over(onnx([proto], [])), 100).beside == {}


def _deep(depth: int) -> bytes:
    graph = b""
    for _ in range(depth):
        graph = block(1, onnx_node("n", [block(6, graph)]))
    return block(7, graph)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"\x80" * 11,
        block(7, b"x" * 9)[:-1],
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        bytes((7 << 3 | 3,)),  # a group
        bytes((7 << 3 | 1, 0)),  # 8 bytes that are not there
        block(7, block(5, b"\x4a\x05ab")),
        _deep(40),
    ],
)
def test_messages_that_are_none(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(Reader.over(data), 100)


def test_depth_and_number_have_limits() -> None:
    assert read(Reader.over(_deep(20)), 100).spans == []
    many = onnx([onnx_tensor(_tensor("a", "I8", b"a"))] * 3, [])
    assert len(read(Reader.over(many), 3).spans) == 3
    with pytest.raises(Malformed):
        read(Reader.over(many), 2)
