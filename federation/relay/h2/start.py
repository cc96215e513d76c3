"""The beginning of a call's first message: what has to be seen of it to tell where it goes.

Input: the pieces of a request's body that have come. Output: a Start. A compressed message is
decompressed as far as needed, never further.
"""

import zlib
from collections import deque
from dataclasses import dataclass

from federation.contract.errors import Invalid
from federation.relay.h2.flow import Flow
from federation.relay.h2.message import PEEK_BYTES, PREFIX_BYTES
from federation.relay.h2.rewriting import WINDOW_BITS, Inflating


@dataclass(slots=True)
class Start:
    """The beginning of a call's first message, not compressed. `size` is what is announced for it,
    compressed or not; `whole`: this is all of it; `ended`: nothing more comes."""

    message: bytes
    size: int
    whole: bool
    ended: bool


def start_of(request: Flow, encoding: bytes) -> Start:
    """Return the start of what a request holds; raises FederationError for what is no message."""
    if len(request.pieces) > 1:
        request.pieces = deque((b"".join(request.pieces),))
    held = request.pieces[0] if request.pieces else b""
    if len(held) < PREFIX_BYTES:
        return Start(message=b"", size=0, whole=False, ended=request.ended)
    size = int.from_bytes(held[1:PREFIX_BYTES], "big")
    start = bytes(held[PREFIX_BYTES : PREFIX_BYTES + min(size, PEEK_BYTES)])
    whole = len(start) == size
    if held[0]:
        start = inflated_start(start, encoding, PEEK_BYTES)
        whole = whole and len(start) < PEEK_BYTES
    return Start(message=start, size=size, whole=whole, ended=request.ended)


def inflated_start(data: bytes, encoding: bytes, limit: int) -> bytes:
    """Return the first bytes, at most `limit`, of a compressed message; raises FederationError."""
    if encoding not in WINDOW_BITS:
        Inflating(encoding, limit)  # says so
    try:
        return zlib.decompressobj(WINDOW_BITS[encoding]).decompress(data, limit)
    except zlib.error:
        raise Invalid("A message cannot be decompressed.", reason="bad-message") from None
