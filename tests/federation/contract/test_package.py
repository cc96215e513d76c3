"""model.yaml is read strictly, and each mistake is told with its line and remedy."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.package import is_safe_path, parse_package
from federation.contract.types import ModelProtocol, Runtime

GOOD = """\
name: filetype
runtime: onnx
description: What kind of file is this?
inputs:
  - {name: bytes, datatype: FP32, shape: [-1, 1536]}
outputs:
  - {name: target_label, datatype: FP32, shape: [-1, 113]}
resources: {gpus: 1, memory_mib: 512}
"""


def test_a_good_package() -> None:
    package = parse_package(GOOD)
    assert package.name == "filetype"
    assert package.runtime is Runtime.ONNX
    assert package.protocol is ModelProtocol.TENSOR
    assert package.inputs[0].shape == (-1, 1536)
    assert package.file == "model.onnx"
    assert package.resources.gpus == 1
    assert not package.carries_code


def test_a_text_package_needs_no_tensors() -> None:
    package = parse_package("name: poet\nruntime: python\nprotocol: text\n")
    assert package.file == "model.py"
    assert package.carries_code


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("runtime:", "runtme:", "line 2: unknown key 'runtme'. Did you mean 'runtime'"),
        ("memory_mib", "memory", "line 8: unknown key 'memory'. Did you mean 'memory_mib'?"),
        ("shape: [-1, 1536]", "shap: [1]", "line 5: unknown key 'shap'. Did you mean 'shape'?"),
        ("1536", "x", r"line 5: inputs.0.shape.1: Expected `int`, got `str`"),
        ("FP32, shape: [-1, 1536]", "FP31, shape: [1]", "'FP31'. Did you mean 'FP32'"),
        ("runtime: onnx", "runtime: onx", "line 2: runtime: Invalid enum value 'onx'"),
        ("runtime: onnx", "runtime: unknown", "runtime is missing or unknown. Use one of onnx"),
        ("name: filetype", "name: ../x", "cannot name a model"),
        ("[-1, 1536]", "[0, 1536]", "sizes are -1 or positive"),
        ("gpus: 1", "gpus: -1", "resources must not be negative"),
        ("runtime: onnx", "runtime: ray-serve", "needs import_path"),
        ("runtime: onnx", "runtime: onnx\nfile: ../evil", "must be a relative path"),
        ("runtime: onnx", "runtime: onnx\nprotocol: unknown", "protocol must be"),
        ("runtime: onnx", "runtime: onnx\nruntime: python", "line 3: key 'runtime' twice"),
        ("outputs:\n  - {", "labels:\n  {", "line 6: labels: Expected `str`, got `array`"),
        ("name: filetype", "name: [", "not valid YAML"),
    ],
)
def test_each_mistake_is_told(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(Invalid) as caught:
        parse_package(GOOD.replace(old, new, 1))
    sentence = caught.value.sentence()
    assert message in sentence
    assert sentence.startswith("model.yaml") or "cannot name a model" in sentence


def test_a_tensor_model_declares_its_tensors() -> None:
    with pytest.raises(Invalid, match="inputs and outputs are needed"):
        parse_package("name: filetype\nruntime: onnx\n")


@pytest.mark.parametrize("text", ["", "- 1\n", "a: 1\n---\nb: 2\n", "42"])
def test_not_one_mapping(text: str) -> None:
    with pytest.raises(Invalid):
        parse_package(text)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../a", "a/../b", "a\\b", "a\x00b", "./a", "a//b", "a/", ".", "x" * 600],
)
def test_unsafe_paths(path: str) -> None:
    assert not is_safe_path(path)


@pytest.mark.parametrize("path", ["model.onnx", "1/model.py", "a-b/c d.txt", "..a"])
def test_safe_paths(path: str) -> None:
    assert is_safe_path(path)


@given(st.text(max_size=200))
def test_any_text_is_a_package_or_a_refusal(text: str) -> None:
    with contextlib.suppress(Invalid):
        parse_package(text)


@given(st.text(max_size=50))
def test_a_refusal_is_one_line(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_package(text + "\x00")
    assert "\n" not in caught.value.sentence()
