"""The requests of the load and of the check: real inputs, and what a right answer looks like.

Input: contents of files, prompts. Output: Requests: path, headers, body, and a check of the
answer. Written out by hand in the two protocols, since the load needs neither client library.
"""

import json
import struct
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from federation.demo.filetype import SPECS, filetype_features

HEADER_LENGTH = "inference-header-content-length"
_JSON = {"content-type": "application/json"}
_PACK = {"FP32": "f", "INT32": "i"}
_PROMPTS = ("ROMEO:\n", "What light through yonder ", "KING HENRY:\n", "To be, or not ")
_TOKENS = 12  # characters of each completion: short, since the model writes 200 a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A POST. `problem` returns what is wrong with an answer of status 200, or ""."""

    kind: str
    path: str
    body: bytes
    headers: Mapping[str, str]
    problem: Callable[[Answer], str]


def infer_binary(content: bytes, version: int, *, pinned: bool) -> Request:
    """Return the classification of a file with binary tensors both ways."""
    spec = SPECS[version]
    features = filetype_features(content, spec)
    raw = struct.pack(f"<{len(features)}{_PACK[spec.datatype]}", *features)
    tensor = {"name": "bytes", "datatype": spec.datatype, "shape": [1, len(features)]}
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}],
            "outputs": [{"name": "target_label", "parameters": {"binary_data": True}}],
        }
    ).encode()
    return Request(
        kind=f"infer v{version} binary",
        path=infer_path(version, pinned=pinned),
        body=head + raw,
        headers={HEADER_LENGTH: str(len(head)), "content-type": "application/octet-stream"},
        problem=_scores_problem,
    )


def infer_json(content: bytes, version: int, *, pinned: bool) -> Request:
    """Return the classification of a file as JSON."""
    spec = SPECS[version]
    features = filetype_features(content, spec)
    tensor = {"name": "bytes", "datatype": spec.datatype, "shape": [1, len(features)]}
    return Request(
        kind=f"infer v{version} JSON",
        path=infer_path(version, pinned=pinned),
        body=json.dumps({"inputs": [{**tensor, "data": features}]}).encode(),
        headers=_JSON,
        problem=_scores_problem,
    )


def infer_path(version: int, *, pinned: bool) -> str:
    """Return the path of an inference; a pinned one names its version."""
    named = f"/versions/{version}" if pinned else ""
    return f"/v2/models/filetype{named}/infer"


def completion(prompt: str, *, stream: bool, tokens: int = _TOKENS) -> Request:
    """Return a completion of the language model."""
    asked = {"model": "shakespeare", "prompt": prompt, "max_tokens": tokens, "stream": stream}
    return Request(
        kind="completion stream" if stream else "completion",
        path="/v1/completions",
        body=json.dumps(asked).encode(),
        headers=_JSON,
        problem=_stream_problem if stream else _completion_problem,
    )


def scores_of(answer: Answer) -> tuple[float, ...]:
    """Return the scores in an answer, JSON or binary; raises ValueError, KeyError, struct.error."""
    length = answer.headers.get(HEADER_LENGTH)
    if length is None:
        return tuple(json.loads(answer.body)["outputs"][0]["data"])
    raw = answer.body[int(length) :]
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def _scores_problem(answer: Answer) -> str:
    try:
        scores = scores_of(answer)
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        return f"unreadable scores: {error!r}"
    # The model ends in a softmax, whatever its version.
    return "" if abs(sum(scores) - 1) < 0.01 else f"the scores sum to {sum(scores):.3f}"


def _completion_problem(answer: Answer) -> str:
    try:
        text = json.loads(answer.body)["choices"][0]["text"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"unreadable completion: {error!r}"
    return "" if len(text) == _TOKENS else f"{len(text)} characters in place of {_TOKENS}"


def _stream_problem(answer: Answer) -> str:
    text = answer.body.decode("utf-8", "replace")
    if not text.rstrip().endswith("data: [DONE]"):
        return "incomplete stream"
    return "" if text.count("data: ") > _TOKENS // 2 else "a stream of one piece"


def sample_files(count: int) -> list[Path]:
    """Return files of the standard library's folder, the same ones each time on one machine."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"__pycache__", "site-packages"}
    found = (p for p in root.rglob("*") if not skipped & set(p.parts) and p.is_file())
    return sorted(p for p in found if p.stat().st_size > 0)[:count]


def load_mix() -> list[tuple[int, Request]]:
    """Return weighted requests: both models, both versions, both encodings, streams."""
    mix: list[tuple[int, Request]] = []
    for path in sample_files(400)[::40]:
        content = path.read_bytes()
        mix += [
            (3, infer_binary(content, 2, pinned=False)),
            (1, infer_json(content, 2, pinned=False)),
            (2, infer_binary(content, 1, pinned=True)),
            (1, infer_json(content, 1, pinned=True)),
        ]
    return mix + text_mix()


def text_mix() -> list[tuple[int, Request]]:
    """Return weighted requests of the language model alone: whole answers and streams."""
    return [
        (3, completion(prompt, stream=stream)) for prompt in _PROMPTS for stream in (False, True)
    ]
