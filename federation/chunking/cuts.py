"""Where the tensors of a model file lie, as far as its format is known.

Input: the name of a file and a reader of its bytes. Output: spans, in order; none for what is not
understood. They are hints for the cutter: a wrong one costs bytes on the wire, nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from federation.chunking import gguf, onnx, safetensors
from federation.chunking.reader import Malformed, Reader, Span

MAX_SPANS = 200_000


@dataclass(frozen=True, slots=True)
class Layout:
    """The tensors in a file, and those that it keeps in files beside it, by their relative path."""

    spans: tuple[Span, ...] = ()
    beside: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)


def layout_of(name: str, reader: Reader) -> Layout:
    """Return what the format that the name's ending says tells; never raises for bad contents."""
    ending = name.rpartition(".")[2].lower()
    try:
        if ending == "onnx":
            found = onnx.read(reader, MAX_SPANS)
            beside = {path: _ordered(spans, None) for path, spans in found.beside.items()}
            return Layout(_ordered(found.spans, reader.size), beside)
        parse = _PARSERS.get(ending)
        return Layout(_ordered(parse(reader, MAX_SPANS), reader.size)) if parse else Layout()
    except Malformed:
        return Layout()


_PARSERS: dict[str, Callable[[Reader, int], list[Span]]] = {
    "safetensors": safetensors.spans,
    "gguf": gguf.spans,
}


def _ordered(spans: list[Span], size: int | None) -> tuple[Span, ...]:
    """Return the spans that can be true, by their start."""
    possible = (s for s in spans if 0 <= s.start < s.end and (size is None or s.end <= size))
    return tuple(sorted(possible))
