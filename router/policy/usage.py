"""How many tokens an answer took, seen as it passes.

Input: the size of a request, and the pieces of its answer. Output: a number. The engine's own count
(`usage.total_tokens`, in a whole answer or in the last events of a stream) is believed; without one
it is estimated at four bytes a token, from the generated text where it can be seen.
"""

import re

BYTES_PER_TOKEN = 4
_TAIL_BYTES = 16 * 1024  # where the engine's count of a stream is looked for: it comes last
# Inside a JSON string the quotes are escaped, so generated text cannot pose as a key.
_TOTAL = re.compile(rb'"total_tokens"\s*:\s*(\d{1,9})(?!\d)')
_TEXT = re.compile(rb'"(?:content|text(?:_output)?)"\s*:\s*"((?:[^"\\]++|\\.)*+)"', re.DOTALL)


def estimate(size: int) -> int:
    """Return the tokens in so many bytes of text."""
    return -(-size // BYTES_PER_TOKEN)


class Meter:
    """Counts one request. `readable` = its answer is JSON, plain or as server-sent events."""

    def __init__(self, request_bytes: int, *, readable: bool) -> None:
        self._request_bytes = request_bytes
        self._readable = readable
        self._bytes = 0
        self._text_bytes = 0
        self._tail = b""

    def __repr__(self) -> str:
        return f"Meter({self.tokens()} tokens)"

    def see(self, piece: bytes) -> None:
        """A piece of the answer passed; a stream's events come whole."""
        self._bytes += len(piece)
        if self._readable:
            self._text_bytes += sum(len(found[1]) for found in _TEXT.finditer(piece))
            self._tail = (self._tail + piece)[-max(_TAIL_BYTES, len(piece)) :]

    def tokens(self) -> int:
        """Return what was taken until now; nothing before the answer began."""
        if not self._bytes:
            return 0
        counts = _TOTAL.findall(self._tail)
        if counts:
            return int(counts[-1])
        return estimate(self._request_bytes) + estimate(self._text_bytes or self._bytes)
