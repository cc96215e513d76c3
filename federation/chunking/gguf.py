"""The tensors of a GGUF file.

Input: a reader. Output: their spans. Format: magic, version, counts, key-value pairs, the table of
tensors, the tensors (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from federation.chunking.reader import Malformed, Reader, Span

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
# Kinds of values: bytes of each. 8 is a string, 9 an array.
_FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY, _U32 = 8, 9, 4
_ALIGNMENT = b"general.alignment"
_WIDTHS = {0: 4, 1: 2, 30: 2}  # ggml_type: F32, F16, BF16
_MAX_DIMENSIONS = 8


def spans(reader: Reader, most: int) -> list[Span]:
    """Return where the tensors lie; raises Malformed, also for more than `most` of them."""
    if reader.bytes_at(0, 4) != _MAGIC or reader.u32(4) not in _VERSIONS:
        raise Malformed("not a GGUF file of a known version")
    count, pairs = reader.u64(8), reader.u64(16)
    if count > most:
        raise Malformed("too many tensors")
    at, alignment = _skip_pairs(reader, 24, pairs)
    offsets: list[tuple[int, int]] = []
    for _ in range(count):
        at += 8 + reader.u64(at)
        dimensions = reader.u32(at)
        if dimensions > _MAX_DIMENSIONS:
            raise Malformed("too many dimensions")
        at += 4 + 8 * dimensions
        offsets.append((reader.u64(at + 4), _WIDTHS.get(reader.u32(at), 0)))
        at += 12
    data = -(-at // alignment) * alignment
    offsets.sort()
    ends = [*(offset for offset, _ in offsets[1:]), reader.size - data]
    return [
        Span(data + offset, data + end, width)
        for (offset, width), end in zip(offsets, ends, strict=False)
    ]


def _skip_pairs(reader: Reader, at: int, pairs: int) -> tuple[int, int]:
    """Return where the pairs end, and the alignment of tensors that they tell."""
    alignment = 32
    for _ in range(pairs):
        length = reader.u64(at)
        key = reader.bytes_at(at + 8, length) if length == len(_ALIGNMENT) else b""
        at += 8 + length
        kind = reader.u32(at)
        if key == _ALIGNMENT and kind == _U32:
            alignment = reader.u32(at + 4)
        at = _skip_value(reader, at + 4, kind)
    if not 0 < alignment <= 1 << 20:
        raise Malformed("the alignment makes no sense")
    return at, alignment


def _skip_value(reader: Reader, at: int, kind: int) -> int:
    """Return the offset behind a value. Arrays of arrays, which nobody writes, are refused."""
    if kind in _FIXED:
        return at + _FIXED[kind]
    if kind == _STRING:
        return at + 8 + reader.u64(at)
    if kind != _ARRAY:
        raise Malformed("unknown kind of value")
    inner, count = reader.u32(at), reader.u64(at + 4)
    at += 12
    if inner in _FIXED:
        return at + count * _FIXED[inner]
    if inner != _STRING:
        raise Malformed("unknown kind of value in an array")
    for _ in range(count):
        at += 8 + reader.u64(at)
    return at
