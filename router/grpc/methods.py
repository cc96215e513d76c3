"""The methods of V2 gRPC that a router takes, and the answers that it gives itself.

Input: the path of a call. Output: an Rpc, or a refusal: one table, so that a method which is not in
it does not exist. What changes an engine (its repository, its memory, its logs) is not in it, as on
the HTTP side.
"""

from dataclasses import dataclass
from enum import StrEnum

from federation.relay.h2.message import text_field
from federation.relay.h2.status import Unimplemented

_SERVICE = b"/inference.GRPCInferenceService/"
LIVE = READY = b"\x08\x01"  # field 1, a bool or an enum: true, or SERVING
NOT_READY = b""  # protobuf leaves out what is false
EXTENSIONS = ("model_stream",)


class Need(StrEnum):
    """What answers a method."""

    ROUTER = "router"  # this router, from what it knows
    MODEL_READY = "model-ready"  # this router, once it knows which model
    MODEL = "model"  # a cluster that has the model


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One method. `open` = a key is not needed; `streams` = it has no end of its own."""

    name: str
    need: Need = Need.MODEL
    open: bool = False
    streams: bool = False
    table: bool = False  # needs a routing table
    plain: bool = False  # one message to a model, one from it, nothing of which is changed here


_RPCS = (
    Rpc(name="ServerLive", need=Need.ROUTER, open=True),
    Rpc(name="ServerReady", need=Need.ROUTER, open=True, table=True),
    Rpc(name="ServerMetadata", need=Need.ROUTER),
    Rpc(name="ModelReady", need=Need.MODEL_READY),
    Rpc(name="ModelMetadata"),
    Rpc(name="ModelInfer", plain=True),
    Rpc(name="ModelStreamInfer", streams=True),
)
_TABLE = {_SERVICE + rpc.name.encode(): rpc for rpc in _RPCS} | {
    b"/grpc.health.v1.Health/Check": Rpc(name="Check", need=Need.ROUTER, open=True, table=True)
}
_OFFERED = ", ".join(rpc.name for rpc in _RPCS)


def rpc_of(path: bytes) -> Rpc:
    """Return the method that a path names; raises Unimplemented."""
    rpc = _TABLE.get(path)
    if rpc is None:
        said = path[:100].decode("ascii", "replace")
        raise Unimplemented(f"There is no {said} here.", hint=f"There are {_OFFERED}.")
    return rpc


def server_metadata(name: str, version: str) -> bytes:
    """Return the answer to ServerMetadata: name, version, extensions."""
    extensions = b"".join(text_field(3, extension.encode()) for extension in EXTENSIONS)
    return text_field(1, name.encode()) + text_field(2, version.encode()) + extensions


def metadata_with(message: bytes, name: str, versions: tuple[int, ...]) -> bytes:
    """Return a replica's ModelMetadata with our name of the model and the federation's versions.

    Of equal fields the last name wins, but versions add up: those that came are cut.
    """
    ours = text_field(1, name.encode())
    ours += b"".join(text_field(2, str(number).encode()) for number in versions)
    return ours + without(message, frozenset((1, 2)))


def without(message: bytes, numbers: frozenset[int]) -> bytes:
    """Return a message without the length-delimited fields of these numbers at its top.

    What is no protobuf is returned as it is.
    """
    kept, at = [], 0
    try:
        while at < len(message):
            tag, after = _varint(message, at)
            kind = tag & 7
            if kind == 2:
                size, after = _varint(message, after)
                after += size
            elif kind == 0:
                _, after = _varint(message, after)
            else:
                after += {1: 8, 5: 4}[kind]
            if not (kind == 2 and tag >> 3 in numbers):
                kept.append(message[at:after])
            at = after
    except (IndexError, KeyError):
        return message
    return b"".join(kept)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        more = data[at]
        at += 1
        value |= (more & 0x7F) << shift
        if more < 0x80:
            return value, at
        shift += 7
