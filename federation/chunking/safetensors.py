"""The tensors of a safetensors file.

Input: a reader. Output: their spans. Format: 8 bytes with the length of the header, the header in
JSON, the tensors (https://github.com/huggingface/safetensors, README, section "Format").
"""

import msgspec

from federation.chunking.reader import Malformed, Reader, Span

MAX_HEADER_BYTES = 24 << 20  # about 200,000 tensors; the format itself allows 100 MB
_WIDTHS = {"F16": 2, "BF16": 2, "F32": 4}


class _Tensor(msgspec.Struct):
    dtype: str = ""
    data_offsets: tuple[int, int] = (0, 0)


_decoder = msgspec.json.Decoder(dict[str, _Tensor])


def spans(reader: Reader, most: int) -> list[Span]:
    """Return where the tensors lie; raises Malformed, also for more than `most` of them."""
    length = reader.u64(0)
    if length > MAX_HEADER_BYTES:
        raise Malformed("the header is too long")
    header = reader.bytes_at(8, length)
    if header.count(b"{") > most:
        raise Malformed("too many tensors")
    try:
        tensors = _decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    data = 8 + length
    return [
        Span(data + begin, data + end, _WIDTHS.get(tensor.dtype, 0))
        for tensor in tensors.values()
        for begin, end in (tensor.data_offsets,)
    ]
