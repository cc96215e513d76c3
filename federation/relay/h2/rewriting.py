"""Bodies of gRPC calls, changed as they pass: fields appended to every message, or a whole one.

Input: pieces of a body, as they come. Output: pieces to send instead. What cannot be done soundly
is refused: the engine then never gets a complete message.
"""

import zlib
from collections.abc import Callable
from typing import Protocol

from federation.contract.errors import Invalid, TooLarge
from federation.relay.h2.message import (
    PREFIX_BYTES,
    Fields,
    Named,
    ends_between_fields,
    enveloped,
    is_one_message,
    peek,
)
from federation.relay.h2.status import Unimplemented

WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Rewriter(Protocol):
    """What a body passes through."""

    def feed(self, data: bytes) -> bytes:
        """Return what to send for the next piece; raises FederationError."""
        ...

    def finish(self) -> None:
        """The body ended; raises Invalid if it may not end here."""
        ...

    def at_once(self, body: bytes) -> bytes:
        """Return what to send for a body that is all there is; raises FederationError."""
        ...


def _longer(body: bytes, fields: bytes) -> bytes:
    """Return a body of one plain message with fields appended to it."""
    size = (len(body) - PREFIX_BYTES + len(fields)).to_bytes(4, "big")
    return b"".join((b"\0", size, body[PREFIX_BYTES:], fields))


class Framed:
    """Cuts a body into messages. Subclasses say what becomes of each part."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._prefix = b""
        self._left = -1  # bytes of the message that are still to come; -1 = its prefix comes next

    def feed(self, data: bytes) -> bytes:
        """Return what to send for the next piece; raises FederationError."""
        out: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._left < 0:
                take = PREFIX_BYTES - len(self._prefix)
                self._prefix += data[at : at + take]
                at += take
                if len(self._prefix) < PREFIX_BYTES:
                    break
                self._start(out)
            else:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._body(piece, out)
            if not self._left:
                self._left = -1
                self._end(out)
        return out[0] if len(out) == 1 else b"".join(out)

    def at_once(self, body: bytes) -> bytes:
        """Return what to send for a body that is all there is; raises FederationError."""
        return self.feed(body)

    def finish(self) -> None:
        """The body ended; raises Invalid inside a message."""
        if self._left >= 0 or self._prefix:
            raise Invalid("The call's body breaks off inside a message.", reason="bad-message")

    def _start(self, out: list[bytes]) -> None:
        flag, self._left = self._prefix[0], int.from_bytes(self._prefix[1:], "big")
        self._prefix = b""
        if flag > 1:
            raise Invalid("A message's prefix is not understood.", reason="bad-message")
        if self._left > self._max_bytes:
            raise TooLarge(f"A message is larger than {self._max_bytes} bytes.")
        self._begin(self._left, bool(flag), out)

    def _begin(self, size: int, compressed: bool, out: list[bytes]) -> None:  # noqa: FBT001
        raise NotImplementedError

    def _body(self, piece: bytes, out: list[bytes]) -> None:
        raise NotImplementedError

    def _end(self, out: list[bytes]) -> None:
        raise NotImplementedError


class AppendingToRequests(Framed):
    """Appends fields to every message of a request, and sees to it that they are read as such.

    With `same_model` all messages have to name the model of the first one: what they say cannot be
    true otherwise. Compressed messages are sent on plain.
    """

    def __init__(
        self,
        fields: bytes,
        *,
        encoding: bytes = b"identity",
        same_model: bool = False,
        max_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        super().__init__(max_bytes)
        self._appended = fields
        self._encoding = encoding
        self._same_model = same_model
        self._first: Named | None = None
        self._fields = Fields()
        self._inflating: Inflating | None = None
        self._start_of: bytes | None = None  # of a message whose model has not been seen yet

    def at_once(self, body: bytes) -> bytes:
        """Return what to send for a body that is all there is; raises FederationError."""
        plain = not self._same_model and is_one_message(body, self._max_bytes)
        if plain and ends_between_fields(body, PREFIX_BYTES):
            return _longer(body, self._appended)
        changed = self.feed(body)
        self.finish()
        return changed

    def _begin(self, size: int, compressed: bool, out: list[bytes]) -> None:  # noqa: FBT001
        self._fields = Fields()
        self._start_of = b"" if self._same_model else None
        self._inflating = Inflating(self._encoding, self._max_bytes) if compressed else None
        if not compressed:
            out.append(b"\0" + (size + len(self._appended)).to_bytes(4, "big"))

    def _body(self, piece: bytes, out: list[bytes]) -> None:
        if self._inflating:
            piece = self._inflating.feed(piece)
        self._fields.feed(piece)
        if self._start_of is not None:
            self._look(piece, whole=False)
        if not self._inflating:
            out.append(piece)

    def _end(self, out: list[bytes]) -> None:
        whole = self._inflating.end() if self._inflating else b""
        if self._start_of is not None:
            self._look(b"", whole=True)
        if not self._fields.complete:
            raise Invalid("The message breaks off inside a field.", reason="bad-message")
        out.append(enveloped(whole + self._appended) if self._inflating else self._appended)
        self._inflating = None

    def _look(self, piece: bytes, *, whole: bool) -> None:
        self._start_of = (self._start_of or b"") + piece
        named = peek(self._start_of, whole=whole)
        if named is None:
            return
        self._start_of = None
        self._first = self._first or named
        if named != self._first:
            raise Invalid(
                f"The stream is for model {self._first.name!r}, and a message in it names another.",
                hint="Open a stream for each model.",
                reason="other-model",
            )


class Inflating:
    """One compressed message, in pieces, with a limit for what comes out."""

    def __init__(self, encoding: bytes, max_bytes: int) -> None:
        if encoding not in WINDOW_BITS:
            raise Unimplemented(
                "Messages are compressed in a way that is not known here.",
                hint="Use gzip or deflate, or send them plain.",
            )
        self._inflater = zlib.decompressobj(WINDOW_BITS[encoding])
        self._out = bytearray()
        self._max_bytes = max_bytes

    def feed(self, piece: bytes) -> bytes:
        """Return what the next piece means."""
        try:
            plain = self._inflater.decompress(piece, self._max_bytes + 1 - len(self._out))
        except zlib.error:
            raise Invalid("A message cannot be decompressed.", reason="bad-message") from None
        self._out += plain
        if len(self._out) > self._max_bytes or self._inflater.unconsumed_tail:
            raise TooLarge(f"A message is larger than {self._max_bytes} bytes.")
        return plain

    def end(self) -> bytes:
        """Return the whole message."""
        if not self._inflater.eof or self._inflater.unused_data:
            raise Invalid("A message cannot be decompressed.", reason="bad-message")
        return bytes(self._out)


class AppendingToAnswers(Framed):
    """Appends fields to every message of an engine's answer that is not compressed."""

    def __init__(self, fields: bytes, max_bytes: int = 0xFFFFFFFF) -> None:
        super().__init__(max_bytes)
        self._appended = fields
        self._plain = True

    def at_once(self, body: bytes) -> bytes:
        """Return what to send for a body that is all there is; raises FederationError."""
        if is_one_message(body, self._max_bytes):
            return _longer(body, self._appended)
        return self.feed(body)

    def _begin(self, size: int, compressed: bool, out: list[bytes]) -> None:  # noqa: FBT001
        self._plain = not compressed
        size += len(self._appended) if self._plain else 0
        out.append(bytes((compressed,)) + size.to_bytes(4, "big"))

    def _body(self, piece: bytes, out: list[bytes]) -> None:
        out.append(piece)

    def _end(self, out: list[bytes]) -> None:
        if self._plain:
            out.append(self._appended)


class Replacing(Framed):
    """Replaces every message by what `change` makes of it: for answers that are short."""

    def __init__(self, change: Callable[[bytes], bytes], max_bytes: int = 1024 * 1024) -> None:
        super().__init__(max_bytes)
        self._change = change
        self._message = bytearray()
        self._plain = True

    def _begin(self, size: int, compressed: bool, out: list[bytes]) -> None:  # noqa: FBT001
        self._message = bytearray()
        self._plain = not compressed
        if compressed:
            out.append(b"\1" + size.to_bytes(4, "big"))

    def _body(self, piece: bytes, out: list[bytes]) -> None:
        if self._plain:
            self._message += piece
        else:
            out.append(piece)

    def _end(self, out: list[bytes]) -> None:
        if self._plain:
            out.append(enveloped(self._change(bytes(self._message))))
