"""Bodies that name a model, and headers and paths that name another."""

import json

from tests.hostile.corpus.payload import BODY, CHAT, MEANT, Asked, Payload, request

_ROUTERS = (b"x-fed-model: text", b"x-fed-version: 1")  # a gateway believes a router's; ours alone
_MESSAGES: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}]}


def _asked(document: dict[str, object]) -> Asked:
    return Asked("chat", "text", json.dumps(document, sort_keys=True).encode())


def _chat(
    name: str, body: bytes, why: str, *may: Asked, must: bool = False, by_header: bool = False
) -> Payload:
    """A chat; `by_header` = a gateway reads the model in the router's header and replaces it."""
    full = f"body-{name}"
    raw = request(full, *_ROUTERS, target=CHAT, body=body, sized=True)
    replaced = (_asked(_MESSAGES),) if by_header else ()
    return Payload(name=full, why=why, raw=raw, may=may, must=must, gateway_may=replaced)


def _written(*members: str) -> bytes:
    inner = ", ".join((*members, json.dumps(_MESSAGES)[1:-1]))
    return f"{{{inner}}}".encode()


_LONG = b'{"model": "text", "x": ' + b"9" * 100_000 + b"}"

BODIES = (
    _chat(
        "sound",
        _written('"model": "text"'),
        "the honest request",
        _asked(_MESSAGES),
        must=True,
    ),
    _chat(
        "two-models",
        _written('"model": "text"', '"model": "m"'),
        "a reader that keeps the first and one that keeps the last see two models",
    ),
    _chat(
        "two-models-turned",
        _written('"model": "m"', '"model": "text"'),
        "a reader that keeps the first and one that keeps the last see two models",
    ),
    _chat(
        "two-models-equal",
        _written('"model": "text"', '"model": "text"'),
        "twice is twice",
    ),
    _chat(
        "two-models-escaped",
        _written('"model": "text"', '"mod\\u0065l": "m"'),
        "the same key in another spelling",
    ),
    _chat(
        "two-models-escaped-whole",
        _written('"\\u006d\\u006F\\u0064\\u0065\\u006c": "m"', '"model": "text"'),
        "the same key in another spelling",
    ),
    _chat(
        "two-models-nested",
        _written('"model": "text"', '"metadata": {"model": "m", "model": "n", "a": 1}'),
        "deeper down `model` is a word like any other",
        _asked({**_MESSAGES, "metadata": {"model": "n", "a": 1}}),
    ),
    _chat(
        "model-of-another-case",
        _written('"model": "text"', '"Model": "m"'),
        "another key",
        _asked({**_MESSAGES, "Model": "m"}),
    ),
    _chat(
        "model-escaped",
        _written('"mod\\u0065l": "text"'),
        "one key, spelled strangely",
        _asked(_MESSAGES),
        must=True,
    ),
    _chat("model-a-list", _written('"model": ["text", "m"]'), "no name", by_header=True),
    _chat("model-null", _written('"model": null'), "no name", by_header=True),
    _chat("model-empty", _written('"model": ""'), "no name", by_header=True),
    _chat("model-path", _written('"model": "../m"'), "no name", by_header=True),
    _chat("model-nul", _written('"model": "text\\u0000"'), "no name", by_header=True),
    _chat("model-surrogate", _written('"model": "text\\ud800"'), "no text", by_header=True),
    _chat(
        "model-engines",
        _written('"model": "text--v1"'),
        "a name that only an engine knows",
        by_header=True,
    ),
    _chat(
        "not-utf-8",
        b'{"model": "text", "messages": "\xff\xfe"}',
        "the router reads no more than the model; the rest is the engine's",
        Asked("chat", "text", b'{"model": "text", "messages": "\xff\xfe"}'),
    ),
    _chat("utf-16", '{"model": "text"}'.encode("utf-16"), "no JSON of ours"),
    _chat("bom", b"\xef\xbb\xbf" + _written('"model": "text"'), "no JSON of ours"),
    _chat(
        "nan",
        _written('"model": "text"', '"x": NaN'),
        "no JSON, but what engines in Python read",
        _asked({**_MESSAGES, "x": float("nan")}),
    ),
    _chat("comment", b'/* x */ {"model": "text"}', "no JSON"),
    _chat("trailing", _written('"model": "text"') + b"{}", "two documents"),
    _chat("nul-after", _written('"model": "text"') + b"\0", "two documents, for a C string"),
    _chat("deep", b'{"model": "text", "x": ' + b"[" * 50_000, "breaks recursive readers"),
    _chat(
        "deep-and-closed", b'{"model":"text","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "deep"
    ),
    _chat(
        "long-number",
        _LONG,
        "slow to read: some readers refuse it",
        Asked("chat", "text", _LONG),
    ),
    _chat("array", b'["text"]', "no object"),
    _chat("empty", b"", "nothing"),
    Payload(
        name="body-names-another",
        why="the path names the model; a tensor request's body has no say",
        raw=request("body-names-another", body=b'{"model_name": "text", "inputs": []}', sized=True),
        may=(Asked("infer", "m", b'{"model_name": "text", "inputs": []}'),),
        must=True,
    ),
    Payload(
        name="header-names-another",
        why="the path names the model; a client's header has no say",
        raw=request(
            "header-names-another", b"x-fed-model: text", b"x-fed-version: 2", body=BODY, sized=True
        ),
        may=(MEANT,),
        must=True,
    ),
    Payload(
        name="compressed-chat",
        why="what must be read is not unpacked: no bomb explodes",
        raw=request(
            "compressed-chat",
            *_ROUTERS,
            b"Content-Encoding: gzip",
            target=CHAT,
            body=b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
            sized=True,
        ),
    ),
    Payload(
        name="binary-length-lies",
        why="the announced JSON is longer than the body",
        raw=request(
            "binary-length-lies", b"Inference-Header-Content-Length: 999", body=BODY, sized=True
        ),
        may=(MEANT,),
    ),
    Payload(
        name="binary-length-negative",
        why="no length",
        raw=request(
            "binary-length-negative", b"Inference-Header-Content-Length: -5", body=BODY, sized=True
        ),
        may=(MEANT,),
    ),
)
