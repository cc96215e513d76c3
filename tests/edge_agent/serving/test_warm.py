from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.serving.models import LoadError
from edge_agent.serving.package import ServedPackage
from edge_agent.serving.v2 import Array
from edge_agent.serving.v2_terms import Tensor
from edge_agent.serving.warm import DEFAULT_PROMPT, sample_array, warm

X = Tensor(name="x", datatype="FP32", shape=(-1, 3))
WORDS = Tensor(name="words", datatype="BYTES", shape=(2,))
Y = Tensor(name="y", datatype="FP32", shape=(-1,))
TENSORS = ServedPackage(
    name="m",
    version=1,
    digest="d",
    runtime="python",
    protocol="tensor",
    file="model.py",
    inputs=(X, WORDS),
    outputs=(Y,),
    warmup={"x": [1.0, 2.0], "words": ["ä"]},
)
TEXT = replace(TENSORS, protocol="text", inputs=(), outputs=(), warmup={"prompt": "once"})


class Tensors:
    def __init__(self, output: str = "y") -> None:
        self.seen: dict[str, Array] = {}
        self.output = output

    def infer(self, inputs: dict[str, Array]) -> Mapping[str, Array]:
        self.seen = inputs
        return {self.output: inputs["x"][:, 0]}


class Text:
    def __init__(self, pieces: int = 9) -> None:
        self.pieces, self.made, self.closed, self.prompt = pieces, 0, False, ""

    def generate(
        self, prompt: str, *, max_tokens: int, temperature: float, seed: int | None
    ) -> Iterator[str]:
        self.prompt = prompt
        try:
            for _ in range(self.pieces):
                self.made += 1
                yield "a"
        finally:
            self.closed = True


def test_a_sample_is_repeated_to_the_shape_of_its_tensor() -> None:
    model = Tensors()
    warm(model, TENSORS)
    assert model.seen["x"].tolist() == [[1, 2, 1]]
    assert model.seen["x"].dtype == np.float32
    assert model.seen["words"].tolist() == ["ä".encode()] * 2


@pytest.mark.parametrize(
    ("tensor", "zeros"), [(X, [[0, 0, 0]]), (WORDS, [b"", b""]), (replace(X, shape=()), 0)]
)
def test_without_a_sample_it_is_zeros(tensor: Tensor, zeros: object) -> None:
    assert sample_array(tensor, None).tolist() == zeros


def test_a_text_model_makes_a_token_and_is_stopped() -> None:
    model = Text()
    warm(model, TEXT)
    assert (model.prompt, model.made, model.closed) == ("once", 1, True)
    warm(model, replace(TEXT, warmup={}))
    assert model.prompt == DEFAULT_PROMPT


@pytest.mark.parametrize(
    ("model", "package", "words"),
    [
        (Tensors(output="z"), TENSORS, "ValueError: it gave no output 'y'"),
        (Tensors(), replace(TENSORS, inputs=(Y,)), "KeyError: 'x'"),
        (Text(pieces=0), TEXT, "ValueError: it answered nothing"),
    ],
)
def test_a_model_that_does_not_answer_is_not_loaded(
    model: Tensors | Text, package: ServedPackage, words: str
) -> None:
    with pytest.raises(LoadError, match=f"the warm-up inference failed: {words}"):
        warm(model, package)
