"""Pairs of versions: a language model in little, and what is commonly done to one.

Input: how large. Output: old and new files, with what truly changed. Numbers are random: equal or
not is all that counts, but for the pair with noise, whose numbers are normal and slightly moved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.chunking.files import (
    Tensor,
    external,
    gguf,
    onnx,
    onnx_node,
    onnx_tensor,
    safetensors,
)

Files = dict[str, bytes]
ONE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Pair:
    """`changed` = bytes of the tensors (or inserted rows) that differ; `runs` = how many places
    in the file that makes. `noise` marks the pair that only a weight delta helps."""

    name: str
    old: Files
    new: Files
    changed: int
    runs: int
    noise: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the model."""

    hidden: int
    layers: int
    vocabulary: int

    @classmethod
    def small(cls) -> "Shape":
        """For tests: 13 MB."""
        return cls(hidden=256, layers=4, vocabulary=4000)

    @classmethod
    def large(cls) -> "Shape":
        """For the benchmark: 183 MB."""
        return cls(hidden=1024, layers=4, vocabulary=12_000)


class Maker:
    """Makes tensors and pairs; the same seed makes the same."""

    def __init__(self, shape: Shape, seed: int = 1) -> None:
        self._dice = np.random.default_rng(seed)
        self._shape = shape
        self._base = self._model()

    def pairs(self) -> Iterator[Pair]:
        """Yield all pairs; each is large, so keep none."""
        yield from self._edits()
        yield from self._rows()
        yield from self._layouts()
        yield from self._gguf()
        yield from self._onnx()
        yield self._noise()

    def _bytes(self, count: int) -> bytes:
        return self._dice.bytes(count)

    def _tensor(self, name: str, *shape: int) -> Tensor:
        return Tensor(name, "BF16", shape, self._bytes(2 * int(np.prod(shape))))

    def _model(self) -> list[Tensor]:
        h, made = self._shape.hidden, []
        made.append(self._tensor("embed", self._shape.vocabulary, h))
        for i in range(self._shape.layers):
            made.append(self._tensor(f"layers.{i}.norm1", h))
            made.extend(self._tensor(f"layers.{i}.{part}", h, h) for part in "qkvo")
            made.append(self._tensor(f"layers.{i}.norm2", h))
            made.extend(self._tensor(f"layers.{i}.{part}", 4 * h, h) for part in ("gate", "up"))
            made.append(self._tensor(f"layers.{i}.down", h, 4 * h))
        made.append(self._tensor("norm", h))
        made.append(self._tensor("head", self._shape.vocabulary, h))
        return made

    def _edited(self, endings: Sequence[str], tensors: Sequence[Tensor]) -> list[Tensor]:
        return [
            t.with_data(self._bytes(len(t.data))) if t.name.endswith(tuple(endings)) else t
            for t in tensors
        ]

    def _edit(self, name: str, *endings: str) -> Pair:
        new = self._edited(endings, self._base)
        differ = [a != b for a, b in zip(self._base, new, strict=True)]
        changed = sum(len(t.data) for t, d in zip(new, differ, strict=True) if d)
        runs = sum(d and not before for d, before in zip(differ, [False, *differ], strict=False))
        return Pair(name, {ONE: safetensors(self._base)}, {ONE: safetensors(new)}, changed, runs)

    def _edits(self) -> Iterator[Pair]:
        yield self._edit("LoRA merged into q, v", ".q", ".v")
        yield self._edit("norms only", "norm", "norm1", "norm2")
        yield self._edit("head only", "head")
        last = f"layers.{self._shape.layers - 1}."
        yield self._edit("last layer", *(t.name for t in self._base if t.name.startswith(last)))
        yield self._edit("every tensor", "")

    def _rows(self) -> Iterator[Pair]:
        embed, *rest = self._base
        rows, row = 64, 2 * self._shape.hidden
        more = self._bytes(rows * row)
        for name, at in (("appended", len(embed.data)), ("inserted", len(embed.data) // 3)):
            at -= at % row
            longer = replace(
                embed,
                shape=(embed.shape[0] + rows, embed.shape[1]),
                data=embed.data[:at] + more + embed.data[at:],
            )
            old, new = safetensors(self._base), safetensors([longer, *rest])
            yield Pair(f"{rows} rows {name}", {ONE: old}, {ONE: new}, len(more), 2)

    def _layouts(self) -> Iterator[Pair]:
        base = {ONE: safetensors(self._base)}
        told = {"format": "pt", "note": "x" * 46}
        yield Pair("metadata + 56 bytes", base, {ONE: safetensors(self._base, told)}, 0, 1)
        order = sorted(self._base, key=lambda tensor: tensor.name[::-1])
        small = 2 * len([t for t in self._base if "norm" in t.name])  # neighbours may change
        yield Pair("other order of tensors", base, {ONE: safetensors(order)}, 0, small)
        yield Pair("1 file -> 3 shards", base, self._shards(3), 0, 3)
        yield Pair("3 shards -> 4 shards", self._shards(3), self._shards(4), 0, 4)
        yield Pair("file renamed", base, {"weights/" + ONE: base[ONE]}, 0, 0)
        yield Pair("equal", base, base, 0, 0)

    def _shards(self, count: int) -> Files:
        step = -(-len(self._base) // count)
        return {
            f"model-{i + 1:05}-of-{count:05}.safetensors": safetensors(
                self._base[i * step : (i + 1) * step]
            )
            for i in range(count)
        }

    def _gguf(self) -> Iterator[Pair]:
        tokens = self._shape.vocabulary * 4
        old = {"model.gguf": gguf(self._base, "base", tokens)}
        new = {"model.gguf": gguf(self._base, "base, but with a longer name " * 2, tokens)}
        yield Pair("GGUF name + 54 bytes", old, new, 0, 2)
        norms = self._edited(("norm", "norm1", "norm2"), self._base)
        changed = sum(len(t.data) for t in self._base if "norm" in t.name)
        runs = sum("norm" in t.name for t in self._base)
        yield Pair(
            "GGUF norms only", old, {"model.gguf": gguf(norms, "base", tokens)}, changed, runs
        )

    def _onnx(self) -> Iterator[Pair]:
        nodes = [onnx_node(f"n{i}") for i in range(len(self._base))]
        initial = [onnx_tensor(tensor) for tensor in self._base]
        old = {"model.onnx": onnx(initial, nodes)}
        new = {"model.onnx": onnx(initial, [onnx_node("added"), *nodes])}
        yield Pair("ONNX node added", old, new, 0, 1)
        one = self._edited(("layers.1.up",), self._base)
        size = len(next(t.data for t in one if t.name == "layers.1.up"))
        new = {"model.onnx": onnx([onnx_tensor(tensor) for tensor in one], nodes)}
        yield Pair("ONNX one initializer", old, new, size, 1)
        files = external(self._base, "model.onnx")
        yield Pair("ONNX data beside, same", files, external(one, "model.onnx"), size, 1)

    def _noise(self) -> Pair:
        count = sum(len(tensor.data) for tensor in self._base) // 2
        weights = self._dice.standard_normal(count, dtype=np.float32) * np.float32(0.02)
        moved = weights + self._dice.standard_normal(count, dtype=np.float32) * np.float32(2e-5)
        old, new = (self._filled((w.view(np.uint32) >> 16).astype("<u2")) for w in (weights, moved))
        return Pair("bf16, all weights + 1e-3 noise", old, new, 2 * count, 1, noise=True)

    def _filled(self, numbers: "np.ndarray[tuple[int, ...], np.dtype[np.uint16]]") -> Files:
        data, at, made = numbers.tobytes(), 0, []
        for tensor in self._base:
            made.append(tensor.with_data(data[at : at + len(tensor.data)]))
            at += len(tensor.data)
        return {ONE: safetensors(made)}
