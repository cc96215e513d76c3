"""Routing snapshots as bytes, for all routers at once; a part of `federation.contract.codec`.

Input: snapshots, one after the other. Output: the bytes of the RouterInstruction that carries one.
A snapshot has thousands of endpoints and replicas of which one or two are new: what was encoded for
the last one is joined again. Protobuf allows for it: fields that repeat stand one after the other
(https://protobuf.dev/programming-guides/encoding/).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from federation.contract import codec
from federation.contract.types import Endpoint, Replica, Snapshot
from federation.contract.v1 import federation_pb2 as pb

T = TypeVar("T")
_FIELD = pb.RouterInstruction.DESCRIPTOR.fields_by_name["snapshot"].number
_TAG = bytes([_FIELD << 3 | 2])  # one byte up to field 15; 2 = its length follows


class _Pieces(Generic[T]):
    """The bytes of each of some values, by identity."""

    def __init__(self, encode: Callable[[T], bytes]) -> None:
        self._encode = encode
        self._known: dict[int, tuple[T, bytes]] = {}  # who keeps them, keeps their ids

    def of(self, values: Iterable[T]) -> Iterator[bytes]:
        """Yield the bytes of each; what is not among the values is forgotten."""
        before, self._known = self._known, {}
        for value in values:
            if (piece := before.get(id(value))) is None:
                piece = (value, self._encode(value))
            self._known[id(value)] = piece
            yield piece[1]


class SnapshotWriter:
    """Encodes the snapshots of one control plane."""

    def __init__(self) -> None:
        self._endpoints: _Pieces[Endpoint] = _Pieces(
            lambda e: pb.Snapshot(endpoints=[codec.endpoint_to_proto(e)]).SerializeToString()
        )
        self._replicas: _Pieces[Replica] = _Pieces(
            lambda r: pb.Snapshot(replicas=[codec.replica_to_proto(r)]).SerializeToString()
        )
        self._newest: tuple[Snapshot, bytes] | None = None

    def __repr__(self) -> str:
        return f"SnapshotWriter(newest={self._newest[0].version if self._newest else 0})"

    def instruction(self, snapshot: Snapshot) -> bytes:
        """Return the message for routers; asked again for the newest one, it costs nothing."""
        if self._newest is None or self._newest[0] is not snapshot:
            rest = codec.snapshot_to_proto(replace(snapshot, endpoints=(), replicas=()))
            pieces = [*self._endpoints.of(snapshot.endpoints)]
            pieces += self._replicas.of(snapshot.replicas)
            body = b"".join([rest.SerializeToString(), *pieces])
            self._newest = (snapshot, b"".join([_TAG, _varint(len(body)), body]))
        return self._newest[1]


def _varint(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups[-1] |= 0x80
        groups.append(number & 0x7F)
    return bytes(groups)
