"""The answers of a text model, in the dialect of the question.

Input: a GenerateCall and the pieces of text as the model makes them, one per token (a piece may be
empty while a stop sequence might be beginning). Output: the bytes of a stream, event by event, or
headers and body of one whole answer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.serving import sse
from edge_agent.serving.text import GenerateCall, TextDialect, error_body
from edge_agent.serving.v2_terms import InferRequest, Tensor

TEXT_OUTPUT = Tensor(name="text_output", datatype="BYTES", shape=(1,))


@dataclass(frozen=True, slots=True)
class Stamp:
    """What makes an answer unique: its id and the time it was made, in seconds since 1970."""

    id: str
    created_s: int


class TextReply:
    """Writes one answer. Give it every piece, then call end() for a stream or whole()."""

    def __init__(self, call: GenerateCall, stamp: Stamp) -> None:
        self._call = call
        self._stamp = stamp
        self._pieces: list[str] = []

    def __repr__(self) -> str:
        return f"TextReply({self._call.dialect}, {len(self._pieces)} tokens)"

    @property
    def finish_reason(self) -> str:
        """Return "length" if all the tokens allowed were used, else "stop"."""
        return "length" if len(self._pieces) >= self._call.max_tokens else "stop"

    def begin(self) -> bytes:
        """Return what a stream opens with; may be empty."""
        if self._call.dialect is TextDialect.CHAT:
            return self._event(self._chunk({"role": "assistant", "content": ""}, None))
        return b""

    def piece(self, text: str) -> bytes:
        """Take the next token's text and return its event; empty if there is nothing to show."""
        self._pieces.append(text)
        if not text or not self._call.stream:
            return b""
        if not self._call.dialect.openai:
            return self._event(self._v2(text))
        delta = {"content": text} if self._call.dialect is TextDialect.CHAT else text
        return self._event(self._chunk(delta, None))

    def end(self, prompt_tokens: int = 0) -> bytes:
        """Return what a stream closes with."""
        if not self._call.dialect.openai:
            return b""
        delta = {} if self._call.dialect is TextDialect.CHAT else ""
        closing = self._event(self._chunk(delta, self.finish_reason))
        if self._call.include_usage:
            usage = {
                **self._envelope(chunk=True),
                "choices": [],
                "usage": self._usage(prompt_tokens),
            }
            closing += self._event(usage)
        return closing + sse.frame(sse.DONE)

    def failed(self, message: str) -> bytes:
        """Return the event that tells of a failure in the middle of a stream."""
        return sse.frame(error_body(self._call.dialect, message, status=500).decode())

    def whole(self, prompt_tokens: int = 0) -> tuple[dict[str, str], bytes]:
        """Return headers and body of the answer in one part."""
        text, call = "".join(self._pieces), self._call
        if call.dialect is TextDialect.INFER:
            return self._tensor(text)
        document = self._v2(text)
        if call.dialect.openai:
            chat = call.dialect is TextDialect.CHAT
            content = (
                {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            )
            choice = {"index": 0, **content, "logprobs": None, "finish_reason": self.finish_reason}
            document = {
                **self._envelope(chunk=False),
                "choices": [choice],
                "usage": self._usage(prompt_tokens),
            }
        return {"content-type": "application/json"}, json.dumps(document).encode()

    def _tensor(self, text: str) -> tuple[dict[str, str], bytes]:
        from edge_agent.serving.v2 import as_array, encode_infer  # they bring NumPy

        return encode_infer(
            self._call.infer or InferRequest(),
            [(TEXT_OUTPUT, as_array([text.encode()]))],
            model=self._call.model,
            version=self._call.version,
        )

    def _v2(self, text: str) -> dict[str, Any]:
        call = self._call
        return {"model_name": call.model, "model_version": call.version, "text_output": text}

    def _chunk(self, delta: object, finish_reason: str | None) -> dict[str, Any]:
        key = "delta" if self._call.dialect is TextDialect.CHAT else "text"
        choice = {"index": 0, key: delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._envelope(chunk=True), "choices": [choice]}
        return {**chunk, "usage": None} if self._call.include_usage else chunk

    def _envelope(self, *, chunk: bool) -> dict[str, Any]:
        chat = self._call.dialect is TextDialect.CHAT
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if chat else ""
        return {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self._stamp.id}",
            "object": kind or "text_completion",
            "created": self._stamp.created_s,
            "model": self._call.model,
        }

    def _usage(self, prompt_tokens: int) -> dict[str, int]:
        made = len(self._pieces)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": made,
            "total_tokens": prompt_tokens + made,
        }

    def _event(self, document: Mapping[str, Any]) -> bytes:
        return sse.frame(json.dumps(document))
