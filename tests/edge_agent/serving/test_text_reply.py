import json
from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from edge_agent.serving.sse import EventReader
from edge_agent.serving.text import GenerateCall, TextDialect
from edge_agent.serving.text_reply import Stamp, TextReply
from edge_agent.serving.v2 import parse_infer
from edge_agent.serving.v2_terms import HEADER_LENGTH

PIECES = ["Hel", "", "lo"]


def reply(dialect: TextDialect, **rest: Any) -> TextReply:
    call = GenerateCall(dialect=dialect, prompt="p", model="m", version="2", **rest)
    return TextReply(call, Stamp("abc", 1_700_000_000))


def stream(of: TextReply) -> list[str]:
    wire = [of.begin(), *(of.piece(text) for text in PIECES), of.end(prompt_tokens=4)]
    return EventReader().feed(b"".join(wire))


def test_chat_stream_is_what_the_sdk_expects() -> None:
    asked = reply(TextDialect.CHAT, stream=True, include_usage=True, max_tokens=3)
    *events, done = stream(asked)
    assert done == "[DONE]"
    chunks = [ChatCompletionChunk.model_validate_json(event, strict=True) for event in events]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "Hello"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 4 + 3
    assert {c.id for c in chunks} == {"chatcmpl-abc"}


def test_completion_stream_is_what_the_sdk_expects() -> None:
    *events, done = stream(reply(TextDialect.COMPLETIONS, stream=True))
    chunks = [json.loads(event) for event in events]
    assert done == "[DONE]"
    assert [c["choices"][0]["text"] for c in chunks] == ["Hel", "lo", ""]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None, None, "stop"]
    assert all(c["object"] == "text_completion" and "usage" not in c for c in chunks)


def test_generate_stream_has_one_event_per_visible_piece() -> None:
    events = [json.loads(e) for e in stream(reply(TextDialect.GENERATE_STREAM, stream=True))]
    assert [event["text_output"] for event in events] == ["Hel", "lo"]
    assert events[0] == {"model_name": "m", "model_version": "2", "text_output": "Hel"}


def whole(of: TextReply) -> tuple[dict[str, str], bytes]:
    assert all(of.piece(text) == b"" for text in PIECES)
    return of.whole(prompt_tokens=4)


def test_whole_answers_validate_as_the_sdk_s_types() -> None:
    _, body = whole(reply(TextDialect.CHAT))
    chat = ChatCompletion.model_validate_json(body)
    assert chat.choices[0].message.content == "Hello"
    assert chat.choices[0].finish_reason == "stop"
    _, body = whole(reply(TextDialect.COMPLETIONS, max_tokens=3))
    completion = Completion.model_validate_json(body)
    assert (completion.choices[0].text, completion.choices[0].finish_reason) == ("Hello", "length")
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 4


def test_generate_answers_in_v2_words() -> None:
    headers, body = whole(reply(TextDialect.GENERATE))
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["text_output"] == "Hello"


def test_infer_answers_with_a_tensor_in_the_form_asked_for() -> None:
    head = json.dumps({"id": "9", "parameters": {"binary_data_output": True}}).encode()
    headers, body = whole(reply(TextDialect.INFER, infer=parse_infer({}, head)))
    length = int(headers[HEADER_LENGTH])
    assert json.loads(body[:length])["id"] == "9"
    assert body[length:] == b"\x05\x00\x00\x00Hello"


def test_a_failure_in_the_middle_is_an_error_event() -> None:
    event = EventReader().feed(reply(TextDialect.CHAT, stream=True).failed("broke"))[0]
    assert json.loads(event)["error"]["message"] == "broke"
    assert repr(reply(TextDialect.CHAT)) == "TextReply(chat, 0 tokens)"
