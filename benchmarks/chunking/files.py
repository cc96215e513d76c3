"""Model files made by hand: safetensors, GGUF and ONNX with the tensors that they are given.

Input: names, types and bytes of tensors. Output: bytes of files. Written after the formats'
descriptions, and not with the parsers that they are for.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Tensor:
    """A matrix or vector. `kind` is "BF16", "F32" or "I8"."""

    name: str
    kind: str
    shape: tuple[int, ...]
    data: bytes

    def with_data(self, data: bytes) -> "Tensor":
        """Return it with other numbers."""
        return replace(self, data=data)


Tensors = Sequence[Tensor]


def safetensors(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a safetensors file; tensors in the order given."""
    header: dict[str, object] = {"__metadata__": dict(metadata or {"format": "pt"})}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.kind,
            "shape": tensor.shape,
            "data_offsets": [at, at + len(tensor.data)],
        }
        at += len(tensor.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((struct.pack("<Q", len(text)), text, *(tensor.data for tensor in tensors)))


_GGML = {"F32": 0, "BF16": 30, "I8": 24}
_ALIGNMENT = 32


def gguf(tensors: Tensors, name: str, tokens: int) -> bytes:
    """Return a GGUF file, version 3, with a vocabulary of `tokens` words in its header."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.name") + struct.pack("<I", 8) + text(name),
        text("general.alignment") + struct.pack("<II", 4, _ALIGNMENT),
        text("tokenizer.ggml.tokens")
        + struct.pack("<IIQ", 9, 8, tokens)
        + b"".join(text(f"token{i * 7919 % tokens}") for i in range(tokens)),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, tokens) + bytes(4 * tokens),
    ]
    table, data = [], bytearray()
    for tensor in tensors:
        data += bytes(-len(data) % _ALIGNMENT)
        dims = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        table.append(text(tensor.name) + dims + struct.pack("<IQ", _GGML[tensor.kind], len(data)))
        data += tensor.data
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join((*pairs, *table))
    return head + bytes(-len(head) % _ALIGNMENT) + bytes(data)


_ONNX = {"F32": 1, "BF16": 16, "I8": 3}


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))


def number(field: int, value: int) -> bytes:
    """Return a field of a Protocol Buffers message that holds a number."""
    return _varint(field << 3) + _varint(value)


def block(field: int, value: bytes) -> bytes:
    """Return a field that holds bytes, text or a message."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def onnx_tensor(tensor: Tensor, *, beside: tuple[str, int] | None = None) -> bytes:
    """Return a TensorProto; its data in another file (path, offset) if `beside`."""
    head = b"".join(number(1, size) for size in tensor.shape)
    head += number(2, _ONNX[tensor.kind]) + block(8, tensor.name.encode())
    if beside is None:
        return head + block(9, tensor.data)
    entries = {"location": beside[0], "offset": str(beside[1]), "length": str(len(tensor.data))}
    for key, value in entries.items():
        head += block(13, block(1, key.encode()) + block(2, value.encode()))
    return head + number(14, 1)


def onnx_node(name: str, attributes: Sequence[bytes] = ()) -> bytes:
    """Return a NodeProto."""
    return (
        block(1, b"in_" + name.encode())
        + block(2, b"out_" + name.encode())
        + block(3, name.encode())
        + block(4, b"MatMul")
        + b"".join(block(5, attribute) for attribute in attributes)
    )


def onnx(initializers: Sequence[bytes], nodes: Sequence[bytes]) -> bytes:
    """Return a ModelProto of serialised initializers and nodes."""
    graph = b"".join(block(1, node) for node in nodes) + block(2, b"main")
    graph += b"".join(block(5, tensor) for tensor in initializers)
    return number(1, 10) + block(2, b"benchmark") + block(7, graph)


def external(tensors: Tensors, name: str, nodes: int = 4) -> dict[str, bytes]:
    """Return an ONNX model whose tensors lie in a file beside it, page by page."""
    data, protos = bytearray(), []
    for tensor in tensors:
        data += bytes(-len(data) % 4096)
        protos.append(onnx_tensor(tensor, beside=(f"{name}.data", len(data))))
        data += tensor.data
    model = onnx(protos, [onnx_node(f"node{i}") for i in range(nodes)])
    return {name: model, f"{name}.data": bytes(data)}
