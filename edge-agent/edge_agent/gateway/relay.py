"""One request from a router, relayed to the engine and its answer relayed back.

Input: a Call, which is the router's request and the place at the engine that the backend named for
it. Output: the answer as it comes; or a Refusal, which says whether the router may try elsewhere.
Nothing is held back: a body of known length goes through in pieces, and so does every answer, apart
from the few kilobytes in which the engine's name for the version has to be replaced.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from edge_agent.backends.base import EngineRoute, Verb
from edge_agent.gateway.names import WINDOW_BYTES, Naming
from edge_agent.gateway.verdict import judge
from federation.contract.errors import (
    DeadlineExceeded,
    FederationError,
    Invalid,
    TooLarge,
    Unavailable,
)
from federation.relay.bodies import break_off, check_length, iter_body, read_body, taken, write
from federation.relay.errors import BadUpstream, error_headers
from federation.relay.forward import (
    Deadlines,
    Forwarder,
    ForwardError,
    Outgoing,
    PoolLimits,
    TimedOut,
    Upstream,
)
from federation.relay.headers import (
    INFERENCE_HEADER_LENGTH,
    LOAD_HEADER,
    OUTCOME_HEADER,
    REFUSED_HEADER,
    content_length,
    request_headers,
    response_headers,
)
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.json_keys import says_twice
from federation.relay.paths import OPENAI_PATHS
from federation.relay.server import BodyLimits

_WHOLE_BYTES = 256 * 1024  # bodies up to this length are read before the engine is asked
_OPENAI = frozenset(Verb(verb.value) for verb in OPENAI_PATHS)
_KEEPALIVE_S = 4.0  # less than any engine's: several close idle connections after 5 s
_DOCUMENT_BYTES = 1024 * 1024  # the longest metadata document


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """How much the gateway grants a request. Bodies of unknown length are held in memory."""

    body: BodyLimits = field(default_factory=BodyLimits)
    unsized_bytes: int = 8 * 1024 * 1024
    stall_s: float = 30.0
    engine: Deadlines = field(default_factory=lambda: Deadlines(first_byte_s=120, idle_s=60))


class Refusal(Exception):
    """An answer that the gateway gives itself: an error, and what the router must know of it."""

    def __init__(self, error: FederationError, *, refused: str = "", unknown: bool = False) -> None:
        super().__init__(error.sentence())
        self.error = error
        self.headers = outcome_headers(refused=refused, unknown=unknown)


def outcome_headers(*, refused: str = "", unknown: bool = False) -> dict[str, str]:
    """Return the headers that tell a router whether it may try elsewhere."""
    headers = {REFUSED_HEADER: refused} if refused else {}
    return headers | ({OUTCOME_HEADER: "unknown"} if unknown else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One admitted request, the place at the engine that answers it, and who is to be told."""

    request: Request
    verb: Verb
    model: str
    version: int
    route: EngineRoute
    load: Callable[[], int]  # requests in flight for this version, now
    doubt: Callable[[str], None]  # called with a reason when the engine behaves badly

    @property
    def naming(self) -> Naming | None:
        """How to replace the engine's name for the version, if it has one."""
        name = self.route.engine_model
        return Naming(name, self.model, self.version) if name and name != self.model else None

    @property
    def openai(self) -> bool:
        """Whether the body names the model, as OpenAI's paths have it."""
        return self.verb in _OPENAI


class EngineRelay:
    """Relays calls to one engine through one pool of connections."""

    def __init__(self, limits: RelayLimits | None = None) -> None:
        self.limits = limits or RelayLimits()
        pool = PoolLimits(keepalive_s=_KEEPALIVE_S)
        self._forwarder = Forwarder(deadlines=self.limits.engine, pool=pool)

    def __repr__(self) -> str:
        return f"EngineRelay({self._forwarder!r})"

    async def close(self) -> None:
        """Close the connections to the engine."""
        await self._forwarder.close()

    # ------------------------------------------------------------ steps that translation shares

    async def read(self, call: Call) -> bytes:
        """Return the whole body of a call whose content has to be looked at."""
        body = self.limits.body
        small = BodyLimits(
            max_bytes=min(self.limits.unsized_bytes, body.max_bytes),
            total_s=body.total_s,
            min_bytes_per_s=body.min_bytes_per_s,
            grace_s=body.grace_s,
        )
        return await read_body(call.request, small)

    @asynccontextmanager
    async def ask(
        self,
        call: Call,
        body: bytes | AsyncIterator[bytes],
        *,
        headers: Mapping[str, str],
        length: int | None = None,
    ) -> AsyncIterator[Upstream]:
        """Send a call to the engine; failures before the answer begins become Refusals."""
        outgoing = Outgoing(
            method=call.request.method,
            url=call.route.url,
            headers=headers,
            body=body,
            length=length,
        )
        try:
            async with self._forwarder.send(outgoing) as upstream:
                yield upstream
        except ForwardError as error:
            call.doubt(str(error))
            raise _failed(error) from None

    async def fail(
        self, call: Call, upstream: Upstream, *, render: Callable[[bytes, int], bytes] | None = None
    ) -> StreamResponse:
        """Return the engine's error answer, with what it means for the router.

        `render` makes the body from the engine's and the status.
        """
        start, rest = await _peek(upstream, lambda _: False)
        verdict = judge(upstream.status, start)
        if verdict.doubt:
            call.doubt(f"answered {upstream.status}: {_first_words(start)}")
        headers = response_headers(upstream.headers)
        headers.update(outcome_headers(refused=verdict.refused, unknown=verdict.unknown))
        if verdict.refused:
            headers.update(error_headers(Unavailable("")))
        status = 503 if verdict.refused else verdict.status or upstream.status
        if len(start) >= WINDOW_BYTES:
            long = StreamResponse(status=status, headers=headers)
            return await self.pump(call, long, _again(start, rest))
        body = call.naming.in_text(start) if call.naming else start
        if render:
            body = render(body, status)
        return Response(status=status, headers=headers, body=body)

    async def pump(
        self, call: Call, response: StreamResponse, chunks: AsyncGenerator[bytes, None]
    ) -> StreamResponse:
        """Send an answer piece by piece; one that breaks off upstream breaks off here, visibly."""

        async def send() -> None:
            async with aclosing(chunks):
                async for chunk in chunks:
                    await write(call.request, response, chunk, self.limits.stall_s)

        return await self._answer(call, response, send)

    async def _pass_on(
        self, call: Call, response: StreamResponse, upstream: Upstream
    ) -> StreamResponse:
        """Send an answer as it is, likewise; a router that keeps up is not waited for."""

        async def send() -> None:
            while (wait := await upstream.pour(response.put)) is not None:
                await taken(call.request, wait, self.limits.stall_s)

        return await self._answer(call, response, send)

    async def _answer(
        self, call: Call, response: StreamResponse, send: Callable[[], Awaitable[None]]
    ) -> StreamResponse:
        response.headers[LOAD_HEADER] = str(call.load())
        try:
            await response.prepare(call.request)
            await send()
        except ForwardError as error:
            call.doubt(f"broke off its answer: {error}")
            break_off(call.request)
        except (ConnectionError, FederationError):
            break_off(call.request)  # the router is gone, or broke off its own request
        return response

    # ------------------------------------------------------------ the native path

    async def relay(self, call: Call) -> StreamResponse:
        """Relay a call whose engine speaks the client's dialect; raises Refusal."""
        body, length = await self._body(call)
        own = {"Accept-Encoding": "identity"} if call.naming else {}
        headers = request_headers(call.request.headers, {**(call.route.headers or {}), **own})
        async with self.ask(call, body, headers=headers, length=length) as upstream:
            if upstream.status >= 400:
                return await self.fail(call, upstream)
            naming = call.naming
            if naming and upstream.headers.get("Content-Encoding", "identity") == "identity":
                return await self._renamed(call, upstream, naming)
            response = StreamResponse(
                status=upstream.status, headers=response_headers(upstream.headers)
            )
            response.content_length = content_length(upstream.headers)
            return await self._pass_on(call, response, upstream)

    async def _body(self, call: Call) -> tuple[bytes | AsyncIterator[bytes], int | None]:
        """Return the body as it goes to the engine: never chunked, whatever the router sent.

        Floods of tiny chunks have broken engines; a length they all understand.
        """
        if call.request.method == "GET":
            return b"", None
        if call.openai:
            return _named(await self.read(call), call.route.engine_model or call.model), None
        request, limits = call.request, self.limits
        check_length(request, limits.body)
        length = request.head.length
        if length > _WHOLE_BYTES:
            return iter_body(request, limits.body), length
        if request.head.chunked:
            try:
                return await self.read(call), None
            except TooLarge:
                raise TooLarge(
                    f"A body without a length may have {limits.unsized_bytes} bytes.",
                    hint="Send Content-Length.",
                ) from None
        return await read_body(request, limits.body), None

    async def _renamed(self, call: Call, upstream: Upstream, naming: Naming) -> StreamResponse:
        headers = response_headers(upstream.headers)
        if headers.get("Content-Type", "").startswith("text/event-stream"):
            response = StreamResponse(status=upstream.status, headers=headers)
            return await self.pump(call, response, naming.in_events(upstream.chunks()))
        if call.verb is Verb.METADATA:
            return await self._metadata(call, upstream, naming)
        length = content_length(upstream.headers)
        announced = headers.get(INFERENCE_HEADER_LENGTH)
        json_bytes = int(announced) if announced and announced.isdecimal() else None
        head, chunks = await _peek(upstream, naming.is_decided, json_bytes)
        document = head[:json_bytes]
        tensors = head[len(document) :]
        renamed = naming.in_head(document)
        grown = len(renamed) - len(document)
        if json_bytes is not None:
            headers[INFERENCE_HEADER_LENGTH] = str(json_bytes + grown)
        response = StreamResponse(status=upstream.status, headers=headers)
        response.content_length = None if length is None else length + grown
        return await self.pump(call, response, _again(renamed + tensors, chunks))

    async def _metadata(self, call: Call, upstream: Upstream, naming: Naming) -> Response:
        body = await upstream.read(_DOCUMENT_BYTES)
        try:
            renamed = naming.in_metadata(body or b"")
        except ValueError:
            raise Refusal(BadUpstream("The engine's metadata is not a JSON object.")) from None
        headers = response_headers(upstream.headers)
        headers[LOAD_HEADER] = str(call.load())
        return Response(status=upstream.status, headers=headers, body=renamed)


async def _peek(
    upstream: Upstream, enough: Callable[[bytes], bool], limit: int | None = None
) -> tuple[bytes, AsyncIterator[bytes]]:
    """Read the start of an answer until `enough` of it is there; return it and the rest."""
    chunks, start = upstream.chunks(), b""
    window = WINDOW_BYTES if limit is None else min(limit, WINDOW_BYTES)
    async for chunk in chunks:
        start += chunk
        if len(start) >= window or enough(start):
            break
    return start, chunks


async def _again(start: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if start:
        yield start
    async for chunk in rest:
        yield chunk


def _named(body: bytes, name: str) -> bytes:
    """Return an OpenAI body that asks for the model by `name`, which is all the engine knows."""
    try:
        document = json.loads(body.decode())  # UTF-8 alone: json would guess UTF-16 and UTF-32 too
        twice = says_twice(body, "model")
    except (ValueError, RecursionError, msgspec.DecodeError):
        raise Invalid("The request's body is not JSON.", hint="Send a JSON object.") from None
    if not isinstance(document, dict) or twice:
        raise Invalid("The body is no JSON object that names one model.", hint="Send such a one.")
    if document.get("model") == name:
        return body
    return json.dumps({**document, "model": name}).encode()


def _failed(error: ForwardError) -> Refusal:
    if not error.may_have_run:
        gone = Unavailable(f"The engine of this cluster does not answer: {error}.")
        return Refusal(gone, refused="engine-down")
    if isinstance(error, TimedOut):
        late = DeadlineExceeded(f"The engine of this cluster gave {error}.")
        return Refusal(late, unknown=True)
    broken = BadUpstream(f"The engine of this cluster broke off: {error}.")
    return Refusal(broken, unknown=True)


def _first_words(body: bytes) -> str:
    return " ".join(body[:300].decode(errors="replace").split())
