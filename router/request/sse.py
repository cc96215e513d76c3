"""Server-sent events kept whole while they pass.

Input: the bytes of a stream as they come. Output: the same bytes, cut only where an event ends, so
that an error event can be added after a stream that broke off in the middle of one.
"""

MAX_HELD_BYTES = 1024 * 1024
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_LONGEST_END = 4


class WholeEvents:
    """Lets complete events pass at once and holds the beginning of an incomplete one."""

    def __init__(self) -> None:
        self._held = bytearray()  # no event ends in it: only what is added is searched

    def feed(self, chunk: bytes) -> bytes:
        """Return what may pass now; a single event beyond the limit passes in pieces."""
        held = self._held
        if not held and chunk.endswith(_ENDS):
            return chunk
        new = max(len(held) - _LONGEST_END + 1, 0)
        held += chunk
        found = ((held.rfind(mark, new), len(mark)) for mark in _ENDS)
        end = max((place + size for place, size in found if place >= 0), default=0)
        if not end and len(held) > MAX_HELD_BYTES:
            end = len(held)
        ready = bytes(held[:end])
        del held[:end]
        return ready

    def rest(self) -> bytes:
        """Return what is held: the stream has ended, and an event need not be closed."""
        held, self._held = bytes(self._held), bytearray()
        return held
