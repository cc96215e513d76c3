import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.golden import (
    MAX_INPUTS,
    GoldenInput,
    parse_golden,
    wrong_tensors,
    wrong_text,
)
from federation.contract.package import ModelPackage, TensorSpec
from federation.contract.types import ModelProtocol, Runtime

TENSORS = ModelPackage(
    name="m",
    runtime=Runtime.PYTHON,
    inputs=(TensorSpec(name="x", datatype="FP32", shape=(-1, 2)),),
    outputs=(TensorSpec(name="y", datatype="FP32", shape=(-1,)),),
)
TEXT = replace(TENSORS, protocol=ModelProtocol.TEXT, inputs=(), outputs=())


def parse(*lines: dict[str, Any], package: ModelPackage = TENSORS) -> tuple[GoldenInput, ...]:
    return parse_golden("\n".join(map(json.dumps, lines)), package, source="golden.jsonl")


def test_a_shape_follows_from_the_number_of_values() -> None:
    (found,) = parse({"inputs": {"x": [1, 2, 3, 4]}, "outputs": {"y": [0.5, 1]}})
    assert found.name == "line 1"
    assert found.shapes == {"x": (2, 2)}
    assert found.outputs == {"y": (0.5, 1)}


def test_text_is_given_whole_or_in_part() -> None:
    lines = [
        {"prompt": "a", "text": "b", "seed": 1, "name": "first"},
        {"prompt": "a", "contains": "b", "max_tokens": 2},
        {"prompt": "a", "matches": "^b+$", "temperature": 0.5},
    ]
    first, second, third = parse(*lines, package=TEXT)
    assert (first.name, first.text, first.seed) == ("first", "b", 1)
    assert (second.contains, second.max_tokens) == ("b", 2)
    assert wrong_text(third, "bbb") == ""
    assert "does not match" in wrong_text(third, "abc")
    assert "does not contain" in wrong_text(second, "xyz")
    assert "not 'b'" in wrong_text(first, "c")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "not a JSON object"),
        ("{", "line 1: "),
        ('{"inputs": {"x": [1, 2]}}', "outputs must be an object of lists"),
        ('{"inputs": {"x": [[1, 2]]}, "outputs": {"y": [1]}}', "must be a flat list"),
        ('{"inputs": {"z": [1]}, "outputs": {"y": [1]}}', "there is no input 'x'"),
        ('{"inputs": {"x": [1, 2], "z": [1]}, "outputs": {"y": [1]}}', "no input 'z'"),
        ('{"inputs": {"x": [1, 2]}, "outputs": {"z": [1]}}', "no output 'z'"),
        ('{"inputs": {"x": [1, 2, 3]}, "outputs": {"y": [1]}}', r"3 values, its shape is \[1, 2\]"),
        ('{"inputs": {"x": [1, 2]}, "outputs": {"y": [1]}, "shapes": {"x": [0]}}', "of sizes"),
        (
            '{"inputs": {"x": [1, 2]}, "outputs": {"y": [1]}, "prompt": "a"}',
            "'prompt' is not known",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse_golden(line, TENSORS, source="golden.jsonl")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"prompt": ""}, "prompt must be a text"),
        ({"prompt": "a"}, "one of text, contains, matches"),
        ({"prompt": "a", "text": "b", "max_tokens": 0}, "max_tokens must be"),
        ({"prompt": "a", "text": "b", "seed": "x"}, "seed must be"),
        ({"prompt": "a", "text": "b", "temperature": 9}, "temperature must be"),
        ({"prompt": "a", "matches": "("}, "no regular expression"),
    ],
)
def test_a_mistake_in_text_is_told(line: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parse(line, package=TEXT)


def test_there_must_be_some_and_not_too_many() -> None:
    with pytest.raises(Invalid, match="no golden inputs"):
        parse_golden("\n\n", TENSORS, source="golden.jsonl")
    with pytest.raises(Invalid, match="at most"):
        parse(*[{"prompt": "a", "text": "b"}] * (MAX_INPUTS + 1), package=TEXT)
    with pytest.raises(Invalid, match="declare the inputs"):
        parse({"inputs": {"x": [1]}, "outputs": {"y": [1]}}, package=replace(TENSORS, inputs=()))


@pytest.mark.parametrize(
    ("expected", "got", "right"),
    [
        ((1.0,), [1.0009], True),
        ((1.0,), [1.002], False),
        ((1000.0,), [1000.9], True),
        ((0.0,), [0.0005], True),
        ((3,), [3], True),
        ((3,), [4], False),
        (("a",), ["a"], True),
        (("a",), ["b"], False),
        ((True,), [True], True),
        ((1.0,), [], False),
        ((1.0,), [float("nan")], False),
    ],
)
def test_numbers_may_differ_a_little(expected: Any, got: list[Any], *, right: bool) -> None:
    wanted = GoldenInput(name="g", outputs={"y": expected})
    assert (wrong_tensors(wanted, {"y": got}, 0.001) == "") is right


def test_an_output_that_is_missing_is_wrong() -> None:
    assert "no output 'y'" in wrong_tensors(GoldenInput(name="g", outputs={"y": (1,)}), {}, 0.1)


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for package in (TENSORS, TEXT):
        with suppress(Invalid):
            assert parse_golden(text, package, source="golden.jsonl")
