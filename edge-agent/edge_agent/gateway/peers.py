"""Gives pieces of packages to the other clusters of this region.

Input: requests of clusters, whose certificates the guard has checked; what the exchange and the
shelf have. Output: the status of a package, or one range of a piece; only verified bytes.

    GET /fed/v1/packages/DIGEST             200 PeerStatus | 404 not here
    GET /fed/v1/packages/DIGEST/pieces/N    206 one range | 202 not yet | 404 not from here

Inference comes first: few answers at once, read in a few threads, sent in small blocks.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, TypeVar

from edge_agent.policy.pace import SpanPace
from edge_agent.policy.swarm_members import PeerStatus
from edge_agent.sync.peer_status import encode_status
from edge_agent.sync.views import PieceReader
from federation.contract.errors import FederationError, Invalid, NotFound, PermissionDenied
from federation.relay.bodies import break_off, write
from federation.relay.errors import WrongMethod
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.http1.waiting import in_task
from federation.relay.paths import PEER_PREFIX, check_target
from federation.runtime.clock import Clock, SystemClock

_PATH = re.compile(re.escape(PEER_PREFIX) + r"([0-9a-f]{64})(?:/pieces/([0-9]{1,7}))?")
_RANGE = re.compile(r"bytes=([0-9]{1,12})-([0-9]{1,12})")
_READ_BYTES = 512 << 10  # from the disk at once: what one answer holds in memory
_SEND_BYTES = 128 << 10  # inference gets its turn after so many
_RATED_BYTES = 512 << 10  # blocks from this size on tell how fast we are
_ANSWERS = 4
_THREADS = 2
_WAIT_S = 0.25  # for a turn; then the peer is sent elsewhere
_ALONE_S = 3.0  # for at least so long a piece is not given to a second one
_STALL_S = 10.0
_T = TypeVar("_T")


class Fetching(Protocol):
    """What is asked of the exchange."""

    def is_peer(self, name: str) -> bool:
        """Return whether a cluster is another one of this region."""
        ...

    def status(self, digest: str) -> PeerStatus | None:
        """Return what to tell of a package that is being brought."""
        ...

    def is_mine(self, digest: str, piece: int) -> bool:
        """Return whether this cluster is about to get a piece from the origin."""
        ...

    def gives(self, digest: str, piece: int) -> bool:
        """Return whether a piece that is here goes to somebody who asks for it now."""
        ...

    def given(self, digest: str, piece: int) -> None:
        """Note that another cluster has taken a piece."""
        ...

    def gave(self, count: int, seconds: float) -> None:
        """Note how long it took until another cluster had taken so many bytes."""
        ...


class Upload(Protocol):
    """The cap on what is given away; a `Lane` of the throttle is one."""

    async def admit(self, count: int) -> None:
        """Wait until bytes may go out, and pay for them."""
        ...


class PeerDesk:
    """Answers other clusters. `view` finds a package that is here or on its way; it may block.

    `sent_bytes` counts what was given away.
    """

    def __init__(
        self,
        fetching: Fetching,
        view: Callable[[str], PieceReader | None],
        upload: Upload,
        *,
        answers: int = _ANSWERS,
        wait_s: float = _WAIT_S,
        clock: Clock | None = None,
    ) -> None:
        self.sent_bytes = 0
        self._fetching, self._view, self._upload = fetching, view, upload
        self._turns = asyncio.Semaphore(answers)
        self._wait_s, self._clock = wait_s, clock or SystemClock()
        self._sending: dict[tuple[str, int], float] = {}  # since when, to the last that asked
        self._pace = SpanPace()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="to-peers")

    def __repr__(self) -> str:
        return f"PeerDesk({self.sent_bytes} bytes sent)"

    def close(self) -> None:
        """End the threads; answers that are under way break off."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def handle(self, request: Request, cluster: str) -> StreamResponse:
        """Answer a request of a cluster.

        Raises PermissionDenied if it is none of this region, NotFound, Invalid, WrongMethod.
        """
        if not self._fetching.is_peer(cluster):
            raise PermissionDenied(f"cluster {cluster} is not known as one of this region.")
        found = _PATH.fullmatch(check_target(request.raw_path))
        if found is None:
            raise NotFound("There is nothing at this path.", reason="unknown-path")
        if request.method != "GET":
            raise WrongMethod("Packages can only be read.", allow="GET")
        digest, piece = found[1], found[2]
        if piece is None:
            return await self._status(digest)
        return await self._piece(request, digest, int(piece))

    async def _status(self, digest: str) -> Response:
        status = self._fetching.status(digest)
        if status is None:
            view = await self._in_thread(partial(self._view, digest))
            if view is None:
                raise _not_here(digest)
            have = await self._in_thread(view.bitmap)
            status = PeerStatus(have=have, able=False)  # it has no reason to ask the origin
        return Response(body=encode_status(status), content_type="application/json")

    async def _piece(self, request: Request, digest: str, number: int) -> StreamResponse:
        view = await self._in_thread(partial(self._view, digest))
        if view is None or number >= len(view.pieces):
            raise _not_here(digest)
        if not view.holds(number):
            if self._fetching.is_mine(digest, number):
                return Response(status=202)
            raise NotFound(f"Piece {number} is not here, and others fetch it.")
        first, count = _asked(request, view.pieces[number].length)
        key, now = (digest, number), self._clock.monotonic_s()
        if now - self._sending.get(key, float("-inf")) < self._alone_s(count):
            return Response(status=202)  # who gets it now can give it too
        if not self._fetching.gives(digest, number):
            return Response(status=202)  # what only we have goes first
        await in_task()
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError:
            return Response(status=202)  # too many others
        self._sending[key] = began_s = self._clock.monotonic_s()
        try:
            return await self._send(request, view, key, (first, count))
        finally:
            if self._sending.get(key) == began_s:
                del self._sending[key]
            self._turns.release()

    def _alone_s(self, count: int) -> float:
        """Return how long it takes to give so many bytes if all turns are taken: who takes longer
        is slow itself, and keeps nobody waiting."""
        rate = self._pace.rate
        return max(_ALONE_S, _ANSWERS * count / rate) if rate else _ALONE_S

    async def _send(
        self, request: Request, view: PieceReader, key: tuple[str, int], span: tuple[int, int]
    ) -> StreamResponse:
        (first, count), number = span, key[1]
        length = view.pieces[number].length
        end = first + count
        # The first block is read before the head is sent: a piece that turns out to be damaged is
        # a plain "not here".
        block = await self._read(view, number, first, end)
        response = StreamResponse(
            status=206,
            headers={
                "Content-Range": f"bytes {first}-{end - 1}/{length}",
                "Content-Type": "application/octet-stream",
            },
        )
        response.content_length = count
        await response.prepare(request)
        try:
            while block:
                began_s = self._clock.monotonic_s()
                for at in range(0, len(block), _SEND_BYTES):
                    part = block[at : at + _SEND_BYTES]
                    await self._upload.admit(len(part))
                    await write(request, response, part, _STALL_S)
                    self.sent_bytes += len(part)
                if len(block) >= _RATED_BYTES:
                    now = self._clock.monotonic_s()
                    self._pace.note(len(block), now - began_s, now)
                    self._fetching.gave(len(block), now - began_s)
                first += len(block)
                block = b""  # or two of them lie in memory while the next one is read
                if first < end:
                    block = await self._read(view, number, first, end)
        except (ConnectionError, FederationError):
            break_off(request)
        else:
            self._fetching.given(*key)
        return response

    async def _read(self, view: PieceReader, number: int, first: int, end: int) -> bytes:
        count = min(_READ_BYTES, end - first)
        return await self._in_thread(partial(view.read, number, first, count))

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _asked(request: Request, length: int) -> tuple[int, int]:
    """Return first byte and number of bytes of the one range that a request names."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or len(request.headers.getall("Range")) != 1:
        raise Invalid("A request for a piece names one range.", hint="Send Range: bytes=A-B.")
    first, last = int(found[1]), int(found[2])
    if not first <= last < length:
        raise Invalid(f"The piece has {length} bytes.", hint="Ask for a range inside of it.")
    return first, last - first + 1


def _not_here(digest: str) -> NotFound:
    return NotFound(f"The package {digest[:16]} is not here.")
