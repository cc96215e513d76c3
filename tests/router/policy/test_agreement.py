import json
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.policy.agreement import same, same_tensors

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(JSON)
def test_everything_is_the_same_as_itself_in_any_order(document: Any) -> None:
    again = json.loads(json.dumps(document, sort_keys=True))
    assert same(document, again)
    assert same(again, document)


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ({"data": [1.0, 2.0]}, {"data": [1.0004, 2.0]}, True),
        ({"data": [1.0, 2.0]}, {"data": [1.01, 2.0]}, False),
        ({"data": [0.0]}, {"data": [1e-6]}, True),
        ({"data": [1, 2]}, {"data": [1, 2, 3]}, False),
        ({"data": [float("nan")]}, {"data": [float("nan")]}, True),
        ({"data": [float("nan")]}, {"data": [1.0]}, False),
        ({"data": [1]}, {"data": [True]}, False),
        ({"data": ["cat"]}, {"data": ["dog"]}, False),
        (
            {"id": "1", "model_version": "1", "a": 1},
            {"id": "2", "model_version": "2", "a": 1},
            True,
        ),
        ({"a": 1}, {"b": 1}, False),
        ({"a": None}, {}, False),
        ([], {}, False),
    ],
)
def test_what_agrees(one: object, other: object, agree: bool) -> None:
    assert same(one, other) is agree
    assert same(other, one) is agree


def tensors(datatype: str, content: bytes) -> tuple[Any, bytes]:
    output = {"name": "y", "datatype": datatype, "parameters": {"binary_data_size": len(content)}}
    return {"outputs": [output]}, content


def test_tensors_in_binary_are_compared_as_numbers() -> None:
    ones, near, far = (array("f", [x, 2.0]).tobytes() for x in (1.0, 1.0001, 1.1))
    assert same_tensors(tensors("FP32", ones), tensors("FP32", near))
    assert not same_tensors(tensors("FP32", ones), tensors("FP32", far))
    assert not same_tensors(tensors("INT32", ones), tensors("INT32", near))
    assert not same_tensors(tensors("FP32", ones), tensors("FP32", ones[:4]))
    odd = tensors("FP32", b"abc"), tensors("FP32", b"abd")
    assert not same_tensors(*odd)


def test_nonsense_in_place_of_outputs_is_compared_to_the_byte() -> None:
    documents: tuple[Any, ...] = (None, [], {"outputs": 3}, {"outputs": [3]})
    for document in (*documents, {"outputs": [{"parameters": 3}]}):
        assert same_tensors((document, b"x"), (document, b"x"))
        assert not same_tensors((document, b"x"), (document, b"y"))
