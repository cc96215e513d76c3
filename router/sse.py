"""Server-sent events kept whole while they pass.

Input: the bytes of a stream as they come. Output: the same bytes, cut only where an event ends, so
that an error event can be added after a stream that broke off in the middle of one.
"""

MAX_HELD_BYTES = 1024 * 1024
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class WholeEvents:
    """Lets complete events pass at once and holds the beginning of an incomplete one."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may pass now; a single event beyond the limit passes in pieces."""
        data = self._held + chunk
        end = max((data.rfind(mark) + len(mark) for mark in _ENDS if mark in data), default=0)
        if not end and len(data) > MAX_HELD_BYTES:
            end = len(data)
        self._held = data[end:]
        return data[:end]

    def rest(self) -> bytes:
        """Return what is held: the stream has ended, and an event need not be closed."""
        held, self._held = self._held, b""
        return held
