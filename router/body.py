"""A request's body: kept for another try as long as it is small, otherwise streamed once.

Input: a client's request. Output: a Body, and what must be read of it to route: the model that an
OpenAI request names, and whether the request may be sent twice.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

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
_SEQUENCE = b'"sequence_'
_TIMEOUT = b'"timeout"'
_FEW = 64
_SHORT = 4096  # bytes: looked through faster than with care
_Q, _O = b"qo"  # of "sequence" and "timeout"; to look for one byte costs next to nothing
_MARKS = (b'"sequence_id"', b'"sequence_start"')


@dataclass(slots=True)
class Body:
    """`kept` is all of it, or its beginning when `rest` still has to be read from the client."""

    kept: bytes
    rest: AsyncIterator[bytes] | None = None
    length: int | None = None

    def outgoing(self) -> bytes | AsyncIterator[bytes]:
        """Return what to send; a body with a rest can be sent only once."""
        return self.kept if self.rest is None else self._stream(self.rest)

    async def _stream(self, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield self.kept
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
    if whole is not None:
        kept.add(whole)
    else:
        while piece := await reader.piece():
            kept.add(piece)
            if kept.size > replay_bytes or not keep(len(piece)):
                break
        else:
            return Body(kept.joined())
    length = None if request.head.chunked else request.head.length
    return Body(kept.joined(), _rest(reader), length)


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
    head = json_part(body, headers)
    if len(head) > _LONGEST_PARAMETERS or not _mentions(head, _TIMEOUT, b"m"):
        return None
    try:
        allowed = _TIMED.decode(head).parameters.timeout
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return allowed / 1e6 if 0 < allowed <= _LONGEST_TIMEOUT_US else None


def json_part(body: Body, headers: Mapping[str, str]) -> bytes:
    """The body without the tensors that may follow in binary."""
    length = headers.get(INFERENCE_HEADER_LENGTH, "")
    sane = length.isascii() and length.isdigit() and len(length) < 10
    return body.kept[: int(length)] if sane else body.kept


def unreplayable(body: Body, headers: Mapping[str, str]) -> str:
    """Return why a request may be sent only once, in words; "" if it may be sent again."""
    if body.rest is not None:
        return "its body was too large to be kept for another try, or memory for that was short"
    if headers.get(REPLAY_HEADER, "").strip().lower() == "never":
        return "its client asked that it is never sent twice"
    head = body.kept
    length = headers.get(INFERENCE_HEADER_LENGTH, "")
    if length.isascii() and length.isdigit():
        head = head[: int(length)]
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
    return not (_mentions(content, _TIMEOUT, b"m") or _mentions(content, _SEQUENCE, b"q"))


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
