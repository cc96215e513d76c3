"""Chunked bodies: validated while they are taken apart, and put together again.

Input: the bytes of a body as they come. Output: its content, and where it ended; BadMessage for
anything that is not written the one plain way (RFC 9112, section 7.1): sizes of up to 15 digits,
extensions without line ends inside, trailers that are read and dropped.
"""

import re

from federation.relay.http1.heads import BadMessage

LAST = b"0\r\n\r\n"
_LINE_END = b"\r\n"
_MAX_TRAILERS = 100
_VALUE = rb"[\t -~\x80-\xff]"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:;%s{0,1024}+)?\r\n" % _VALUE).match
_SIZE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,15}+(?:;%s{0,1024}+)?\r?)?" % _VALUE).fullmatch
_TRAILER = re.compile(rb"(?:[!#$%%&'*+\-.^_`|~0-9A-Za-z]{1,256}+:%s{0,4096}+)?\r\n" % _VALUE).match
_TRAILER_BEGUN = re.compile(
    rb"(?:[!#$%%&'*+\-.^_`|~0-9A-Za-z]{1,256}+(?::%s{0,4096}+)?)?\r?" % _VALUE
).fullmatch


class ChunkReader:
    """Reads one chunked body. `done` is set when its end has come."""

    __slots__ = ("_ending", "_held", "_last", "_left", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._held = b""  # the beginning of a line
        self._left = 0  # of the content of the chunk that is read
        self._ending = False  # its line end is still to come
        self._last = False  # only trailers follow
        self._trailers = 0

    def __repr__(self) -> str:
        return f"ChunkReader(done={self.done}, left={self._left})"

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """Return the content in `data`, and how many of its bytes belong to this body.

        Raises BadMessage."""
        before = len(self._held)
        if before:
            data, self._held = self._held + data, b""
        at, end = 0, len(data)
        content: list[bytes] = []
        while at < end and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    if data.startswith(_LINE_END, at):
                        at += 2
                    else:
                        self._ending = True
                continue
            step = self._line(data, at)
            if not step:
                self._held = data[at:]
                at = end
                break
            at += step
        return (content[0] if len(content) == 1 else b"".join(content)), at - before

    def _line(self, data: bytes, at: int) -> int:
        """Read one line at `at`; return its length, 0 if its end has not come."""
        if self._ending:
            return self._line_end(data, at)
        if self._last:
            return self._trailer(data, at)
        found = _SIZE(data, at)
        if found is None:
            if not _SIZE_BEGUN(data, at):
                raise BadMessage("a chunk's size is not understood")
            return 0
        self._left = int(found[1], 16)
        self._last = not self._left
        return found.end() - at

    def _line_end(self, data: bytes, at: int) -> int:
        if data.startswith(_LINE_END, at):
            self._ending = False
            return 2
        if data[at:] != b"\r":
            raise BadMessage("a chunk is longer than it said")
        return 0

    def _trailer(self, data: bytes, at: int) -> int:
        found = _TRAILER(data, at)
        if found is None:
            if not _TRAILER_BEGUN(data, at):
                raise BadMessage("a trailer is not understood")
            return 0
        self._trailers += 1
        if self._trailers > _MAX_TRAILERS:
            raise BadMessage("it has too many trailers")
        self.done = found.end() - at == 2
        return found.end() - at


def chunk(content: bytes) -> bytes:
    """Return content as one chunk; none for no content, which would be the end."""
    return b"%x\r\n%b\r\n" % (len(content), content) if content else b""
