"""Heads that are like the one before them on a connection, but for a few values.

Input: the bytes of a head that was read strictly (`heads`), then those of the next ones. Output:
whether they say the same, and the values in which they may differ: such a head need not be read
again. Clients and gateways send nearly the same head each time, with another id, length or date.
"""

import re
from collections.abc import Callable

_VALUE = re.compile(rb"[\t -~\x80-\xff]{0,1024}+").fullmatch
_LENGTH = re.compile(rb"[ \t]*+[0-9]{1,15}+[ \t]*+").fullmatch
CONTENT_LENGTH = b"content-length"
_LINE_END = b"\r\n"


class Alike:
    """One head, and where others may differ from it.

    `values` are those of the head that was seen last, in the order of the names that may vary; None
    where it has none. `length` is its Content-Length, -1 where it has none. `plain` = no name that
    may vary stands there twice: `values` are of use only then. `known` is for whoever handles the
    messages.
    """

    __slots__ = (
        *("_last", "_own", "_own_length", "_parts", "_vary", "known", "length", "plain", "raw"),
        "values",
    )

    def __init__(self, raw: bytes, vary: tuple[bytes, ...]) -> None:
        """Take a sound head, and the lower-case names of headers whose values may differ."""
        self.raw = raw
        self.known: object = None
        self.plain = True
        self._vary = vary
        self._own: list[bytes | None] = [None] * len(vary)
        # What stands before each value that may differ, its place in `vary`, and what it may be:
        self._parts: list[tuple[bytes, int, Callable[[bytes], object]]] = []
        at = begun = raw.find(_LINE_END)
        for line in raw[begun + 2 :].split(_LINE_END):
            name, colon, value = line.partition(b":")
            at += 2
            if colon and name.lower() in vary:
                place = vary.index(name.lower())
                if self._own[place] is not None:
                    self.plain = False
                    break
                self._own[place] = value.strip(b" \t")
                sound = _LENGTH if vary[place] == CONTENT_LENGTH else _VALUE
                value_at = at + len(name) + 1
                self._parts.append((raw[0 if not self._parts else begun : value_at], place, sound))
                begun = at + len(line)
            at += len(line)
        self._last = raw[begun:] if self._parts else raw
        if not self.plain:  # a name stands there twice: nothing may vary
            self._parts, self._last, self._own = [], raw, [None] * len(vary)
        self.values = self._own
        self.length = self._own_length = self._length()

    def __repr__(self) -> str:
        return f"Alike({self.raw[:80]!r})"

    def begins(self, data: bytes) -> bytes:
        """Return the head that stands at the beginning of `data` if it says the same but for what
        may vary, else b""; sets `values` and `length`."""
        if data.startswith(self.raw):  # which holds no other end of a head than its own
            self.values, self.length = self._own, self._own_length
            return self.raw
        at, values = 0, self._own.copy()
        for before, place, sound in self._parts:
            if not data.startswith(before, at):
                return b""
            at += len(before)
            end = data.find(_LINE_END, at)
            value = data[at:end]
            if end < 0 or sound(value) is None:
                return b""
            values[place] = value.strip(b" \t")
            at = end
        if not data.startswith(self._last, at):
            return b""
        self.values = values
        self.length = self._length()
        return data[: at + len(self._last)]

    def fits(self, raw: bytes) -> bool:
        """Return whether a head says the same but for what may vary; sets `values`, `length`."""
        return len(self.begins(raw)) == len(raw) > 0

    def _length(self) -> int:
        """Return the length among `values`; heads that were read have a sound one, if any."""
        if CONTENT_LENGTH not in self._vary:
            return -1
        text = self.values[self._vary.index(CONTENT_LENGTH)]
        return int(text) if text and _LENGTH(text) else -1
