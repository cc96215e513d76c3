"""Pushing a package: ask what is missing, send it, register the version.

Input: a Package. Output: calls of the operator API. Chunks go as a stream of frames; whatever ends
the stream, those that came whole stay, and are not sent again.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import msgspec

from federation.chunking.encoding import shrink
from federation.cli.client import ApiClient, LinkBroken
from federation.cli.documents import Json
from federation.cli.old_version import OldVersion
from federation.cli.packages import Package
from federation.cli.progress import Progress
from federation.contract.errors import (
    DeadlineExceeded,
    Exhausted,
    FederationError,
    NotFound,
    Unavailable,
)
from federation.contract.locations import RAW, WITH_BASE, Frame
from federation.contract.manifest import distinct_chunks
from federation.contract.release import Envelope
from federation.runtime.clock import Clock, SystemClock

ASKED_AT_ONCE = 50_000  # digests in one question
BODY_BYTES = 256 << 20  # of one upload, as they are before encoding; each ends a pack
ASK_AGAIN_S = 3600.0  # what is asked for is not collected as garbage for a while
AHEAD = 3  # chunks that are read and encoded while another is sent
TRIES = 6  # without any progress between them
MAX_SOURCE = 1024
_WORTH_TRYING = (LinkBroken, Exhausted, DeadlineExceeded)


@dataclass(slots=True)
class Sent:
    """What a push sent. `raw` are bytes of the package, `wire` those that travelled;
    `differences` of the chunks were told as such to those of an old version."""

    chunks: int = 0
    raw: int = 0
    wire: int = 0
    differences: int = 0


def send_chunks(
    client: ApiClient,
    package: Package,
    *,
    compress: bool = True,
    old: OldVersion | None = None,
    clock: Clock | None = None,
) -> Sent:
    """Send what the control plane lacks, as differences to `old` where that is much shorter; raises
    FederationError."""
    chunks = distinct_chunks(package.manifest)
    missing = _missing(client, chunks)
    sent, clock = Sent(), clock or SystemClock()
    total = sum(missing.values())
    if old is not None:
        old.plan(package.manifest, missing)
    with (
        Progress("sending", total) as progress,
        ThreadPoolExecutor(1, thread_name_prefix="encode") as worker,
    ):
        left, asked_s = missing, clock.monotonic_s()
        while left:
            if clock.monotonic_s() - asked_s > ASK_AGAIN_S:
                left, asked_s = _missing(client, chunks), clock.monotonic_s()
            body = _first(left, BODY_BYTES)
            frames = _Frames(package, worker, sent, progress, compress=compress, old=old)
            _send_body(client, frames, body, progress)
            left = {digest: length for digest, length in left.items() if digest not in body}
    return sent


def missing_chunks(client: ApiClient, package: Package) -> dict[bytes, int]:
    """Return the chunks that a push would send, and their lengths."""
    return _missing(client, distinct_chunks(package.manifest))


def register(
    client: ApiClient, package: Package, source: str, release: Envelope | None = None
) -> Json:
    """Make the package a version of its model; returns the control plane's answer."""
    content: Json = {
        "package": package.text,
        "manifest": msgspec.to_builtins(package.manifest),
        "source": source[:MAX_SOURCE],
    }
    if release is not None:
        content["release"] = msgspec.to_builtins(release)
    path = ("api", "v1", "models", package.manifest.model, "versions")
    return client.send("POST", *path, content=content)


def _missing(client: ApiClient, chunks: dict[bytes, int]) -> dict[bytes, int]:
    """Return those chunks that the control plane lacks, in the same order."""
    found: dict[bytes, int] = {}
    items = iter(chunks.items())
    while part := list(islice(items, ASKED_AT_ONCE)):
        answer = client.ask(
            b"".join(digest for digest, _ in part), "api", "v1", "chunks", "missing"
        )
        if len(answer) != len(part):
            raise Unavailable("the control plane did not answer which chunks are missing.")
        found |= {d: length for (d, length), told in zip(part, answer, strict=True) if told}
    return found


def _first(chunks: dict[bytes, int], limit: int) -> dict[bytes, int]:
    """Return the first chunks, of `limit` bytes together or one chunk."""
    picked: dict[bytes, int] = {}
    room = limit
    for digest, length in chunks.items():
        if picked and length > room:
            break
        picked[digest] = length
        room -= length
    return picked


def _send_body(
    client: ApiClient, frames: "_Frames", body: dict[bytes, int], progress: Progress
) -> None:
    """Send chunks until all of them are there; raises what ends the patience."""
    left, failures, before_bytes = body, 0, progress.done
    while left:
        try:
            client.stream(frames.of(left), "api", "v1", "chunks")
        except _WORTH_TRYING as error:
            failures += 1
            before = len(left)
            left = _after(client, left, failures, error)
            if len(left) < before:
                failures = 0
            progress.done = before_bytes + sum(body.values()) - sum(left.values())
        except NotFound:  # a base was found damaged in the store meanwhile
            if frames.old is None:
                raise
            frames.old = None
            left = _missing(client, left)
        else:
            return


def _after(
    client: ApiClient, left: dict[bytes, int], failures: int, error: FederationError
) -> dict[bytes, int]:
    """Wait, then ask what is missing still; raises `error` when it was tried often enough."""
    while True:
        if failures >= TRIES:
            raise error
        time.sleep(min(0.25 * 2**failures, 8.0))  # the far end keeps what came first
        try:
            return _missing(client, left)
        except Unavailable:
            failures += 1


class _Made(NamedTuple):
    head: Frame
    frame: bytes


class _Frames:
    """Makes the frames of chunks, some ahead, in a thread of their own; counts what it gave."""

    def __init__(
        self,
        package: Package,
        worker: ThreadPoolExecutor,
        sent: Sent,
        progress: Progress,
        *,
        compress: bool,
        old: OldVersion | None,
    ) -> None:
        self.old = old
        self._package = package
        self._worker = worker
        self._sent = sent
        self._progress = progress
        self._compress = compress

    def of(self, chunks: dict[bytes, int]) -> Iterator[bytes]:
        """Yield the frames of these chunks."""
        ahead: deque[Future[_Made]] = deque()
        try:
            for digest in chunks:
                ahead.append(self._worker.submit(self._frame, digest))
                if len(ahead) > AHEAD:
                    yield self._counted(ahead.popleft().result())
            while ahead:
                yield self._counted(ahead.popleft().result())
        finally:
            for future in ahead:
                future.cancel()

    def _frame(self, digest: bytes) -> _Made:
        data = self._package.chunk(digest)
        code, stored, base = RAW, data, None
        if self._compress:
            width = self._package.width(digest)
            base = self.old.base(digest) if self.old and width else None
            code, stored = shrink(data, width, base.data if base else b"")
        head = Frame(
            digest=digest,
            length=len(data),
            stored=len(stored),
            code=code,
            base=base.digest if base and code & WITH_BASE else b"",
        )
        return _Made(head, head.pack() + stored)

    def _counted(self, made: _Made) -> bytes:
        self._sent.chunks += 1
        self._sent.raw += made.head.length
        self._sent.wire += len(made.frame)
        self._sent.differences += bool(made.head.base)
        self._progress.add(made.head.length)
        return made.frame
