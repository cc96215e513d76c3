"""The tensors of an ONNX model: in the file itself, and in files beside it.

Input: a reader. Output: their spans. The file is one Protocol Buffers message, ModelProto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); it is walked, never decoded, and what is
no tensor's data is stepped over.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from federation.chunking.reader import Malformed, Reader, Span

_SMALLEST = 4096  # bytes; smaller tensors are no cuts, there may be very many
_MAX_DEPTH = 32  # of graphs inside of nodes
_MAX_TEXT = 1024  # bytes of a path
_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}  # wire types
# Field numbers of messages: which sub-messages are walked.
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {5: "tensor", 1: "node", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
# TensorProto
_DATA_TYPE, _EXTERNAL, _DATA = 2, 13, (4, 9, 10)  # data: float_data, raw_data, double_data
_WIDTHS = {1: 4, 10: 2, 16: 2}  # TensorProto.DataType: FLOAT, FLOAT16, BFLOAT16


@dataclass(slots=True)
class Found:
    """Spans in the file, and in others by their path as the file tells it."""

    spans: list[Span] = field(default_factory=list)
    beside: dict[str, list[Span]] = field(default_factory=dict)
    left: int = 0

    def add(self, spans: list[Span], span: Span) -> None:
        """Note a span; raises Malformed if there are too many."""
        self.left -= 1
        if self.left < 0:
            raise Malformed("too many tensors")
        spans.append(span)


def read(reader: Reader, most: int) -> Found:
    """Return where the tensors lie; raises Malformed, also for more than `most` of them."""
    found = Found(left=most)
    _walk(reader, (0, reader.size), "model", found, _MAX_DEPTH)
    return found


def _walk(reader: Reader, part: tuple[int, int], kind: str, found: Found, depth: int) -> None:
    if kind == "tensor":
        _tensor(reader, part, found)
        return
    if depth == 0:
        raise Malformed("too deep")
    for number, wire, at, length in _fields(reader, part):
        inside = _INSIDE[kind].get(number)
        if inside and wire == _BYTES:
            _walk(reader, (at, at + length), inside, found, depth - (inside == "graph"))


def _fields(reader: Reader, part: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, and offset and length of the contents of a message's fields; for a
    varint its value in place of the length."""
    at, end = part
    while at < end:
        key, at = reader.varint(at)
        wire = key & 7
        if wire == _VARINT:
            value, after = reader.varint(at)
        elif wire == _BYTES:
            value, at = reader.varint(at)
            after = at + value
        elif wire in _FIXED:
            value, after = _FIXED[wire], at + _FIXED[wire]
        else:
            raise Malformed("groups are long gone")
        if after > end:
            raise Malformed("a field is longer than its message")
        yield key >> 3, wire, at, value
        at = after


def _tensor(reader: Reader, part: tuple[int, int], found: Found) -> None:
    data_type, data, external = 0, (0, 0), {}
    for number, wire, at, value in _fields(reader, part):
        if number == _DATA_TYPE and wire == _VARINT:
            data_type = value
        elif number in _DATA and wire == _BYTES:
            data = at, value
        elif number == _EXTERNAL and wire == _BYTES:
            external.update(_entry(reader, (at, at + value)))
    width = _WIDTHS.get(data_type, 0)
    start, length = data
    if length >= _SMALLEST:
        found.add(found.spans, Span(start, start + length, width))
    path, length = external.get("location", ""), _number(external.get("length", ""))
    if path and length >= _SMALLEST:
        start = _number(external.get("offset", ""))
        found.add(found.beside.setdefault(path, []), Span(start, start + length, width))


def _entry(reader: Reader, part: tuple[int, int]) -> dict[str, str]:
    """Return a StringStringEntryProto: key 1, value 2."""
    texts = {
        number: reader.bytes_at(at, value).decode(errors="replace")
        for number, wire, at, value in _fields(reader, part)
        if wire == _BYTES and value <= _MAX_TEXT
    }
    return {texts.get(1, ""): texts.get(2, "")}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
