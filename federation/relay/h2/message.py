"""Messages of gRPC calls, as far as a switch has to know them: which model, and where they end.

Input: bytes of messages whose fields 1 and 2 are a model's name and version (all requests of the V2
protocol that concern a model). Output: name and version from the first bytes; fields to append; and
bodies with such fields appended to every message.

In protobuf the last of several equal fields wins. So the engine runs the model that is appended,
whatever else a message says - provided that what is appended is read as fields: a message that
breaks off inside a field would swallow it. Therefore each message is followed, field by field, to
its end.
"""

from dataclasses import dataclass
from functools import lru_cache

from federation.contract.errors import Invalid, TooLarge

PREFIX_BYTES = 5  # compressed?, length
PEEK_BYTES = 4096  # how far into a message the name is looked for
_NAME, _VERSION = 0x0A, 0x12  # fields 1 and 2, length-delimited
_MOST_FIELDS = 20_000  # at the top of one message
_LONGEST_VARINT = 10
_FEW_FIELDS = 64
_DELIMITED, _FIRST = 2, 8  # the kind of a field, in a tag of one byte; the least tag


@dataclass(frozen=True, slots=True)
class Named:
    """Which model a message names; the version as text, "" = none."""

    name: str
    version: str


def peek(message: bytes, *, whole: bool) -> Named | None:
    """Return which model the first bytes of a message name, None if more of them are needed.

    Serialisers write fields in order; of any other order, what stands before the first field above
    2 counts. Raises Invalid if the beginning is no protobuf message.
    """
    found, at, end = {_NAME: b"", _VERSION: b""}, 0, len(message)
    while at < end and message[at] in found:
        kind = message[at]
        size = _varint(message, at + 1)
        if size is None or size[1] + size[0] > end:
            at = -1
            break
        found[kind], at = message[size[1] : size[0] + size[1]], size[0] + size[1]
    if (at < 0 or at == end) and not whole:
        if end < PEEK_BYTES:
            return None
        raise Invalid("The message does not begin with the model's name.", reason="missing-model")
    if at < 0:
        raise Invalid("The message breaks off inside the model's name.", reason="bad-message")
    try:
        return Named(found[_NAME].decode(), found[_VERSION].decode())
    except UnicodeDecodeError:
        raise Invalid("The model's name is not UTF-8.", reason="bad-message") from None


def _varint(data: bytes, at: int) -> tuple[int, int] | None:
    """Return a number and where it ends, None if it ends later; raises Invalid."""
    value = shift = 0
    for i in range(at, min(len(data), at + _LONGEST_VARINT)):
        value |= (data[i] & 0x7F) << shift
        if data[i] < 0x80:
            return value, i + 1
        shift += 7
    if len(data) - at >= _LONGEST_VARINT:
        raise Invalid("A number in the message is too long.", reason="bad-message")
    return None


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    coded = bytearray()
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


def text_field(number: int, text: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(text)) + text


@lru_cache(maxsize=4096)
def name_fields(name: str, version: str) -> bytes:
    """Return the fields that name a model and its version; also an empty one, which replaces."""
    return text_field(1, name.encode()) + text_field(2, version.encode())


def enveloped(message: bytes) -> bytes:
    """Return a message with its prefix, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def is_one_message(body: bytes, most: int) -> bool:
    """Whether a body is exactly one message, not compressed, of `most` bytes at most."""
    size = len(body) - PREFIX_BYTES
    return 0 <= size <= most and body.startswith(b"\0") and int.from_bytes(body[1:5], "big") == size


def ends_between_fields(data: bytes, at: int) -> bool:
    """Whether a message that begins at `at` is plainly a few length-delimited fields, the last of
    which ends where it does; what this denies, `Fields` has to follow."""
    end = len(data)
    for _ in range(_FEW_FIELDS):
        if at + 2 >= end:
            break
        size = data[at + 1]
        if data[at] & 0x87 != _DELIMITED or data[at] < _FIRST:
            return False
        at += 2
        if size >= 0x80:
            if data[at] >= 0x80:
                return False
            size += (data[at] << 7) - 0x80
            at += 1
        at += size
    return at == end


class Fields:
    """Follows the fields at the top of one message, in any pieces."""

    __slots__ = ("_count", "_held", "_skip")

    def __init__(self) -> None:
        self._skip = 0  # bytes of the current field that are still to come
        self._held = b""  # the beginning of a tag, length or number
        self._count = 0

    @property
    def complete(self) -> bool:
        """Whether a message may end here."""
        return not self._skip and not self._held

    def feed(self, data: bytes) -> None:
        """Follow some more bytes; raises Invalid where they are no protobuf."""
        if self._held:
            data, self._held = self._held + data, b""
        at, end = 0, len(data)
        if self._skip:
            at = min(self._skip, end)
            self._skip -= at
        while at < end:
            after = self._field(data, at)
            if after is None:
                self._held = data[at:]
                return
            if after > end:
                self._skip = after - end
                return
            at = after

    def _field(self, data: bytes, at: int) -> int | None:
        """Return where the field ends that begins at `at`; None if that cannot be told yet."""
        tag = _varint(data, at)
        if tag is None:
            return None
        number, at = tag
        match number & 7:
            case 0:
                value = _varint(data, at)
                after = None if value is None else value[1]
            case 1:
                after = at + 8
            case 2:
                size = _varint(data, at)
                after = None if size is None else size[0] + size[1]
            case 5:
                after = at + 4
            case _:
                raise Invalid("The message has a field of an unknown kind.", reason="bad-message")
        if number < 8:
            raise Invalid("The message has a field without a number.", reason="bad-message")
        if after is not None:
            self._count += 1
            if self._count > _MOST_FIELDS:
                raise TooLarge(f"The message has more than {_MOST_FIELDS} fields.")
        return after
