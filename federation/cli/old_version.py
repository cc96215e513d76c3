"""The version that a push tells its chunks as differences to: which chunks, and their bytes.

Input: the manifest and the locations of the old version, perhaps a directory with its files.
Output: for a new chunk its base, verified. What the directory has not got comes from the store, in
runs ahead; two of them are held (16 MiB), however large the version is.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from blake3 import blake3

from federation.chunking.delta import bases
from federation.chunking.encoding import decode
from federation.chunking.package import PackageReader
from federation.cli.pack_ranges import PackRanges, Run, runs_of
from federation.cli.tls import Roots
from federation.contract.errors import FederationError, Invalid, PermissionDenied, Unavailable
from federation.contract.locations import Locations, Place, bases_of, places_of
from federation.contract.manifest import distinct_chunks
from federation.contract.types import Manifest

_RUNS_HELD = 2
_TRIES = 4


class Base(NamedTuple):
    """A stored chunk that a new one is told as a difference to."""

    digest: bytes
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where the old version is: `load` fetches its locations, from any thread; `directory` may have
    its files, or what is left of them."""

    manifest: Manifest
    load: Callable[[], Locations]
    endpoint: str
    roots: Roots | None = None
    directory: Path | None = None


class OldVersion:
    """A context manager; not for several threads at once. `fetched` counts bytes from the store."""

    def __init__(self, origin: Origin) -> None:
        self.manifest = origin.manifest
        self._origin = origin
        self._base_of: dict[bytes, bytes] = {}
        self._store: _Store | None = None
        self._here = PackageReader(origin.directory, origin.manifest) if origin.directory else None

    def __repr__(self) -> str:
        return f"OldVersion({self.manifest.model}, {len(self._base_of)} bases)"

    def __enter__(self) -> "OldVersion":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._store is not None:
            self._store.close()
        if self._here is not None:
            self._here.close()

    @property
    def fetched(self) -> int:
        """How many bytes came from the store."""
        return self._store.fetched if self._store else 0

    def plan(self, new: Manifest, sent: Collection[bytes]) -> int:
        """Prepare for the new chunks that are sent; return how many of them have a base. Raises
        FederationError if the store does not tell where the old ones lie."""
        was = {n: old for n, old in bases(self.manifest, new).items() if n in sent}
        if not was:
            return 0
        self._store = _Store(self._origin)
        root_of = self._store.root_of()
        self._base_of = {n: root_of.get(old, old) for n, old in was.items()}
        lengths = distinct_chunks(self.manifest)
        needed = {self._base_of[n]: lengths[old] for n, old in was.items()}
        self._store.plan(needed, ahead=self._here is None)
        return len(self._base_of)

    def base(self, digest: bytes) -> Base | None:
        """Return the base of a new chunk; None if it has none, or if it is damaged in the store.
        Raises Unavailable if the store cannot be reached."""
        if (base := self._base_of.get(digest)) is None or self._store is None:
            return None
        if self._here is not None:
            with suppress(FederationError):  # not there, or not any more
                return Base(base, self._here.chunk(base))
        try:
            return Base(base, self._store.chunk(base))
        except Invalid:
            return None


class _Store:
    """Chunks of the old version, and what they lean on, from the packs of the store."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._needed: Mapping[bytes, int] = {}
        self._is_ahead = True
        self._before = 0  # bytes that earlier links brought
        self._packs = self._locate()

    @property
    def fetched(self) -> int:
        return self._before + self._packs.received

    def close(self) -> None:
        self._packs.close()

    def root_of(self) -> dict[bytes, bytes]:
        """Return for the old chunks that are differences themselves what they lean on: that is what
        new ones lean on too, so that nobody needs three chunks to read one."""
        digests = list(distinct_chunks(self._origin.manifest))
        return {digests[n]: bytes.fromhex(base) for n, base in self._locations.bases.items()}

    def plan(self, needed: Mapping[bytes, int], *, ahead: bool) -> None:
        """Tell which chunks will be asked for, and their lengths; all of them, in about that order,
        if `ahead`."""
        self._needed, self._is_ahead = needed, ahead
        placed = [(self._places[d], d) for d in needed if d in self._places]
        placed.sort(key=lambda one: (one[0].pack, one[0].offset))
        self._runs = list(runs_of(placed, needed)) if ahead else [[one] for one in placed]
        self._run_of = {d: number for number, run in enumerate(self._runs) for _, d in run}
        self._begun: set[int] = set()
        self._held: OrderedDict[int, dict[bytes, bytes]] = OrderedDict()

    def chunk(self, digest: bytes) -> bytes:
        """Return a chunk; raises Invalid if its bytes are wrong or it is gone, Unavailable."""
        failures = 0
        while True:
            try:
                return self._read(digest)
            except (PermissionDenied, Unavailable) as error:  # a link ended, a connection broke
                failures += 1
                if failures == _TRIES:
                    raise Unavailable(error.message, hint=error.hint) from None
                time.sleep(0.5 * (failures - 1))
                self.close()
                self._before = self.fetched
                self._packs = self._locate()
                self.plan(self._needed, ahead=self._is_ahead)

    def _read(self, digest: bytes) -> bytes:
        if (number := self._run_of.get(digest)) is None:
            raise Invalid(f"the store has no chunk {digest.hex()} any more.")
        place = self._places[digest]
        if digest not in self._held.get(number, ()):
            # A run that had to go before all of it was used is not fetched again as a whole.
            run: Run = self._runs[number] if number not in self._begun else [(place, digest)]
            self._begun.add(number)
            self._held[number] = self._packs.read(run)
            while len(self._held) > _RUNS_HELD:
                self._held.popitem(last=False)
        data = decode(self._held[number][digest], place.code, self._needed[digest])
        if blake3(data).digest() != digest:
            raise Invalid(f"the store's chunk {digest.hex()} is damaged.")
        return data

    def _locate(self) -> PackRanges:
        """Ask where the chunks lie now."""
        locations = self._locations = self._origin.load()
        digests = distinct_chunks(self._origin.manifest)
        places: dict[bytes, Place] = dict(zip(digests, places_of(locations), strict=True))
        self._places = places | bases_of(locations)
        return PackRanges(locations, self._origin.endpoint, self._origin.roots)
