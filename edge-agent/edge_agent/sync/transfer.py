"""Brings missing chunks from the origin and from peers, on worker threads of its own.

Input: wanted chunks, an Offer or a PeerRequest. Output: calls of `put` with verified bytes, from
worker threads; the data is good only during the call. After a cancelled or failed transfer has
ended, no `put` runs and none will.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from edge_agent.policy.bandwidth import MAX_RANGE_BYTES
from edge_agent.policy.ranges import Part, check_part, runs_of
from edge_agent.sync.bases import bases_for
from edge_agent.sync.cancel import Cancel, Cancelled
from edge_agent.sync.connection import Connections, Patience
from edge_agent.sync.fetch import Account, Fetch, Means, Put, PutFailed, Refused
from edge_agent.sync.lending import Lender
from edge_agent.sync.offers import Offer, PeerAnswer, PeerOutcome, PeerRequest, WantedChunk
from edge_agent.sync.sites import Target, parse_url, resolve
from edge_agent.sync.throttle import Throttle, usual_streams
from edge_agent.sync.workers import Work, Workers, end, first_done
from federation.contract.errors import FederationError, Invalid, Unauthenticated, Unavailable
from federation.contract.locations import Place
from federation.contract.spiffe import PeerId, PeerRole, control_plane_dns_name
from federation.contract.types import Urgency
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock, SystemClock
from federation.trust.credentials import Credentials

STREAMS = usual_streams()  # one more would wait for its turn, and have its memory
ORIGIN_PATIENCE = Patience()
PEER_PATIENCE = Patience(connect_s=2.0, read_s=10.0, window_s=10.0, min_bytes_per_s=4096.0)
_TRIES, _PEER_TRIES = 4, 2
_EXPIRED = (401, 403, 404, 410)  # an old signature, or a pack that was rewritten meanwhile
_PASSING = (429, 500, 502, 503, 504)
_MAX_REFRESHES = 2  # without a chunk in between


class Transfers:
    """All transfers of one agent. `url` is the control plane's: relative URLs belong to it.

    Each urgency has threads of its own, so that a rollback never waits for a thread.
    """

    def __init__(  # noqa: PLR0913  # what it needs, each by name
        self,
        credentials: Credentials,
        throttle: Throttle,
        *,
        url: str,
        streams: int = STREAMS,
        patience: Patience = ORIGIN_PATIENCE,
        peer_patience: Patience = PEER_PATIENCE,
        dice: Dice | None = None,
        clock: Clock | None = None,
        lender: Lender | None = None,
    ) -> None:
        self._credentials, self._throttle, self._url = credentials, throttle, url.rstrip("/")
        lender = lender or Lender()
        # The bases of one piece at a time lie in memory, for each urgency.
        self._bases = {urgency: asyncio.Lock() for urgency in Urgency}
        self._streams = streams
        self._connections = Connections(credentials, clock or SystemClock())
        dice = dice or random.Random()  # noqa: S311  # spreads retries, guards nothing
        self._origin = Means(
            connections=self._connections,
            patience=patience,
            tries=_TRIES,
            dice=dice,
            passing=_PASSING,
            lender=lender,
        )
        self._peers = Means(
            connections=self._connections,
            patience=peer_patience,
            tries=_PEER_TRIES,
            dice=dice,
            lender=lender,
        )
        self._workers = Workers(streams)
        self._running: set[Cancel] = set()

    def __repr__(self) -> str:
        return f"Transfers({len(self._running)} running, {self._connections})"

    async def close(self) -> None:
        """Cancel what runs, end the threads, close the connections."""
        for cancel in tuple(self._running):
            cancel.set()
        await self._workers.close()
        self._connections.close()

    # ------------------------------------------------------------ from the origin

    async def from_origin(
        self, wanted: Sequence[WantedChunk], offer: Offer, put: Put, urgency: Urgency
    ) -> int:
        """Bring chunks from the packs of an offer; return how many bytes came over the network.
        Bases that are not on this disk come first.

        Raises Invalid if a source sent what it must not, Unavailable if it did not send, both with
        its name; and what `put` raises.
        """
        if offer.expired:
            await offer.refresh(offer.generation)
        if not any(offer.base_for(chunk.digest) for chunk in wanted):
            return await self._from_packs(wanted, offer, put, urgency)
        async with self._bases[urgency]:
            bases, received = await bases_for(wanted, offer), 0
            if bases.lacking:
                received = await self._from_packs(bases.lacking, offer, bases.put, urgency)
            return received + await self._from_packs(wanted, offer, put, urgency, bases.held)

    async def _from_packs(
        self,
        wanted: Sequence[WantedChunk],
        offer: Offer,
        put: Put,
        urgency: Urgency,
        bases: Mapping[bytes, bytes] = MappingProxyType({}),
    ) -> int:
        chunks = {chunk.number: chunk for chunk in wanted}
        queue = deque(self._plan(wanted, offer))
        running: dict[Work, tuple[Fetch, int]] = {}
        received = refreshes = 0
        with self._job() as cancel:
            try:
                while queue or running:
                    while queue and len(running) < self._streams:
                        account = Account(self._throttle.origin, urgency, cancel)
                        generation, target, run = queue.popleft()
                        fetch = Fetch(target, run, put, account, bases.get)
                        work = self._start("origin", fetch, self._origin)
                        running[work] = fetch, generation
                    for work in await first_done(running):
                        fetch, generation = running.pop(work)
                        received += fetch.account.wire_bytes
                        if (refused := _outcome(work, fetch)) is None:
                            refreshes = 0
                            continue
                        if fetch.begun:
                            refreshes = 0
                        refreshes += generation == offer.generation
                        if refreshes > _MAX_REFRESHES:
                            raise Unavailable(f"{fetch.target}: {refused.reason}.")
                        await offer.refresh(generation)
                        again = [chunks[part.number] for part in fetch.rest]
                        queue.extend(self._plan(again, offer))
            finally:
                await end(cancel, running)
        return received

    def _plan(
        self, wanted: Sequence[WantedChunk], offer: Offer
    ) -> Iterator[tuple[int, Target, tuple[Part, ...]]]:
        """Yield runs, with the generation of the offer that their URLs are of."""
        parts = []
        for chunk in wanted:
            place, base = offer.place_of(chunk.digest), offer.base_for(chunk.digest)
            parts.append(check_part(Part(chunk.number, chunk.digest, chunk.length, place, base)))
        _, trust = self._credentials.require()
        name = control_plane_dns_name(trust.trust_domain)
        # Under a low cap runs are short, so that transfers side by side take turns.
        for run in runs_of(parts, self._throttle.origin.shape.range_bytes):
            yield offer.generation, resolve(offer.url_of(run[0].place), self._url, name), run

    # ------------------------------------------------------------ from a peer

    async def from_peer(
        self, request: PeerRequest, wanted: Sequence[WantedChunk], put: Put, urgency: Urgency
    ) -> PeerAnswer:
        """Bring chunks of one piece from a peer. Whatever the peer does is in the answer; raises
        what `put` raises."""
        parts = [
            Part(c.number, c.digest, c.length, Place(request.piece, c.offset, c.length))
            for c in wanted
        ]
        path = f"/fed/v1/packages/{request.digest}/pieces/{request.piece}"
        received = 0
        with self._job() as cancel:
            for run in runs_of(parts, MAX_RANGE_BYTES):
                account = Account(self._throttle.peers, urgency, cancel)
                running: list[Work] = []
                try:
                    fetch = Fetch(self._peer_target(request, path), run, put, account)
                    running.append(self._start("peers", fetch, self._peers))
                    await first_done(running)
                    _result(running.pop())
                except (FederationError, Refused) as error:
                    outcome, reason = _judged(error, request)
                    received += account.wire_bytes
                    return PeerAnswer(outcome=outcome, reason=reason, wire_bytes=received)
                except PutFailed as failed:
                    raise failed.error from None
                finally:
                    await end(cancel, running)
                received += account.wire_bytes
        return PeerAnswer(outcome=PeerOutcome.GOT, wire_bytes=received)

    def _peer_target(self, request: PeerRequest, path: str) -> Target:
        _, trust = self._credentials.require()
        name = PeerId(trust.trust_domain, PeerRole.CLUSTER, request.cluster).dns_name
        return parse_url(request.url.rstrip("/") + path, ours=True, name=name)

    # ------------------------------------------------------------ threads

    @contextlib.contextmanager
    def _job(self) -> Iterator[Cancel]:
        cancel = Cancel()
        self._running.add(cancel)
        try:
            yield cancel
        finally:
            self._running.discard(cancel)

    def _start(self, source: str, fetch: Fetch, means: Means) -> Work:
        pool = f"{source}-{fetch.account.urgency.name.lower()}"
        return self._workers.start(pool, partial(fetch.run, means))


def _result(work: Work) -> None:
    try:
        work.future.result()
    except Cancelled:
        raise Unavailable("the transfer was ended: this agent stops.") from None


def _outcome(work: Work, fetch: Fetch) -> Refused | None:
    """Return None if a fetch is done, or the refusal that fresh URLs may help against; raises what
    else became of it."""
    try:
        _result(work)
    except Refused as refused:
        if refused.head.status in _EXPIRED:
            return refused
        kind = Unavailable if refused.head.status >= 429 else Invalid
        raise kind(f"{fetch.target}: {refused.reason}.") from None
    except PutFailed as failed:
        raise failed.error from None
    return None


def _judged(error: FederationError | Refused, request: PeerRequest) -> tuple[PeerOutcome, str]:
    """Return what an error of a transfer from a peer means."""
    who = f"cluster {request.cluster}"
    if isinstance(error, Refused):
        if error.head.status == 202:
            return PeerOutcome.NOT_YET, f"{who} fetches this piece itself."
        return PeerOutcome.REFUSED, f"{who}: {error.reason}."
    bad = isinstance(error, Invalid | Unauthenticated)
    return PeerOutcome.BAD if bad else PeerOutcome.UNREACHABLE, f"{who}: {error.message}"
