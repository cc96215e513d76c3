import json
import struct
from pathlib import Path

import pytest

from federation.demo import payloads
from federation.demo.filetype import SPECS, filetype_features
from federation.demo.payloads import Answer, completion, infer_binary, infer_json, scores_of

_CONTENT = Path(__file__).read_bytes()


def _answer(body: bytes, **headers: str) -> Answer:
    return Answer(
        status=200, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=body
    )


@pytest.mark.parametrize("version", [1, 2])
def test_json_and_binary_carry_the_same_tensor(version: int) -> None:
    features = filetype_features(_CONTENT, SPECS[version])
    as_json = json.loads(infer_json(_CONTENT, version, pinned=True).body)["inputs"][0]
    binary = infer_binary(_CONTENT, version, pinned=True)
    length = int(binary.headers["inference-header-content-length"])
    head = json.loads(binary.body[:length])["inputs"][0]
    letter = {"FP32": "f", "INT32": "i"}[as_json["datatype"]]
    assert as_json["data"] == features
    assert list(struct.unpack(f"<{len(features)}{letter}", binary.body[length:])) == features
    assert head["parameters"]["binary_data_size"] == len(binary.body) - length
    assert head["shape"] == as_json["shape"] == [1, len(features)]
    assert binary.path == f"/v2/models/filetype/versions/{version}/infer"


def test_only_a_pinned_request_names_its_version() -> None:
    assert infer_json(_CONTENT, 2, pinned=False).path == "/v2/models/filetype/infer"


def test_scores_are_read_from_json_and_from_binary() -> None:
    wanted = (0.25, 0.75)
    head = b'{"outputs":[]}'
    binary = _answer(
        head + struct.pack("<2f", *wanted), inference_header_content_length=str(len(head))
    )
    as_json = _answer(json.dumps({"outputs": [{"data": wanted}]}).encode())
    assert scores_of(binary) == scores_of(as_json) == wanted
    problem = infer_json(_CONTENT, 1, pinned=True).problem
    assert problem(binary) == problem(as_json) == ""
    assert "sum to 1.750" in problem(_answer(b'{"outputs": [{"data": [1.0, 0.75]}]}'))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"outputs": []}', b"\xff"])
def test_an_answer_without_scores_is_a_problem(body: bytes) -> None:
    assert "unreadable" in infer_json(_CONTENT, 1, pinned=True).problem(_answer(body))


def test_a_completion_is_checked_for_its_length() -> None:
    problem = completion("x", stream=False, tokens=3).problem
    assert problem(_answer(b'{"choices": [{"text": "abcdefghijkl"}]}')) == ""
    assert "2 characters" in problem(_answer(b'{"choices": [{"text": "ab"}]}'))
    assert "unreadable" in problem(_answer(b"[]"))


def test_a_stream_has_to_end_and_to_come_in_pieces() -> None:
    problem = completion("x", stream=True).problem
    piece = b'data: {"choices": [{"text": "a"}]}\n\n'
    assert problem(_answer(piece * 12 + b"data: [DONE]\n\n")) == ""
    assert problem(_answer(piece * 12)) == "incomplete stream"
    assert problem(_answer(piece + b"data: [DONE]\n\n")) == "a stream of one piece"


def test_sample_files_are_real_and_always_the_same() -> None:
    files = payloads.sample_files(50)
    assert files == payloads.sample_files(50)
    assert len(files) == 50
    assert all(path.stat().st_size > 0 for path in files)


def test_the_mix_has_both_models_both_versions_and_streams() -> None:
    kinds = {request.kind for _, request in payloads.load_mix()}
    assert kinds == {
        *("infer v1 binary", "infer v1 JSON", "infer v2 binary", "infer v2 JSON"),
        *("completion", "completion stream"),
    }
