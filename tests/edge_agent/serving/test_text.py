import json
from typing import Any

import pytest

from edge_agent.serving.text import BadText, GenerateCall, TextDialect, error_body, parse_text


def parse(dialect: TextDialect, document: Any) -> GenerateCall:
    return parse_text(dialect, {}, json.dumps(document).encode(), model="m", version="2")


def test_generate_takes_settings_beside_the_prompt_or_in_parameters() -> None:
    beside = {"text_input": "hi", "max_tokens": 3, "temperature": 0.5, "seed": 7, "stop": "x"}
    nested = {"text_input": "hi", "parameters": {k: beside[k] for k in beside if k != "text_input"}}
    call = parse(TextDialect.GENERATE, beside)
    assert call == parse(TextDialect.GENERATE, nested)
    assert (call.prompt, call.max_tokens, call.temperature) == ("hi", 3, 0.5)
    assert (call.seed, call.stop, call.stream) == (7, ("x",), False)
    assert (call.model, call.version) == ("m", "2")


def test_generate_stream_streams() -> None:
    assert parse(TextDialect.GENERATE_STREAM, {"prompt": "hi"}).stream


def test_infer_reads_tensors_and_parameters() -> None:
    tensors = [
        {"name": "text_input", "datatype": "BYTES", "shape": [1, 1], "data": ["hi"]},
        {"name": "max_tokens", "datatype": "INT32", "shape": [1], "data": [4]},
        {"name": "stop", "datatype": "BYTES", "shape": [1], "data": ["."]},
    ]
    call = parse(TextDialect.INFER, {"inputs": tensors, "parameters": {"temperature": 0}})
    assert (call.prompt, call.max_tokens, call.stop, call.temperature) == ("hi", 4, (".",), 0.0)
    assert call.infer is not None
    assert not call.stream


def test_completion_has_openai_defaults() -> None:
    call = parse(
        TextDialect.COMPLETIONS, {"model": "m@champion", "prompt": ["hi"], "stop": ["a", "b"]}
    )
    assert (call.prompt, call.model, call.max_tokens, call.stop) == (
        "hi",
        "m@champion",
        16,
        ("a", "b"),
    )
    assert not call.stream


def test_chat_becomes_a_plain_prompt() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
        },
    ]
    usage = {"include_usage": True}
    call = parse(
        TextDialect.CHAT,
        {"messages": messages, "stream": True, "stream_options": usage, "max_completion_tokens": 5},
    )
    assert call.prompt == "system: Be brief.\nuser: Hello\nassistant:"
    assert (call.model, call.max_tokens, call.stream, call.include_usage) == ("m", 5, True, True)


@pytest.mark.parametrize(
    ("dialect", "document", "param"),
    [
        ("generate", {}, "text_input"),
        ("generate", {"text_input": 3}, "text_input"),
        ("generate", {"text_input": "x", "parameters": []}, "parameters"),
        ("generate", {"text_input": "x", "max_tokens": 0}, "max_tokens"),
        ("generate", {"text_input": "x", "max_tokens": 1.5}, "max_tokens"),
        ("generate", {"text_input": "x", "max_tokens": True}, "max_tokens"),
        ("generate", {"text_input": "x", "max_tokens": 10**9}, "max_tokens"),
        ("generate", {"text_input": "x", "temperature": -1}, "temperature"),
        ("generate", {"text_input": "x", "temperature": "hot"}, "temperature"),
        ("generate", {"text_input": "x", "seed": -1}, "seed"),
        ("generate", {"text_input": "x", "stop": [""]}, "stop"),
        ("generate", {"text_input": "x", "stop": ["a"] * 17}, "stop"),
        ("generate", {"text_input": "x", "stop": 3}, "stop"),
        ("infer", {"inputs": []}, "text_input"),
        (
            "infer",
            {
                "inputs": [
                    {"name": "text_input", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
                ]
            },
            "text_input",
        ),
        ("completions", {}, "prompt"),
        ("completions", {"prompt": ["a", "b"]}, "prompt"),
        ("completions", {"prompt": [1, 2]}, "prompt"),
        ("completions", {"prompt": "a", "n": 2}, "n"),
        ("completions", {"prompt": "a", "echo": True}, "echo"),
        ("completions", {"prompt": "a", "logprobs": 3}, "logprobs"),
        ("chat", {}, "messages"),
        ("chat", {"messages": []}, "messages"),
        ("chat", {"messages": ["hi"]}, "messages[0]"),
        ("chat", {"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content",
        ),
        ("chat", {"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, "tools"),
    ],
)
def test_what_cannot_be_served_names_its_parameter(dialect: str, document: Any, param: str) -> None:
    with pytest.raises(BadText) as caught:
        parse(TextDialect(dialect), document)
    assert (caught.value.param, caught.value.status) == (param, 400)


@pytest.mark.parametrize("dialect", TextDialect)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_bodies_that_are_no_object_are_refused(dialect: TextDialect, body: bytes) -> None:
    with pytest.raises(BadText):
        parse_text(dialect, {}, body, model="m", version="1")


def test_null_means_the_default() -> None:
    document = {"prompt": "a", "max_tokens": None, "temperature": None, "seed": None, "stop": None}
    assert parse(TextDialect.COMPLETIONS, document).max_tokens == 16


def test_errors_have_the_shape_of_their_dialect() -> None:
    assert json.loads(error_body(TextDialect.INFER, "no", status=400)) == {"error": "no"}
    told = json.loads(error_body(TextDialect.CHAT, "no", status=400, param="n", code="c"))
    assert told["error"] == {
        "message": "no",
        "type": "invalid_request_error",
        "param": "n",
        "code": "c",
    }
    assert (
        json.loads(error_body(TextDialect.CHAT, "no", status=500))["error"]["type"]
        == "server_error"
    )
