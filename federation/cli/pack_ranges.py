"""Ranges of packs, fetched for whoever needs the chunks of a version on this machine.

Input: locations from the control plane. Output: stored bytes of chunks, unchecked, from wherever
the links lead; one connection for each host.
"""

import http.client
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urljoin, urlsplit

from federation.cli.tls import Roots, connection
from federation.contract.errors import PermissionDenied, Unavailable
from federation.contract.locations import Locations, Place

RANGE_BYTES = 8 << 20
_TIMEOUT_S = 30.0

Run = list[tuple[Place, bytes]]  # chunks that lie one behind the other: place, digest


class PackRanges:
    """Fetches runs; `received` counts the bytes of chunks. Not for several threads at once."""

    def __init__(self, locations: Locations, endpoint: str, roots: Roots | None) -> None:
        self.received = 0
        self._locations = locations
        self._endpoint = endpoint
        self._roots = roots
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def close(self) -> None:
        """Close all connections."""
        for one in self._connections.values():
            one.close()

    def read(self, run: Run) -> dict[bytes, bytes]:
        """Return the stored bytes of the chunks of a run, by digest; raises PermissionDenied when
        a link has ended, Unavailable."""
        start = run[0][0].offset
        data = self._range(run[0][0].pack, start, run[-1][0].offset + run[-1][0].stored)
        self.received += len(data)
        return {d: data[p.offset - start : p.offset - start + p.stored] for p, d in run}

    def _range(self, pack: int, start: int, end: int) -> bytes:
        url = urljoin(self._endpoint, self._locations.packs[pack].url)
        parts = urlsplit(url)
        host = f"{parts.scheme}://{parts.netloc}"
        try:
            made = self._connections.get(host)
            if made is None:
                ours = host == self._endpoint.rstrip("/")
                made = connection(host, roots=self._roots if ours else None, timeout_s=_TIMEOUT_S)
                self._connections[host] = made
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            headers = {"Range": f"bytes={start}-{end - 1}", "User-Agent": "fed"}
            made.request("GET", target, headers=headers)
            answer = made.getresponse()
            data = answer.read(end - start + 1)
        except (OSError, http.client.HTTPException) as error:
            self._drop(host)
            raise Unavailable(f"{host} broke off: {error}.") from None
        if answer.status == http.client.PARTIAL_CONTENT and len(data) == end - start:
            return data
        self._drop(host)
        if answer.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise PermissionDenied(f"{host} does not let us fetch {parts.path} (any more).")
        raise Unavailable(f"{host} answered {answer.status} with {len(data)} bytes for a range.")

    def _drop(self, host: str) -> None:
        if (held := self._connections.pop(host, None)) is not None:
            held.close()


def runs_of(needed: Iterable[tuple[Place, bytes]], lengths: Mapping[bytes, int]) -> Iterator[Run]:
    """Group chunks that lie one behind the other, in the order given, up to RANGE_BYTES once they
    are decoded; `lengths` tells those of the chunks."""
    run: Run = []
    size = 0
    for place, digest in needed:
        length = max(lengths[digest], place.stored)
        if run:
            last = run[-1][0]
            adjacent = place.pack == last.pack and place.offset == last.offset + last.stored
            if not adjacent or size + length > RANGE_BYTES:
                yield run
                run, size = [], 0
        run.append((place, digest))
        size += length
    if run:
        yield run
