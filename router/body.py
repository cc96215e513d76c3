"""A request's body: kept for another try as long as it is small, otherwise streamed once.

Input: a client's request. Output: a Body, and what must be read of it to route: the model that an
OpenAI request names, and whether the request may be sent twice.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import msgspec
from aiohttp import web

from federation.contract.errors import Invalid
from federation.relay.headers import INFERENCE_HEADER_LENGTH, content_length
from federation.relay.server import BodyLimits, check_length, iter_body

REPLAY_HEADER = "x-federation-replay"
_SEQUENCE = (b'"sequence_id"', b'"sequence_start"')


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


async def read(request: web.BaseRequest, limits: BodyLimits, replay_bytes: int) -> Body:
    """Read a body until it ends or no longer fits; raises TooLarge, SlowClient or Invalid."""
    check_length(request, limits)
    pieces: list[bytes] = []
    size = 0
    chunks = iter_body(request, limits)
    async for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size > replay_bytes:
            return Body(b"".join(pieces), chunks, content_length(request.headers))
    return Body(b"".join(pieces))


class _Named(msgspec.Struct):
    """The part of an OpenAI request that is needed to route it."""

    model: str | msgspec.UnsetType = msgspec.UNSET


_NAMED = msgspec.json.Decoder(_Named)


def openai_model(body: Body, headers: Mapping[str, str]) -> str:
    """Return the `model` of an OpenAI request; raises Invalid with the remedy."""
    if "Content-Encoding" in headers:
        raise Invalid(
            "The body is compressed, and 'model' must be read from it.",
            hint="Send it without Content-Encoding.",
        )
    try:
        named = _NAMED.decode(body.kept)
    except msgspec.ValidationError as error:
        raise Invalid(f"The body does not fit: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None
    if not named.model:
        raise Invalid(
            "The body names no model.",
            hint='Add "model": "NAME"; GET /v1/models lists the names.',
            reason="missing-model",
        )
    return str(named.model)


def unreplayable(body: Body, headers: Mapping[str, str]) -> str:
    """Return why a request may be sent only once, in words; "" if it may be sent again."""
    if body.rest is not None:
        return "its body was too large to be kept for another try"
    if headers.get(REPLAY_HEADER, "").strip().lower() == "never":
        return "its client asked that it is never sent twice"
    head = body.kept
    length = headers.get(INFERENCE_HEADER_LENGTH, "")
    if length.isascii() and length.isdigit():
        head = head[: int(length)]
    if any(mark in head for mark in _SEQUENCE):
        return "it belongs to a sequence, whose state is at one replica"
    return ""
