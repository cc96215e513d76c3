"""What a keeper and its workers say to each other, and how it stands in bytes.

Input: messages; the bytes of a stream. Output: bytes; messages, or Invalid. Each side begins with
six bytes, `FEDW` and the version of this protocol (big-endian). Then frames follow: the length of a
message in four bytes, and the message in MessagePack. Both ends are of one installation, but it may
have been upgraded while the keeper ran: then its new workers say so and end, and a restart helps.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from federation.contract.errors import Invalid
from federation.contract.rollout import VersionCounts
from federation.contract.trust import Trust
from router.settings import Settings

PROTOCOL = 1
PREAMBLE = b"FEDW" + PROTOCOL.to_bytes(2, "big")
LONGEST = 1 << 30
_HEAD = 4
# One family of metrics: name, help, type, and samples of (name, labels, value).
Family = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]


class Welcome(msgspec.Struct, frozen=True, tag=True):
    """The first message to worker `index` of `of`. It listens on `address` as others do as well,
    unless it inherited a socket. `secure`: it gets an identity, and dials clusters over mutual TLS.
    """

    index: int
    of: int
    settings: Settings
    address: tuple[str, int]
    secure: bool = False


class Identity(msgspec.Struct, frozen=True, tag=True):
    """What to show and whom to trust from now on."""

    certificate: str
    key: str
    trust: Trust

    def __repr__(self) -> str:
        return f"Identity(trust={self.trust.version})"  # the key is secret


class Table(msgspec.Struct, frozen=True, tag=True):
    """Route by this snapshot (bytes of a `Snapshot` message); `number` counts them."""

    number: int
    data: bytes

    def __repr__(self) -> str:
        return f"Table({self.number}, {len(self.data)} bytes)"


class Standing(msgspec.Struct, frozen=True, tag=True):
    """How the router as a whole stands: as in RouterState, and whether the control plane hears."""

    revoked: bool = False
    problem: str = ""
    in_contact: bool = False


class Go(msgspec.Struct, frozen=True, tag=True):
    """Begin to serve: all that there is to know was said."""


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A question: `report` or `metrics` (a Report or Figures come before the Answer), `in-flight`,
    `explain` or `record`."""

    id: int
    what: str
    arguments: dict[str, str] = {}


class Reload(msgspec.Struct, frozen=True, tag=True):
    """The certificate that clients are shown may have changed."""


class Portion(msgspec.Struct, frozen=True, tag=True):
    """The part of each tenant's limits that a worker hands out; an even one of those not named."""

    tenants: dict[str, float]


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Finish what is in flight, then end."""


class Up(msgspec.Struct, frozen=True, tag=True):
    """A worker listens."""

    address: tuple[str, int]


class Applied(msgspec.Struct, frozen=True, tag=True):
    """A worker routes by a Table, or not, and why."""

    number: int
    error: str = ""


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to an Ask, or the error of that kind (a name in `contract.errors`)."""

    id: int
    data: bytes = b""
    kind: str = ""
    message: str = ""
    hint: str = ""
    reason: str = ""


class Seen(msgspec.Struct, frozen=True):
    """How a worker sees a cluster; `open` = it gets no traffic from there, `reason` tells why."""

    open: bool
    rtt_ms: float | None
    reason: str


class Report(msgspec.Struct, frozen=True, tag=True):
    """What a worker counted since it started, and what it sees. `counts` are those that changed
    since its last report."""

    requests: int = 0
    errors: int = 0
    demand: dict[str, int] = {}
    seen: dict[str, Seen] = {}
    counts: list[VersionCounts] = []
    tenants: dict[str, float] = {}  # requests of each so far


class Figures(msgspec.Struct, frozen=True, tag=True):
    """All metrics of a worker."""

    families: list[Family]


Order = Welcome | Identity | Table | Standing | Go | Ask | Reload | Portion | Stop  # to a worker
Word = Up | Applied | Answer | Report | Figures  # from a worker
_ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_WORDS: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Word)
_ENCODER = msgspec.msgpack.Encoder()


def pack(value: Any) -> bytes:
    """Return MessagePack of what an Answer carries."""
    return _ENCODER.encode(value)


def frame(message: Order | Word) -> bytes:
    """Return the bytes of a message."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(_HEAD, "big") + body


def order(body: bytes) -> Order:
    """Read what a keeper says; raises Invalid."""
    message: Order = _decode(_ORDERS, body)
    return message


def word(body: bytes) -> Word:
    """Read what a worker says; raises Invalid."""
    message: Word = _decode(_WORDS, body)
    return message


def _decode(decoder: "msgspec.msgpack.Decoder[Any]", body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"A message between keeper and worker cannot be read: {error}.") from None


class FrameReader:
    """Cuts a stream into the bodies of its messages, however the bytes arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun = False

    def __repr__(self) -> str:
        return f"FrameReader({len(self._buffer)} bytes wait)"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is complete now; raises Invalid."""
        buffer = self._buffer
        buffer += data
        if not self._begun:
            self._begin()
        while self._begun and len(buffer) >= _HEAD:
            length = int.from_bytes(buffer[:_HEAD], "big")
            if length > LONGEST:
                raise Invalid(f"A message between keeper and worker of {length} bytes is too long.")
            if len(buffer) < _HEAD + length:
                return
            body = bytes(memoryview(buffer)[_HEAD : _HEAD + length])
            del buffer[: _HEAD + length]
            yield body

    def _begin(self) -> None:
        buffer = self._buffer
        if len(buffer) < len(PREAMBLE):
            if not PREAMBLE.startswith(bytes(buffer)) and buffer[:4] != PREAMBLE[: len(buffer)]:
                raise Invalid("The far end is no keeper and no worker of a router.")
            return
        if buffer[:4] != PREAMBLE[:4]:
            raise Invalid("The far end is no keeper and no worker of a router.")
        if buffer[: len(PREAMBLE)] != PREAMBLE:
            theirs = int.from_bytes(buffer[4:6], "big")
            raise Invalid(
                f"Keeper and worker speak versions {theirs} and {PROTOCOL} of their protocol.",
                hint="The software was upgraded meanwhile: restart the router.",
            )
        del buffer[: len(PREAMBLE)]
        self._begun = True

    def end(self) -> None:
        """The stream is over; raises Invalid if that was within a message."""
        if self._buffer:
            raise Invalid(f"The far end broke off: {len(self._buffer)} bytes of a message came.")
