"""What a gRPC call asks for: its model, its request id, how long its client waits.

Input: the head of a call, the beginning of its first message. Output: values, or an error that says
what is wrong with them.
"""

import os
import re

from federation.contract.errors import Invalid, NotFound
from federation.relay.h2.blocks import literal
from federation.relay.h2.heads import RequestHead
from federation.relay.h2.message import Named, peek
from federation.relay.h2.start import Start
from federation.relay.headers import REQUEST_ID_HEADER
from router.request.call import DEADLINE_HEADER

_REQUEST_ID = REQUEST_ID_HEADER.encode()
_ID_BYTES = 32  # in hexadecimal
_BEGINS_ID = literal(_REQUEST_ID, bytes(_ID_BYTES))[:-_ID_BYTES]
_LONG = 0x7F  # the first byte of a length from 127 on (RFC 7541, section 5.1)
_DRAWN_BYTES = 4096
LONGEST_MS = 3_600_000
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}(?:@[A-Za-z0-9][A-Za-z0-9-]{0,62})?")
_SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
SEQUENCE = b"sequence_"  # as the keys of parameters begin: sequence_id, sequence_start


class Ids:
    """Names requests: at random, drawn many at once, for the system takes a while."""

    def __init__(self) -> None:
        self._drawn = b""
        self._at = 0

    def __repr__(self) -> str:
        return f"Ids({len(self._drawn) - self._at} bytes left)"

    def field_of(self, head: RequestHead) -> bytes:
        """Return the field that tells a call's request id: the client's own if it is a sane one,
        otherwise a new one."""
        if _REQUEST_ID in head.noted:
            given = head.one(_REQUEST_ID)
            if _SANE_ID.fullmatch(given):
                return literal(_REQUEST_ID, given)
        at = self._at
        if at == len(self._drawn):
            self._drawn, at = os.urandom(_DRAWN_BYTES).hex().encode(), 0
        self._at = at + _ID_BYTES
        return _BEGINS_ID + self._drawn[at : at + _ID_BYTES]


def id_of(field: bytes) -> str:
    """Return the request id in what `Ids.field_of` returned."""
    at = len(_BEGINS_ID)
    if field[at - 1] == _LONG:  # its length has a second byte
        at += 1
    return field[at:].decode("latin-1")


def least(*times: float | None) -> float | None:
    """Return the least of those that there are."""
    return min((t for t in times if t is not None), default=None)


def deadline_s(head: RequestHead) -> float | None:
    """Return how long the client wants to wait by our own header; raises Invalid."""
    text = head.one(DEADLINE_HEADER.encode())
    if not text:
        return None
    sane = text.isdigit() and len(text) <= len(str(LONGEST_MS))
    if not (sane and 0 < int(text) <= LONGEST_MS):
        raise Invalid(f"{DEADLINE_HEADER} must be milliseconds between 1 and {LONGEST_MS}.")
    return int(text) / 1000


def named_in(start: Start) -> Named | None:
    """Return which model the call's first message names, None if that cannot be told yet."""
    if start.ended and not start.size and not start.message:
        raise Invalid("The call has no message.", reason="missing-model")
    if not start.message and not start.whole:
        return None
    named = peek(start.message, whole=start.whole)
    if named is None and start.ended:
        raise Invalid("The call's message breaks off.", reason="bad-message")
    if named is not None and not named.name:
        raise Invalid(
            "The message names no model.",
            hint="Its first field must be model_name, as every generated client writes it.",
            reason="missing-model",
        )
    return named


def in_sequence(start: Start) -> bool:
    """Return whether a message belongs to a sequence, whose state is at one replica."""
    return SEQUENCE in start.message


def version_of(named: Named) -> int | None:
    """Return the version that a message names; raises NotFound for what cannot be one."""
    text = named.version
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(
            f"There is no version {text[:32]!r} of {named.name!r}.",
            hint="Versions are numbers; name an alias as MODEL@ALIAS.",
            reason="unknown-version",
        )
    return int(text)


def check_reference(name: str) -> None:
    """Refuse what cannot name a model; raises NotFound."""
    if not _REFERENCE.fullmatch(name) or ".." in name or "--" in name:
        raise NotFound(f"There is no model {name[:64]!r}.", reason="unknown-model")
