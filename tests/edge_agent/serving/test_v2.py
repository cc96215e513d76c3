import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.serving.v2 import (
    DTYPES,
    check_inputs,
    check_outputs,
    encode_infer,
    parse_infer,
    to_bytes,
)
from edge_agent.serving.v2_terms import HEADER_LENGTH, BadRequest, Tensor


def infer(
    *inputs: dict[str, Any], binary: bytes = b"", **rest: Any
) -> tuple[dict[str, str], bytes]:
    head = json.dumps({"inputs": list(inputs), **rest}).encode()
    return ({HEADER_LENGTH: str(len(head))} if binary else {}), head + binary


def entry(datatype: str, shape: list[int], **rest: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype, "shape": shape, **rest}


def parse_one(datatype: str, shape: list[int], data: Any) -> Any:
    return parse_infer(*infer(entry(datatype, shape, data=data))).inputs["x"]


def test_json_data_may_be_flat_or_nested() -> None:
    flat, nested = (
        parse_one("INT32", [2, 2], [1, 2, 3, 4]),
        parse_one("INT32", [2, 2], [[1, 2], [3, 4]]),
    )
    assert flat.tolist() == nested.tolist() == [[1, 2], [3, 4]]
    assert flat.dtype == np.int32


def test_json_bytes_are_utf8_text() -> None:
    assert parse_one("BYTES", [2], ["ä", ""]).tolist() == ["ä".encode(), b""]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "complaint"),
    [
        ("INT8", [1], [128], "out of the range of INT8"),
        ("UINT8", [1], [-1], "out of the range of UINT8"),
        ("INT32", [1], [1.5], "not all INT32"),
        ("INT64", [1], [2**70], "not all INT64"),
        ("FP32", [1], [None], "not all FP32"),
        ("FP32", [1], ["1"], "not all FP32"),
        ("BOOL", [1], [1], "not all BOOL"),
        ("BYTES", [1], [1], "must be strings"),
        ("FP32", [3], [1, 2], "has 2 elements"),
        ("FP32", [2**39, 2**39], [1], "has 1 elements"),
        ("FP32", [2], [[1], [2, 3]], "unevenly"),
        ("FP32", [-1], [1], "'shape'"),
        ("FP32", [True], [1], "'shape'"),
        ("FP32", "x", [1], "'shape'"),
        ("BF16", [1], [1], "'BF16'"),
        ("FP32", [1], "AAAA", "'data'"),
    ],
)
def test_wrong_data_is_refused_in_words(
    datatype: str, shape: Any, data: Any, complaint: str
) -> None:
    with pytest.raises(BadRequest, match=complaint):
        parse_one(datatype, shape, data)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "JSON object"),
        (b'{"inputs": 1}', "'inputs' must be a list"),
        (b'{"inputs": [{}]}', "needs a 'name'"),
        (b'{"inputs": [{"name": "x"}]}', "needs a 'datatype'"),
        (b'{"outputs": [1]}', "'outputs' must be a list"),
        (b'{"parameters": [1]}', "'parameters' must be an object"),
    ],
)
def test_malformed_documents_are_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        parse_infer({}, body)


def test_the_same_input_twice_is_refused() -> None:
    once = entry("FP32", [1], data=[1])
    with pytest.raises(BadRequest, match="given twice"):
        parse_infer(*infer(once, once))


@pytest.mark.parametrize("datatype", sorted(set(DTYPES) - {"BYTES"}))
def test_binary_numbers_come_back_as_they_were_sent(datatype: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[datatype])
    blob = to_bytes(array, datatype)
    sized = entry(datatype, [2, 3], parameters={"binary_data_size": len(blob)})
    request = parse_infer(*infer(sized, binary=blob, parameters={"binary_data_output": True}))
    assert request.inputs["x"].tolist() == array.tolist()
    tensor = Tensor(name="x", datatype=datatype, shape=(-1, 3))
    headers, body = encode_infer(request, [(tensor, request.inputs["x"])], model="m", version="1")
    assert body[int(headers[HEADER_LENGTH]) :] == blob


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_binary_bytes_come_back_as_they_were_sent(elements: list[bytes]) -> None:
    blob = b"".join(struct.pack("<I", len(e)) + e for e in elements)
    sized = entry("BYTES", [len(elements)], parameters={"binary_data_size": len(blob)})
    head = json.dumps({"inputs": [sized]}).encode()
    request = parse_infer({HEADER_LENGTH: str(len(head))}, head + blob)
    assert request.inputs["x"].tolist() == elements
    assert to_bytes(request.inputs["x"], "BYTES") == blob


@given(st.binary(max_size=64), st.integers(0, 80))
def test_any_binary_tail_is_parsed_or_refused(tail: bytes, size: int) -> None:
    sized = entry("BYTES", [1], parameters={"binary_data_size": size})
    head = json.dumps({"inputs": [sized]}).encode()
    try:
        request = parse_infer({HEADER_LENGTH: str(len(head))}, head + tail)
    except BadRequest:
        return
    assert len(tail) == size == 4 + len(request.inputs["x"][0])


@pytest.mark.parametrize(
    ("size", "tail", "complaint"),
    [
        (8, b"1234", "does not fit"),
        (4, b"12345678", "follow the last"),
        (3, b"123", "not whole FP32"),
        ("4", b"1234", "does not fit"),
        (True, b"1234", "does not fit"),
    ],
)
def test_binary_sizes_must_fit(size: Any, tail: bytes, complaint: str) -> None:
    sized = entry("FP32", [1], parameters={"binary_data_size": size})
    with pytest.raises(BadRequest, match=complaint):
        parse_infer(*infer(sized, binary=tail))


@pytest.mark.parametrize("length", ["-1", "x", "99999", ""])
def test_a_wrong_header_length_is_refused(length: str) -> None:
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        parse_infer({HEADER_LENGTH: length}, b"{}")


DECLARED = [Tensor(name="x", datatype="FP32", shape=(-1, 2))]


@pytest.mark.parametrize(
    ("given_entry", "complaint"),
    [
        (
            {"name": "z", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]},
            "unexpected input 'z'",
        ),
        (entry("INT32", [1, 2], data=[1, 2]), "takes FP32"),
        (entry("FP32", [2], data=[1, 2]), r"shape \[2\], the model takes \[-1, 2\]"),
        (entry("FP32", [1, 3], data=[1, 2, 3]), r"shape \[1, 3\]"),
    ],
)
def test_inputs_must_be_those_declared(given_entry: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        check_inputs(parse_infer(*infer(given_entry)), DECLARED)


def test_missing_inputs_and_unknown_outputs_are_named() -> None:
    request = parse_infer(*infer(outputs=[{"name": "q"}]))
    with pytest.raises(BadRequest, match="input 'x' is missing"):
        check_inputs(request, DECLARED)
    with pytest.raises(BadRequest, match="unexpected output 'q'; the model gives 'x'"):
        check_outputs(request, DECLARED)


def test_each_output_chooses_its_own_form() -> None:
    wanted = [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}]
    request = parse_infer(*infer(outputs=wanted, id="7"))
    tensors = [
        (Tensor(name=name, datatype="BYTES", shape=(1,)), np.array([b"hi"], dtype=object))
        for name in ("a", "b")
    ]
    headers, body = encode_infer(request, tensors, model="m", version="3")
    head = json.loads(body[: int(headers[HEADER_LENGTH])])
    assert body.endswith(struct.pack("<I", 2) + b"hi")
    assert head == {
        "model_name": "m",
        "model_version": "3",
        "id": "7",
        "outputs": [
            {"name": "a", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
            {"name": "b", "datatype": "BYTES", "shape": [1], "data": ["hi"]},
        ],
    }


def test_bytes_that_are_no_text_cannot_be_json() -> None:
    tensor = Tensor(name="a", datatype="BYTES", shape=(1,))
    raw = np.array([b"\xff"], dtype=object)
    with pytest.raises(BadRequest, match="binary_data"):
        encode_infer(parse_infer(*infer()), [(tensor, raw)], model="m", version="1")
