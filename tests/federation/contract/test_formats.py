import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid
from federation.contract.formats import (
    CODE_SUFFIXES,
    DATA_SUFFIXES,
    Nature,
    carries_code,
    nature_of,
)
from federation.contract.package import ModelPackage
from federation.contract.types import Runtime

DATA = ("model.yaml", "model.onnx", "1/model.plan", "a/tokenizer.model", "w-00001.safetensors")


def package(runtime: Runtime = Runtime.ONNX, *formats: str) -> ModelPackage:
    return ModelPackage(name="m", runtime=runtime, formats=formats)


@pytest.mark.parametrize(
    ("path", "nature"),
    [
        ("m.onnx", Nature.DATA),
        ("M.ONNX", Nature.DATA),
        ("m.onnx.data", Nature.DATA),
        ("m.onnx_data_1", Nature.DATA),
        ("q4.gguf", Nature.DATA),
        ("LICENSE", Nature.DATA),
        (".gitattributes", Nature.DATA),
        ("pytorch_model.bin", Nature.CODE),
        ("w.npz", Nature.CODE),
        ("m.json.pkl", Nature.CODE),
        ("1/model.savedmodel/saved_model.pb", Nature.CODE),
        ("py", Nature.UNKNOWN),
        ("onnx", Nature.UNKNOWN),
        ("json/weights", Nature.UNKNOWN),
        ("m.json.", Nature.UNKNOWN),
        ("m.onnx ", Nature.UNKNOWN),
        ("readme.exe2", Nature.UNKNOWN),
    ],
)
def test_the_nature_of_a_file_is_told_by_its_name(path: str, nature: Nature) -> None:
    assert nature_of(path) is nature


def test_nothing_is_both() -> None:
    assert not DATA_SUFFIXES & CODE_SUFFIXES


def test_data_is_no_code_unless_the_runtime_is() -> None:
    assert not carries_code(DATA, package())
    for runtime in (Runtime.PYTHON, Runtime.TRITON, Runtime.RAY_SERVE):
        assert carries_code(DATA, package(runtime))
        assert carries_code([*DATA, "w.pt", "model.py"], package(runtime))


def test_code_has_to_be_declared_and_then_counts() -> None:
    with pytest.raises(Invalid, match="code or a pickle") as told:
        carries_code([*DATA, "w/part.pkl"], package())
    assert "formats: [pkl]" in told.value.hint
    assert carries_code([*DATA, "w/part.pkl"], package(Runtime.ONNX, "pkl"))
    with pytest.raises(Invalid, match=r"'x\.py'"):
        carries_code([*DATA, "w/part.pkl", "x.py"], package(Runtime.ONNX, "pkl"))


@pytest.mark.parametrize("runtime", [Runtime.ONNX, Runtime.PYTHON])
def test_an_unknown_format_has_to_be_declared_and_counts_as_code(runtime: Runtime) -> None:
    with pytest.raises(Invalid, match="not known") as told:
        carries_code(["model.yaml", "w.safetensor"], package(runtime))
    assert "'safetensors'" in told.value.hint
    with pytest.raises(Invalid) as told:
        carries_code(["w.qqqqqq"], package(runtime))
    assert "onnx, " in told.value.hint
    assert "formats: [qqqqqq]" in told.value.hint
    assert carries_code(["w.qqqqqq"], package(runtime, "qqqqqq"))


@given(st.text(max_size=40), st.booleans())
def test_what_passes_as_data_has_a_suffix_of_the_list(path: str, declared: bool) -> None:
    try:
        found = carries_code([path], package(Runtime.ONNX, *(["zz"] if declared else [])))
    except Invalid:
        return
    if not found:
        assert nature_of(path) is Nature.DATA
