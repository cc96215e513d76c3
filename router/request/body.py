"""A request's body: kept for another try as long as it is small, otherwise streamed once.

Input: a client's request. Output: a Body, and what must be read of it to route: the model that an
OpenAI request names, and whether the request may be sent twice.
"""

from collections.abc import AsyncIterator, Callable, Mapping

import msgspec

from federation.contract.errors import Invalid
from federation.relay.bodies import BodyReader, Pieces, check_length
from federation.relay.headers import INFERENCE_HEADER_LENGTH
from federation.relay.http1.messages import Request
from federation.relay.json_keys import says_twice
from federation.relay.server import BodyLimits

REPLAY_HEADER = "x-federation-replay"  # "never", or "on-failure": not before the first one failed
_LONGEST_TIMEOUT_US = 3_600_000_000
_LONGEST_PARAMETERS = 1024 * 1024  # of JSON that is read for them
_COMMON = b"u"  # in both of the words below, and seldom in bodies of numbers
_SEQUENCE = b'"sequence_'
_TIMEOUT = b'"timeout"'
_WORDS = tuple((word, word.index(_COMMON)) for word in (_TIMEOUT, _SEQUENCE))
_LONGEST_WORD = max(len(_TIMEOUT), len(_SEQUENCE))
_FEW = 64
_SHORT = 4096  # bytes: looked through faster than with care
_Q, _O = b"qo"  # of "sequence" and "timeout"; to look for one byte costs next to nothing
_MARKS = (b'"sequence_id"', b'"sequence_start"')


class Body:
    """What is `kept` of it is all, or its beginning when `rest` still has to be read from the
    client. It stays in the pieces in which it came until somebody wants to have it as one."""

    __slots__ = ("_pieces", "_quiet", "length", "rest", "size")

    def __init__(
        self,
        kept: bytes | tuple[bytes, ...],
        rest: AsyncIterator[bytes] | None = None,
        length: int | None = None,
    ) -> None:
        self._pieces = (kept,) if isinstance(kept, bytes) else kept
        self._quiet: bool | None = None
        self.size = sum(map(len, self._pieces))  # of what is kept
        self.rest = rest
        self.length = length

    def __repr__(self) -> str:
        return f"Body({self.size} bytes{', and a rest' if self.rest is not None else ''})"

    @property
    def kept(self) -> bytes:
        """What is kept, as one."""
        if len(self._pieces) != 1:
            self._pieces = (b"".join(self._pieces),)
        return self._pieces[0]

    def beginning(self, length: int) -> bytes:
        """Return the first bytes of what is kept, at most `length`."""
        pieces = self._pieces
        return (pieces[0] if pieces and length <= len(pieces[0]) else self.kept)[:length]

    @property
    def quiet(self) -> bool:
        """Whether none of the words stands in it by which it could set a time limit or belong to a
        sequence; looked for once, without putting the pieces together."""
        if self._quiet is None:
            self._quiet = not (any(map(_asks, self._pieces)) or self._asks_between())
        return self._quiet

    def _asks_between(self) -> bool:
        """Return whether such a word stands across pieces."""
        end = b""
        for piece in self._pieces:
            seam = end + piece[:_LONGEST_WORD]
            if end and (_TIMEOUT in seam or _SEQUENCE in seam):
                return True
            end = (end + piece[-_LONGEST_WORD:])[-_LONGEST_WORD:]
        return False

    def outgoing(self) -> bytes | tuple[bytes, ...] | AsyncIterator[bytes]:
        """Return what to send; a body with a rest can be sent only once."""
        return self._pieces if self.rest is None else self._stream(self.rest)

    async def _stream(self, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        async for chunk in rest:
            yield chunk


async def read(
    request: Request,
    limits: BodyLimits,
    replay_bytes: int,
    keep: Callable[[int], bool] = lambda _: True,
) -> Body:
    """Read a body until it ends, is too long to be kept, or `keep` has no room for another piece.

    Raises TooLarge, SlowClient or Invalid.
    """
    check_length(request, limits)
    reader = BodyReader(request, limits)
    whole = reader.whole()
    if whole is not None and len(whole) <= replay_bytes and keep(len(whole)):
        return Body(whole)
    kept = Pieces()

    def add(piece: bytes) -> bool:
        kept.add(piece)
        return kept.size <= replay_bytes and keep(len(piece))

    if whole is not None:
        kept.add(whole)
    elif await reader.gather(add):
        return Body(kept.all())
    length = None if request.head.chunked else request.head.length
    return Body(kept.all(), _rest(reader), length)


async def _rest(reader: BodyReader) -> AsyncIterator[bytes]:
    while piece := await reader.piece():
        yield piece


class _Parameters(msgspec.Struct):
    timeout: int = 0


class _Timed(msgspec.Struct):
    """Of a V2 request, how long it may take."""

    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


class _Named(msgspec.Struct):
    """The part of an OpenAI request that is needed to route it."""

    model: str | msgspec.UnsetType = msgspec.UNSET


_NAMED = msgspec.json.Decoder(_Named)
_TIMED = msgspec.json.Decoder(_Timed)


def openai_model(body: Body, headers: Mapping[str, str]) -> str:
    """Return the `model` of an OpenAI request; raises Invalid with the remedy."""
    if "Content-Encoding" in headers:
        raise Invalid(
            "The body is compressed, and 'model' must be read from it.",
            hint="Send it without Content-Encoding.",
        )
    try:
        named = _NAMED.decode(body.kept)
        twice = says_twice(body.kept, "model")
    except msgspec.ValidationError as error:
        raise Invalid(f"The body does not fit: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None
    if twice:
        raise Invalid(
            "The body names 'model' twice.",
            hint="Name one model in one request.",
            reason="repeated-key",
        )
    if not named.model:
        raise Invalid(
            "The body names no model.",
            hint='Add "model": "NAME"; GET /v1/models lists the names.',
            reason="missing-model",
        )
    return str(named.model)


def timeout_s(body: Body, headers: Mapping[str, str]) -> float | None:
    """Return the time that a V2 request allows itself by its parameter `timeout` (microseconds, as
    Triton has it), in seconds; None if it has none."""
    head = _telling(body, headers)
    if len(head) > _LONGEST_PARAMETERS or not _mentions(head, _TIMEOUT, b"m"):
        return None
    try:
        allowed = _TIMED.decode(head).parameters.timeout
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return allowed / 1e6 if 0 < allowed <= _LONGEST_TIMEOUT_US else None


def json_part(body: Body, headers: Mapping[str, str]) -> bytes:
    """The body without the tensors that may follow in binary."""
    length = _json_length(headers)
    return body.kept if length is None else body.beginning(length)


def _json_length(headers: Mapping[str, str]) -> int | None:
    length = headers.get(INFERENCE_HEADER_LENGTH, "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 10 else None


def _telling(body: Body, headers: Mapping[str, str]) -> bytes:
    """Its JSON as far as it may ask for something, b"" if it surely does not."""
    return b"" if _json_length(headers) is None and body.quiet else json_part(body, headers)


def unreplayable(body: Body, headers: Mapping[str, str]) -> str:
    """Return why a request may be sent only once, in words; "" if it may be sent again."""
    if body.rest is not None:
        return "its body was too large to be kept for another try, or memory for that was short"
    if headers.get(REPLAY_HEADER, "").strip().lower() == "never":
        return "its client asked that it is never sent twice"
    head = _telling(body, headers)
    if _mentions(head, _SEQUENCE, b"q") and any(mark in head for mark in _MARKS):
        return "it belongs to a sequence, whose state is at one replica"
    return ""


def only_after_failure(headers: Mapping[str, str]) -> bool:
    """Return whether a request may be sent to a second cluster only once the first one failed."""
    return headers.get(REPLAY_HEADER, "").strip().lower() == "on-failure"


def asks_nothing(content: bytes) -> bool:
    """Return whether a whole V2 body surely sets no time limit and belongs to no sequence, without
    reading it: `timeout_s` and `unreplayable` would find nothing."""
    if len(content) < _SHORT:
        return _Q not in content and (_O not in content or _TIMEOUT not in content)
    return not _asks(content)


def _asks(content: bytes) -> bool:
    """Return whether one of the words stands in it. Looks first, once, for the letter that both
    have."""
    at = content.find(_COMMON)
    for _ in range(_FEW):
        if at < 0:
            return False
        for word, before in _WORDS:
            if at >= before and content.startswith(word, at - before):
                return True
        at = content.find(_COMMON, at + 1)
    return _mentions(content, _TIMEOUT, b"m") or _mentions(content, _SEQUENCE, b"q")


def _mentions(head: bytes, word: bytes, rare: bytes) -> bool:
    """Return whether a word stands in it.

    Looks for its rare letter first: a search for one byte is many times as fast, and most bodies
    of a megabyte are numbers.
    """
    before = word.index(rare)
    at = head.find(rare)
    for _ in range(_FEW):
        if at < 0:
            return False
        if at >= before and head.startswith(word, at - before):
            return True
        at = head.find(rare, at + 1)
    return at >= 0 and head.find(word, max(at - before, 0)) >= 0
