"""One model version as an HTTP application: Open Inference Protocol V2, and OpenAI for text.

Input: method, path, headers and body of a request. Output: a Reply. No server here: ray_app puts
this behind Ray Serve, tests call it directly. A stream ends the model's work when it is closed.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from edge_agent.serving import sse
from edge_agent.serving.generation import generate
from edge_agent.serving.models import TensorModel, TextModel, count_tokens
from edge_agent.serving.package import TEXT, ServedPackage
from edge_agent.serving.text import BadText, TextDialect, error_body, parse_text
from edge_agent.serving.text_reply import TEXT_OUTPUT, Stamp, TextReply
from edge_agent.serving.v2 import Array, check_inputs, check_outputs, encode_infer, parse_infer
from edge_agent.serving.v2_terms import BadRequest, Tensor

log = logging.getLogger(__name__)

TEXT_INPUT = Tensor(name="text_input", datatype="BYTES", shape=(1,))
_JSON = {"content-type": "application/json"}
_MODEL_PATH = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>\d+))?"
    r"(?:/(?P<verb>ready|infer|generate|generate_stream))?"
)
_OPENAI_PATHS = {
    "/v1/completions": TextDialect.COMPLETIONS,
    "/v1/chat/completions": TextDialect.CHAT,
}
_STREAMS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; a body that is an iterator is sent as it comes."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes]


class App:
    """Serves one loaded model."""

    def __init__(self, package: ServedPackage, model: TensorModel | TextModel) -> None:
        self._package = package
        self._model = model
        self._is_text = package.protocol == TEXT
        # A tensor model is never called twice at once; each stream of a text model may wait for its
        # next token in a thread of its own.
        threads = _STREAMS_AT_ONCE if self._is_text else 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="model")

    def __repr__(self) -> str:
        return f"App({self._package.name} version {self._package.version})"

    async def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        """Answer one request; `headers` have lower-case names. Never raises for a bad request."""
        dialect = _OPENAI_PATHS.get(path)
        try:
            _refuse_compression(headers)
            if dialect:
                return await self._text(_demand(method, "POST", dialect), headers, body)
            return await self._v2(method, path, headers, body)
        except BadRequest as error:
            return _refusal(dialect or TextDialect.GENERATE, error)
        except Exception as error:
            log.exception("%s %s failed", method, path)
            message = f"the model failed: {_one_line(error)}"
            failure = error_body(dialect or TextDialect.GENERATE, message, status=500)
            return Reply(500, _JSON, failure)

    async def _v2(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        if path in ("/v2/health/live", "/v2/health/ready"):
            return _json({path.rpartition("/")[2]: True})
        package, match = self._package, _MODEL_PATH.fullmatch(path)
        if match is None:
            raise BadRequest(f"there is no path {path}", status=404)
        if match["model"] != package.name or match["version"] not in (None, str(package.version)):
            wanted = f"{match['model']!r} version {match['version'] or '(any)'}"
            here = f"{package.name!r} version {package.version}"
            raise BadRequest(f"there is no model {wanted} here, only {here}", status=404)
        verb = match["verb"]
        if verb is None:
            return _json(self._metadata())
        if verb == "ready":
            return _json({"name": package.name, "ready": True})
        dialect = _demand(method, "POST", TextDialect(verb))
        if self._is_text:
            return await self._text(dialect, headers, body)
        if dialect is not TextDialect.INFER:
            raise BadRequest(f"{package.name!r} answers tensors, not text: use infer", status=404)
        return await self._infer(headers, body)

    def _metadata(self) -> dict[str, Any]:
        package = self._package
        inputs = [TEXT_INPUT] if self._is_text else package.inputs
        outputs = [TEXT_OUTPUT] if self._is_text else package.outputs
        return {
            "name": package.name,
            "versions": [str(package.version)],
            "platform": package.runtime,
            "inputs": [_described(tensor) for tensor in inputs],
            "outputs": [_described(tensor) for tensor in outputs],
        }

    async def _infer(self, headers: Mapping[str, str], body: bytes) -> Reply:
        package = self._package
        request = parse_infer(headers, body)
        check_inputs(request, package.inputs)
        check_outputs(request, package.outputs)
        model, loop = cast("TensorModel", self._model), asyncio.get_running_loop()
        arrays = await loop.run_in_executor(self._threads, model.infer, dict(request.inputs))
        wanted = [t for t in package.outputs if not request.outputs or t.name in request.outputs]
        outputs: list[tuple[Tensor, Array]] = [(tensor, arrays[tensor.name]) for tensor in wanted]
        reply = encode_infer(request, outputs, model=package.name, version=str(package.version))
        return Reply(200, *reply)

    async def _text(self, dialect: TextDialect, headers: Mapping[str, str], body: bytes) -> Reply:
        package = self._package
        if not self._is_text:
            raise BadText(f"'{package.name}' answers tensors, not text", param="model", status=404)
        call = parse_text(dialect, headers, body, model=package.name, version=str(package.version))
        model = cast("TextModel", self._model)
        reply = TextReply(call, Stamp(uuid.uuid4().hex, _now_s()))
        pieces = self._pieces(generate(model, call))
        prompt_tokens = count_tokens(model, call.prompt)
        if not call.stream:
            async for piece in pieces:
                reply.piece(piece)
            return Reply(200, *reply.whole(prompt_tokens))
        # Wait for the first token: what fails before it is an error with a status, not a stream.
        first = await anext(pieces, None)
        stream = self._stream(reply, first, pieces, prompt_tokens)
        return Reply(200, {"content-type": sse.CONTENT_TYPE, "cache-control": "no-cache"}, stream)

    async def _stream(
        self,
        reply: TextReply,
        first: str | None,
        rest: AsyncGenerator[str, None],
        prompt_tokens: int,
    ) -> AsyncIterator[bytes]:
        try:
            async with aclosing(rest):
                yield reply.begin() + (reply.piece(first) if first is not None else b"")
                async for piece in rest:
                    if event := reply.piece(piece):
                        yield event
            if closing := reply.end(prompt_tokens):
                yield closing
        except Exception as error:
            log.exception("a stream failed")
            yield reply.failed(f"the model failed: {_one_line(error)}")

    async def _pieces(self, tokens: Iterator[str]) -> AsyncGenerator[str, None]:
        """Draw each token in a thread; when nobody listens any more, close the model's iterator."""
        loop = asyncio.get_running_loop()
        step: asyncio.Future[str | None] | None = None
        try:
            while True:
                step = loop.run_in_executor(self._threads, next, tokens, None)
                piece = await asyncio.shield(step)
                if piece is None:
                    return
                yield piece
        finally:
            if step is None or step.done():
                _close(tokens)
            else:  # a generator cannot be closed while a thread is inside of it
                step.add_done_callback(lambda _: _close(tokens))


def _close(tokens: Iterator[str]) -> None:
    close = getattr(tokens, "close", None)
    if close is not None:
        close()


def _refuse_compression(headers: Mapping[str, str]) -> None:
    if headers.get("content-encoding", "identity") != "identity":
        raise BadRequest("compressed bodies are not supported", status=415)


def _demand(method: str, wanted: str, dialect: TextDialect) -> TextDialect:
    if method != wanted:
        raise BadRequest(f"use {wanted}, not {method}", status=405)
    return dialect


def _refusal(dialect: TextDialect, error: BadRequest) -> Reply:
    param, code = getattr(error, "param", None), getattr(error, "code", None)
    body = error_body(dialect, error.message, status=error.status, param=param, code=code)
    return Reply(error.status, _JSON, body)


def _json(document: Mapping[str, Any]) -> Reply:
    return Reply(200, _JSON, json.dumps(document).encode())


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _now_s() -> int:
    return int(time.time())  # noqa: TID251 - travels to engines, without federation.runtime.clock
