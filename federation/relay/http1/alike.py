"""Heads that are like the one before them on a connection, but for a few values.

Input: the bytes of a head that was read strictly (`heads`), then those of the next ones. Output:
whether they say the same, and the values in which they may differ: such a head need not be read
again. Clients and gateways send nearly the same head each time, with another id, length or date.
"""

import re

_VALUE = re.compile(rb"[\t -~\x80-\xff]{0,1024}+").fullmatch
_LENGTH = re.compile(rb"[ \t]*+[0-9]{1,15}+[ \t]*+").fullmatch
CONTENT_LENGTH = b"content-length"


class Alike:
    """One head, and where others may differ from it.

    `values` are those of the head that was seen last, in the order of the names that may vary; None
    where it has none. `known` is for whoever handles the messages.
    """

    __slots__ = ("_lines", "_own", "_places", "_vary", "known", "raw", "values")

    def __init__(self, raw: bytes, vary: tuple[bytes, ...]) -> None:
        """Take a sound head, and the lower-case names of headers whose values may differ."""
        self.raw = raw
        self.known: object = None
        self._vary = vary
        self._own: list[bytes | None] = [None] * len(vary)
        self._places: list[tuple[int, bytes, int]] = []  # line, name with its colon, place in vary
        self._lines = raw.split(b"\r\n")
        for at, line in enumerate(self._lines):
            name, colon, value = line.partition(b":")
            if not (at and colon and name.lower() in vary):
                continue
            place = vary.index(name.lower())
            if self._own[place] is not None:  # twice: nothing may vary that is not plain
                self._places = []
                self._own = [None] * len(vary)
                self._lines = []
                break
            self._own[place] = value.strip(b" \t")
            self._places.append((at, name + b":", place))
        for at, name, _ in self._places:
            self._lines[at] = name
        self.values = self._own

    def __repr__(self) -> str:
        return f"Alike({self._lines[:1]})"

    @property
    def plain(self) -> bool:
        """Whether no name that may vary stands there twice; `values` are of use only then."""
        return bool(self._lines)

    def fits(self, raw: bytes) -> bool:
        """Return whether a head says the same but for what may vary; sets `values`."""
        if raw == self.raw:
            self.values = self._own
            return True
        lines = raw.split(b"\r\n")
        if len(lines) != len(self._lines):
            return False
        values = self._own.copy()
        for at, name, place in self._places:
            line = lines[at]
            if not line.startswith(name):
                return False
            value = line[len(name) :]
            sound = _LENGTH if self._vary[place] == CONTENT_LENGTH else _VALUE
            if sound(value) is None:
                return False
            values[place] = value.strip(b" \t")
            lines[at] = name
        if lines != self._lines:
            return False
        self.values = values
        return True
