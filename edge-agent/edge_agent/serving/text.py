"""What clients ask of a text model, in five dialects, as one GenerateCall.

Input: the body of a V2 generate, generate_stream or infer request, of an OpenAI completion or of an
OpenAI chat completion. Output: a GenerateCall, or BadText with its HTTP status. The answers are
written by text_reply. The gateway uses both for engines that know only one dialect.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edge_agent.serving.v2_terms import BadRequest, InferRequest, parse_object

if TYPE_CHECKING:
    from edge_agent.serving.v2_terms import Array

DEFAULT_MAX_TOKENS = 128
DEFAULT_COMPLETION_TOKENS = 16  # what OpenAI's older endpoint does
LARGEST_MAX_TOKENS = 32_768
_MOST_STOPS = 16
# Wishes that would change the answer and that we cannot fulfil: refused, never ignored.
_REFUSED = {"n": 1, "best_of": 1, "echo": False, "logprobs": False, "suffix": "", "tools": []}


class TextDialect(StrEnum):
    """Which request and answer format a client speaks."""

    GENERATE = "generate"
    GENERATE_STREAM = "generate_stream"
    INFER = "infer"
    COMPLETIONS = "completions"
    CHAT = "chat"

    @property
    def openai(self) -> bool:
        """Whether errors and answers have OpenAI's shapes."""
        return self in (TextDialect.COMPLETIONS, TextDialect.CHAT)


class BadText(BadRequest):
    """A text request that cannot be served; `param` and `code` as in OpenAI's error object."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message, status=status)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateCall:
    """One wish for text, whatever the dialect. `model` is the name that the answer shall carry."""

    dialect: TextDialect
    prompt: str
    model: str
    version: str
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    infer: InferRequest | None = None  # of the infer dialect: decides the form of the answer


def parse_text(
    dialect: TextDialect, headers: Mapping[str, str], body: bytes, *, model: str, version: str
) -> GenerateCall:
    """Parse a request of `dialect`; `headers` have lower-case names. Raises BadText."""
    try:
        if dialect is TextDialect.INFER:
            from edge_agent.serving.v2 import parse_infer  # it brings NumPy

            return _from_infer(parse_infer(headers, body), model, version)
        document = parse_object(body)
    except BadText:
        raise
    except BadRequest as error:
        raise BadText(error.message, status=error.status) from None
    if dialect.openai:
        return _from_openai(dialect, document, model, version)
    return _from_generate(dialect, document, model, version)


def error_body(
    dialect: TextDialect,
    message: str,
    *,
    status: int,
    param: str | None = None,
    code: str | None = None,
) -> bytes:
    """Return a JSON error in the shape that clients of the dialect understand."""
    if not dialect.openai:
        return json.dumps({"error": message}).encode()
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}).encode()


def _from_generate(
    dialect: TextDialect, document: Mapping[str, Any], model: str, version: str
) -> GenerateCall:
    nested = document.get("parameters", {})
    if not isinstance(nested, dict):
        raise BadText("'parameters' must be an object", param="parameters")
    options = {**nested, **document}
    key = "text_input" if "text_input" in options else "prompt"
    if not isinstance(options.get(key), str):
        raise BadText("'text_input' must be a string", param="text_input")
    return GenerateCall(
        dialect=dialect,
        prompt=options[key],
        model=model,
        version=version,
        stream=dialect is TextDialect.GENERATE_STREAM,
        **_settings(options, DEFAULT_MAX_TOKENS),
    )


def _from_infer(request: InferRequest, model: str, version: str) -> GenerateCall:
    if unknown := [name for name in request.outputs if name != "text_output"]:
        raise BadText(f"unexpected output '{unknown[0]}'; the model gives 'text_output'")
    call = call_from_tensors(request.inputs, request.parameters, model=model, version=version)
    return replace(call, infer=request)


def call_from_tensors(
    inputs: "Mapping[str, Array]", parameters: Mapping[str, Any], *, model: str, version: str
) -> GenerateCall:
    """Return the call that tensors describe, `parameters` standing in for missing ones."""
    options: dict[str, Any] = dict(parameters)
    for name, array in inputs.items():
        values = [_plain(value) for value in array.flat]
        options[name] = values[0] if len(values) == 1 and name != "stop" else values
    key = "text_input" if "text_input" in options else "prompt"
    if not isinstance(options.get(key), str):
        raise BadText("input 'text_input' must be one BYTES element", param="text_input")
    return GenerateCall(
        dialect=TextDialect.INFER,
        prompt=options[key],
        model=model,
        version=version,
        **_settings(options, DEFAULT_MAX_TOKENS),
    )


def _plain(value: Any) -> Any:
    """Return a tensor's element as a str, int, float or bool."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else value.item()


def _from_openai(
    dialect: TextDialect, document: Mapping[str, Any], model: str, version: str
) -> GenerateCall:
    for key, allowed in _REFUSED.items():
        if document.get(key) not in (None, allowed):
            raise BadText(f"'{key}' is not supported", param=key, code="unsupported_parameter")
    chat = dialect is TextDialect.CHAT
    options = dict(document)
    if chat and options.get("max_completion_tokens") is not None:
        options["max_tokens"] = options["max_completion_tokens"]
    asked = document.get("stream_options")
    asked_usage = isinstance(asked, dict) and asked.get("include_usage") is True
    name = document.get("model")
    return GenerateCall(
        dialect=dialect,
        prompt=chat_prompt(document.get("messages")) if chat else _prompt(document.get("prompt")),
        model=name if isinstance(name, str) and name else model,
        version=version,
        stream=document.get("stream") is True,
        include_usage=asked_usage,
        **_settings(options, DEFAULT_MAX_TOKENS if chat else DEFAULT_COMPLETION_TOKENS),
    )


def chat_prompt(messages: object) -> str:
    """Return a chat as plain text, one "role: content" a line, ending where the model goes on."""
    if not isinstance(messages, list) or not messages:
        raise BadText("'messages' must be a list with at least one message", param="messages")
    lines = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadText(f"'{where}' needs a role", param=where)
        lines.append(f"{message['role']}: {_content(message.get('content'), where)}")
    return "\n".join([*lines, "assistant:"])


def _content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    if len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        raise BadText(f"'{where}.content' must be text", param=f"{where}.content")
    return "".join(str(text) for text in texts)


def _prompt(prompt: object) -> str:
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise BadText("'prompt' must be one string", param="prompt")
    return prompt


def _settings(options: Mapping[str, Any], default_tokens: int) -> dict[str, Any]:
    """Return the fields of a GenerateCall that mean the same in all dialects."""
    return {
        "max_tokens": int(_number(options, "max_tokens", default_tokens, 1, LARGEST_MAX_TOKENS)),
        "temperature": float(_number(options, "temperature", 1.0, 0, 2)),
        "seed": _seed(options.get("seed")),
        "stop": _stops(options.get("stop")),
    }


def _number(
    options: Mapping[str, Any], key: str, default: float, low: float, high: float
) -> int | float:
    value = options.get(key)
    if value is None:
        return default
    whole = isinstance(default, int)
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise BadText(f"'{key}' must be a {'whole ' * whole}number from {low} to {high}", param=key)
    return value


def _seed(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise BadText("'seed' must be a whole number that is not negative", param="seed")
    return value


def _stops(value: object) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS:
        raise BadText(f"'stop' must be a string or at most {_MOST_STOPS} strings", param="stop")
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise BadText("'stop' must hold strings that are not empty", param="stop")
    return tuple(stops)
