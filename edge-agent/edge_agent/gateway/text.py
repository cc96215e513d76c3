"""Text in five dialects, for an engine that knows only one.

Input: a Call for generate, generate_stream, infer or one of OpenAI's paths, to a text model of
Triton, which offers only a stream of `text_output`. Output: the answer in the client's dialect,
each event as soon as the engine's comes. An error inside the engine's stream is told inside ours;
before the first token it still has a status.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from edge_agent.gateway.relay import Call, EngineRelay, Refusal, outcome_headers
from edge_agent.gateway.verdict import Verdict, judge
from edge_agent.serving import sse
from edge_agent.serving.text import BadText, GenerateCall, TextDialect, error_body, parse_text
from edge_agent.serving.text_reply import Stamp, TextReply
from edge_agent.serving.v2_terms import BadRequest
from federation.relay.errors import BadUpstream
from federation.relay.forward import Upstream
from federation.relay.headers import INFERENCE_HEADER_LENGTH, request_headers
from federation.relay.http1.messages import Response, StreamResponse

_ASKS = {"Content-Type": "application/json", "Accept": sse.CONTENT_TYPE}


class EngineSaidNo(Exception):
    """The engine's stream ended with an error; the argument is its text."""


async def translate(relay: EngineRelay, call: Call, stamp: Stamp) -> StreamResponse:
    """Answer a text call by the engine's stream; raises Refusal and FederationError."""
    dialect = TextDialect(call.verb.value)
    headers = {name.lower(): value for name, value in call.request.headers.items()}
    try:
        if headers.get("content-encoding", "identity") != "identity":
            raise BadText("compressed bodies are not supported", status=415)
        wish = parse_text(
            dialect,
            headers,
            await relay.read(call),
            model=call.model,
            version=str(call.version),
        )
    except BadRequest as error:
        return _refusal(dialect, error)
    wish = replace(wish, model=call.model)  # not by the alias that the client used: as engines do
    passed = request_headers(call.request.headers, {**(call.route.headers or {}), **_ASKS})
    passed.popall(INFERENCE_HEADER_LENGTH, None)
    passed.popall("Accept-Encoding", None)
    async with relay.ask(call, _engine_body(wish), headers=passed) as upstream:
        if upstream.status >= 400:
            return await relay.fail(
                call, upstream, render=lambda body, status: _in_dialect(dialect, body, status)
            )
        if not upstream.headers.get("Content-Type", "").startswith(sse.CONTENT_TYPE):
            raise Refusal(BadUpstream("The engine did not answer with a stream."), unknown=True)
        translation = _Translation(call, wish, TextReply(wish, stamp))
        async with aclosing(translation.pieces(upstream)) as pieces:
            return await translation.answer(relay, pieces)


class _Translation:
    """One answer on its way from the engine's dialect to the client's."""

    def __init__(self, call: Call, wish: GenerateCall, reply: TextReply) -> None:
        self._call = call
        self._wish = wish
        self._reply = reply
        self._prompt_tokens = 0

    async def pieces(self, upstream: Upstream) -> AsyncGenerator[str, None]:
        """Yield one piece of text a token; raises EngineSaidNo, ForwardError."""
        reader = sse.EventReader()
        async with aclosing(upstream.chunks()) as chunks:
            async for chunk in chunks:
                for data in _read(reader, chunk):
                    yield self._piece(data)

    def _piece(self, data: str) -> str:
        try:
            event = json.loads(data)
        except ValueError:
            raise EngineSaidNo("the engine sent an event that is not JSON") from None
        if not isinstance(event, dict) or not isinstance(event.get("text_output"), str):
            said = event.get("error") if isinstance(event, dict) else None
            raise EngineSaidNo(str(said or "the engine sent an event without text"))
        count = event.get("prompt_tokens", 0)
        self._prompt_tokens += count if isinstance(count, int) else 0
        return str(event["text_output"])

    async def answer(self, relay: EngineRelay, pieces: AsyncGenerator[str, None]) -> StreamResponse:
        """Return the answer, whole or as a stream."""
        reply = self._reply
        try:
            first = await anext(pieces, None)
            if not self._wish.stream:
                if first is not None:
                    reply.piece(first)
                async for piece in pieces:
                    reply.piece(piece)
                headers, body = reply.whole(self._prompt_tokens)
                return Response(headers=headers, body=body)
        except EngineSaidNo as error:
            return self._said_no(error)
        headers = {"Content-Type": sse.CONTENT_TYPE, "Cache-Control": "no-cache"}
        response = StreamResponse(headers=headers)
        return await relay.pump(self._call, response, self._events(first, pieces))

    async def _events(
        self, first: str | None, rest: AsyncIterator[str]
    ) -> AsyncGenerator[bytes, None]:
        reply = self._reply
        opening = reply.begin() + (reply.piece(first) if first is not None else b"")
        if opening:
            yield opening
        try:
            async for piece in rest:
                if event := reply.piece(piece):
                    yield event
        except EngineSaidNo as error:
            self._judge(error)
            yield reply.failed(self._ours(error))
            return
        if closing := reply.end(self._prompt_tokens):
            yield closing

    def _said_no(self, error: EngineSaidNo) -> Response:
        verdict = self._judge(error)
        status = 503 if verdict.refused else 500
        return Response(
            status=status,
            body=error_body(self._wish.dialect, self._ours(error), status=status),
            content_type="application/json",
            headers=outcome_headers(refused=verdict.refused, unknown=verdict.unknown),
        )

    def _judge(self, error: EngineSaidNo) -> Verdict:
        verdict = judge(500, json.dumps({"error": str(error)}).encode())
        if verdict.doubt:
            self._call.doubt(str(error)[:300])
        return verdict

    def _ours(self, error: EngineSaidNo) -> str:
        naming = self._call.naming
        return naming.in_text(str(error).encode()).decode() if naming else str(error)


def _read(reader: sse.EventReader, chunk: bytes) -> list[str]:
    try:
        return reader.feed(chunk)
    except ValueError as error:
        raise EngineSaidNo(f"the engine broke the stream: {error}") from None


def _engine_body(wish: GenerateCall) -> bytes:
    """Return the body of Triton's generate_stream; fields become tensors of those names."""
    fields: dict[str, Any] = {
        "text_input": wish.prompt,
        "max_tokens": wish.max_tokens,
        "temperature": wish.temperature,
    }
    if wish.seed is not None:
        fields["seed"] = wish.seed
    if wish.stop:
        fields["stop"] = list(wish.stop)
    return json.dumps(fields).encode()


def _in_dialect(dialect: TextDialect, body: bytes, status: int) -> bytes:
    """Return the engine's V2 error document as the client's dialect has it."""
    if not dialect.openai:
        return body.removeprefix(b"data: ")
    try:
        said = json.loads(body.removeprefix(b"data: "))["error"]  # Triton's first event, or all
    except (ValueError, KeyError, TypeError):
        said = body.decode(errors="replace")
    return error_body(dialect, str(said), status=status)


def _refusal(dialect: TextDialect, error: BadRequest) -> Response:
    param, code = getattr(error, "param", None), getattr(error, "code", None)
    body = error_body(dialect, error.message, status=error.status, param=param, code=code)
    return Response(status=error.status, body=body, content_type="application/json")
