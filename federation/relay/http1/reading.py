"""Reading in bounded pieces, into one buffer that all connections share.

Input: what the transport has to give. Output: `data_received`, with a bounded number of bytes at
once: a client that takes little of an answer then holds a few small pieces, not a few large ones.
"""

import asyncio

MOST_BYTES = 256 * 1024
_SHARED = memoryview(bytearray(MOST_BYTES))  # nobody waits between the two calls below


class PieceReader(asyncio.BufferedProtocol):
    """A protocol that is given its data in pieces of `piece_bytes` at most."""

    __slots__ = ()
    piece_bytes = MOST_BYTES

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        return _SHARED[: self.piece_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(bytes(_SHARED[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take a piece."""
        raise NotImplementedError
