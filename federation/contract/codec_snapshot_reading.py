"""Routing snapshots read from their bytes, again and again; a part of `federation.contract.codec`.

Input: the bytes of one Snapshot after the other, as `SnapshotWriter` makes them. Output: snapshots,
built in slices. What the last one held with the same bytes is the same object in the next one: it
is not decoded again, and whoever indexes snapshots can tell by identity what is new.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Generic, TypeVar

from google.protobuf.message import DecodeError

from federation.contract import codec, codec_trust
from federation.contract.access import Access
from federation.contract.errors import Invalid
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb

M = TypeVar("M")
T = TypeVar("T")
SLICE = 512  # members that are read at once: half a millisecond, if all of them are new


class _Members(Generic[M, T]):
    """The members of one kind, by their bytes."""

    def __init__(
        self, parse: Callable[[bytes], M], decode: Callable[[Iterable[M]], Iterable[T]]
    ) -> None:
        self._parse = parse
        self._decode = decode
        self._known: dict[bytes, T] = {}
        self.decoded = 0  # so far

    def read(
        self, pieces: Sequence[bytes], parsed: Sequence[M] = ()
    ) -> Generator[None, None, tuple[T, ...]]:
        """Return the members; those that are not among them are forgotten. `parsed`: the messages
        of all pieces, if somebody has them."""
        fresh, members = dict[bytes, T](), list[T]()
        for start in range(0, len(pieces), SLICE):
            some = pieces[start : start + SLICE]
            found = self._found(some, parsed[start : start + SLICE])
            fresh.update(zip(some, found, strict=True))
            members += found
            yield
        self._known = fresh
        return tuple(members)

    def _found(self, pieces: Sequence[bytes], parsed: Sequence[M]) -> list[T]:
        if parsed:
            self.decoded += len(parsed)
            return list(self._decode(parsed))
        found = list(map(self._known.get, pieces))
        new = [piece for piece, member in zip(pieces, found, strict=True) if member is None]
        self.decoded += len(new)
        decoded = iter(self._decode(map(self._parse, new)))
        return [next(decoded) if member is None else member for member in found]


class SnapshotReader:
    """Reads the snapshots of one control plane. One at a time: see `read`."""

    def __init__(self) -> None:
        self._models = _Members(pb.ModelRoute.FromString, _each(codec.model_route_from_proto))
        self._endpoints = _Members(pb.Endpoint.FromString, codec.endpoints_from_proto)
        self._replicas = _Members(pb.Replica.FromString, codec.replicas_from_proto)
        self._routers = _Members(pb.RouterSite.FromString, _each(codec.router_site_from_proto))
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
            # Where all is new, to parse all at once takes a third of what the pieces would.
            whole = pb.Snapshot() if self.decoded else pb.Snapshot.FromString(data)
            yield
            snapshot = Snapshot(
                version=parts.version,
                models=(yield from self._models.read(parts.models)),
                endpoints=(yield from self._endpoints.read(parts.endpoints, whole.endpoints)),
                replicas=(yield from self._replicas.read(parts.replicas, whole.replicas)),
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


def _each(decode: Callable[[M], T]) -> Callable[[Iterable[M]], Iterable[T]]:
    return lambda messages: map(decode, messages)
