"""Routing snapshots read from their bytes, again and again; a part of `federation.contract.codec`.

Input: the bytes of one Snapshot after the other, as `SnapshotWriter` makes them. Output: snapshots,
built in slices. What the last one held with the same bytes is the same object in the next one: it
is not decoded again, and whoever indexes snapshots can tell by identity what is new.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError

from federation.contract import codec, codec_trust
from federation.contract.access import Access
from federation.contract.errors import Invalid
from federation.contract.types import Endpoint, ModelRoute, Replica, RouterSite, Snapshot
from federation.contract.v1 import federation_pb2 as pb

T = TypeVar("T")
SLICE = 512  # members that are read at once: half a millisecond, if all of them are new


class _Members(Generic[T]):
    """The members of one kind, by their bytes."""

    def __init__(self, decode: Callable[[bytes], T]) -> None:
        self._decode = decode
        self._known: dict[bytes, T] = {}
        self.decoded = 0  # so far

    def read(self, pieces: Sequence[bytes]) -> Generator[None, None, tuple[T, ...]]:
        """Return the members; those that are not among them are forgotten."""
        known, decode, fresh, members = self._known, self._decode, dict[bytes, T](), list[T]()
        rest: Iterator[bytes] = iter(pieces)
        while some := list(islice(rest, SLICE)):
            for piece in some:
                member = known.get(piece)
                if member is None:
                    member = decode(piece)
                    self.decoded += 1
                fresh[piece] = member
                members.append(member)
            yield
        self._known = fresh
        return tuple(members)


class SnapshotReader:
    """Reads the snapshots of one control plane. One at a time: see `read`."""

    def __init__(self) -> None:
        self._models: _Members[ModelRoute] = _Members(
            lambda b: codec.model_route_from_proto(pb.ModelRoute.FromString(b))
        )
        self._endpoints: _Members[Endpoint] = _Members(
            lambda b: codec.endpoint_from_proto(pb.Endpoint.FromString(b))
        )
        self._replicas: _Members[Replica] = _Members(
            lambda b: codec.replica_from_proto(pb.Replica.FromString(b))
        )
        self._routers: _Members[RouterSite] = _Members(
            lambda b: codec.router_site_from_proto(pb.RouterSite.FromString(b))
        )
        self._access: tuple[bytes, Access] = b"", Access()
        self.version = 0  # of the last one

    def __repr__(self) -> str:
        return f"SnapshotReader(version={self.version})"

    @property
    def decoded(self) -> int:
        """How many members were new so far."""
        return self._models.decoded + self._endpoints.decoded + self._replicas.decoded

    def read(self, data: bytes) -> Generator[None, None, Snapshot]:
        """Return a snapshot, in slices; raises Invalid. To be ended before another is begun."""
        try:
            parts = pb.SnapshotParts.FromString(data)
            yield
            snapshot = Snapshot(
                version=parts.version,
                models=(yield from self._models.read(parts.models)),
                endpoints=(yield from self._endpoints.read(parts.endpoints)),
                replicas=(yield from self._replicas.read(parts.replicas)),
                access=self._read_access(parts.access),
                routers=(yield from self._routers.read(parts.routers)),
            )
        except DecodeError as error:
            raise Invalid(f"These bytes are no snapshot: {error}.") from None
        self.version = snapshot.version
        return snapshot

    def _read_access(self, piece: bytes) -> Access:
        if piece != self._access[0]:
            self._access = piece, codec_trust.access_from_proto(pb.Access.FromString(piece))
        return self._access[1]
