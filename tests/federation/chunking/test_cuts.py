"""The layout of a file by its name; no contents make it raise, and what it says can be true."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.chunking.files import Tensor, external, gguf, onnx, onnx_tensor, safetensors
from federation.chunking.cuts import Layout, layout_of
from federation.chunking.cutter import regions
from federation.chunking.reader import Reader, Span
from tests.depth import examples

TENSORS = [Tensor("a", "BF16", (4096,), b"ab" * 4096), Tensor("b", "F32", (2048,), b"cdef" * 2048)]
SOUND = {
    "m.safetensors": safetensors(TENSORS),
    "m.gguf": gguf(TENSORS, "m", 40),
    "m.onnx": onnx([onnx_tensor(tensor) for tensor in TENSORS], []),
}


@pytest.mark.parametrize("name", SOUND)
def test_formats_are_known_by_the_ending(name: str) -> None:
    data = SOUND[name]
    for span, tensor in zip(layout_of(name, Reader.over(data)).spans, TENSORS, strict=True):
        assert data[span.start : span.end] == tensor.data
    assert layout_of(name.upper(), Reader.over(data)).spans
    assert layout_of(name + ".bak", Reader.over(data)) == Layout()


def test_files_beside_are_told() -> None:
    data = external(TENSORS, "m.onnx")["m.onnx"]
    layout = layout_of("m.onnx", Reader.over(data))
    assert layout == Layout((), {"m.onnx.data": (Span(0, 8192, 2), Span(8192, 16384, 4))})


def _check(name: str, data: bytes) -> None:
    layout = layout_of(name, Reader.over(data))
    assert all(0 <= span.start < span.end <= len(data) for span in layout.spans)
    assert list(layout.spans) == sorted(layout.spans)
    assert sum(r.end - r.start for r in regions(len(data), layout.spans)) == len(data)


@given(st.sampled_from(list(SOUND)), st.binary(max_size=400))
@example("m.onnx", b"\x3a\x00")
def test_any_bytes(name: str, data: bytes) -> None:
    _check(name, data)
    _check(name, SOUND[name][:8] + data)


@given(
    st.sampled_from(list(SOUND)),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.integers(0, 20_000),
)
@settings(max_examples=examples(150))
def test_sound_files_with_bytes_changed(
    name: str, changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(SOUND[name][:end])
    for at, value in changes:
        if at < len(data):
            data[at] = value
    _check(name, bytes(data))


def test_tensors_may_overlap_or_lie_outside() -> None:
    data = safetensors(TENSORS).replace(b"[8192,16384]", b"[4096,16384]")
    spans = layout_of("x.safetensors", Reader.over(data)).spans
    assert spans[1].start == spans[0].start + 4096
    for end in (99_384, 1 << 70):
        data = safetensors(TENSORS, {"a": "b"}).replace(b"16384]", b"%d]" % end)
        data = (int.from_bytes(data[:8], "little") + len(b"%d" % end) - 5).to_bytes(
            8, "little"
        ) + data[8:]
        assert len(layout_of("x.safetensors", Reader.over(data)).spans) == 1
