from pathlib import Path

from edge_agent.serving.package import ServedPackage, read_package, write_package
from edge_agent.serving.v2_terms import Tensor


def package(*shapes: tuple[int, ...]) -> ServedPackage:
    tensors = tuple(Tensor(name=str(n), datatype="FP32", shape=s) for n, s in enumerate(shapes))
    return ServedPackage(
        name="m",
        version=3,
        digest="d",
        runtime="onnx",
        protocol="tensor",
        file="model.onnx",
        inputs=tensors,
        outputs=tensors[:1],
        parameters={"a": [1, "ä"]},
        gpus=1,
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = package((-1, 2), (3,))
    write_package(tmp_path, written)
    assert read_package(tmp_path) == written


def test_only_a_free_first_dimension_everywhere_can_be_batched() -> None:
    assert package((-1, 2), (-1, 3)).batchable
    assert not package((-1, 2), (1, 3)).batchable
    assert not package((-1,)).batchable
    assert not package().batchable
