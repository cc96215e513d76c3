"""Reading in bounded pieces, into one buffer that all connections share.

Input: what the transport of another protocol has to give, as long as it reads this way. Output:
that protocol's `data_received`, with a bounded number of bytes at once: a client that takes little
of an answer then holds a few small pieces, not a few large ones. For messages that come in one
piece anyway the transport's own way costs less.
"""

import asyncio

MOST_BYTES = 128 * 1024
_SHARED = memoryview(bytearray(MOST_BYTES))  # nobody waits between the two calls below


class InPieces(asyncio.BufferedProtocol):
    """Reads for another protocol, in pieces of `piece_bytes` at most; what else happens is its
    affair: `transport.set_protocol` puts one in the place of the other."""

    __slots__ = (
        *("_data_received", "_piece", "connection_lost", "eof_received", "pause_writing"),
        "resume_writing",
    )

    def __init__(self, reader: asyncio.Protocol, piece_bytes: int = MOST_BYTES) -> None:
        self._piece = _SHARED[:piece_bytes]
        self._data_received = reader.data_received
        self.connection_lost = reader.connection_lost  # type: ignore[method-assign]
        self.eof_received = reader.eof_received  # type: ignore[method-assign]
        self.pause_writing = reader.pause_writing  # type: ignore[method-assign]
        self.resume_writing = reader.resume_writing  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"InPieces({len(self._piece)} bytes)"

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._data_received(bytes(_SHARED[:nbytes]))
