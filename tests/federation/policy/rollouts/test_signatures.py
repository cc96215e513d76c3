"""What clients would notice."""

from federation.contract.package import ModelPackage, TensorSpec
from federation.contract.types import ModelProtocol, Runtime
from federation.policy.rollouts.signatures import differences

BYTES = TensorSpec(name="bytes", datatype="INT32", shape=(-1, 1536))
LABEL = TensorSpec(name="target_label", datatype="FP32", shape=(-1, 113))


def package(*inputs: TensorSpec, output: TensorSpec = LABEL) -> ModelPackage:
    return ModelPackage(name="m", runtime=Runtime.ONNX, inputs=inputs, outputs=(output,))


def test_equal_signatures_do_not_differ() -> None:
    assert differences(package(BYTES), package(BYTES)) == ()


def test_shape_and_datatype_are_told() -> None:
    other = TensorSpec(name="bytes", datatype="UINT8", shape=(-1, 2048))
    assert differences(package(BYTES), package(other)) == (
        "input 'bytes': INT32[-1, 1536], then UINT8[-1, 2048]",
    )


def test_what_comes_and_goes_is_told() -> None:
    named = TensorSpec(name="labels", datatype="FP32", shape=(-1, 113))
    assert differences(package(), package(BYTES, output=named)) == (
        "input 'bytes': none, then INT32[-1, 1536]",
        "output 'labels': none, then FP32[-1, 113]",
        "output 'target_label': FP32[-1, 113], then none",
    )


def test_another_protocol_is_told() -> None:
    text = ModelPackage(name="m", runtime=Runtime.PYTHON, protocol=ModelProtocol.TEXT)
    tensor = ModelPackage(name="m", runtime=Runtime.PYTHON)
    assert differences(tensor, text) == ("protocol: tensor, then text",)
