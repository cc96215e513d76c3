"""One version on its way to this cluster: the shell around the Swarm that decides.

Input: a Staging that lacks chunks, an Offer of the origin, the region's list of members. Output:
the chunks in the staging. It runs what the Swarm says, tells it what became of that, and asks the
other members for their status now and then. Cancelling it ends every fetch; what was put stays.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent.policy.pace import Pace
from edge_agent.policy.pieces import Piece
from edge_agent.policy.swarm import Swarm
from edge_agent.policy.swarm_members import Members, PeerStatus
from edge_agent.policy.swarm_terms import ORIGIN, Fetch, Outcome, Shuffler, SwarmLimits
from edge_agent.sync.faults import DISK_FAILING
from edge_agent.sync.offers import Offer, PeerAnswer, PeerOutcome, PeerRequest, WantedChunk
from federation.contract.errors import FederationError, Invalid, PermissionDenied, Unavailable
from federation.contract.manifest import Chunk
from federation.contract.sync import SyncPeer, SyncProgress
from federation.contract.types import Urgency
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

_TICK_S = 0.1
_POLL_S = 0.7
_GREET_S = 0.2  # until all have said something
_POLLS_PER_S = 50.0  # of one package, to all members together
_STATUS_S = 0.25  # how old our own status may be when it is told
_RATE_S = 10.0  # the rate is that of so many seconds
_ROUNDS = 3  # a failing disk may lose what was put
_TRIES, _LYING_TRIES, _NOTHING_S = 8, 3, 30.0  # then the origin is given up

_OUTCOMES = {
    PeerOutcome.GOT: Outcome.GOT,
    PeerOutcome.NOT_YET: Outcome.NOT_YET,
    PeerOutcome.REFUSED: Outcome.REFUSED,
    PeerOutcome.UNREACHABLE: Outcome.FAILED,
    PeerOutcome.BAD: Outcome.BAD,
}


class Stage(Protocol):
    """What is used of a Staging."""

    digest: str
    pieces: tuple[Piece, ...]
    total_bytes: int

    @property
    def reused_bytes(self) -> int:
        """Bytes that were on this disk already."""
        ...

    @property
    def present_bytes(self) -> int:
        """Bytes that are here and verified."""
        ...

    def needed(self, piece: int) -> tuple[int, ...]:
        """Return the chunks that have to be fetched for a piece."""
        ...

    def chunk(self, number: int) -> Chunk:
        """Return digest and length of a chunk."""
        ...

    def put(self, number: int, data: memoryview) -> None:
        """Write a chunk."""
        ...

    def bitmap(self) -> bytes:
        """Return which pieces are held."""
        ...


class Carrier(Protocol):
    """What is used of Transfers."""

    async def close(self) -> None:
        """End what runs, close the connections."""
        ...

    async def from_origin(
        self,
        wanted: Sequence[WantedChunk],
        offer: Offer,
        put: Callable[[int, memoryview], None],
        urgency: Urgency,
    ) -> int:
        """Bring chunks from the origin."""
        ...

    async def from_peer(
        self,
        request: PeerRequest,
        wanted: Sequence[WantedChunk],
        put: Callable[[int, memoryview], None],
        urgency: Urgency,
    ) -> PeerAnswer:
        """Bring chunks from a peer."""
        ...


class Statuses(Protocol):
    """What is used of PeerStatuses."""

    async def close(self) -> None:
        """Close the connections."""
        ...

    async def ask(self, peer: SyncPeer, digest: str) -> PeerStatus | None:
        """Ask a peer for its status; raises Unavailable, PermissionDenied."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What all versions share. `is_closed` tells whether the origin may not be asked now;
    `send_rate` how fast this cluster gives to others (see PeerStatus), `moved` the bytes that came
    off the network from the origin and from peers so far, also those of chunks that are not whole
    yet (None: whole ones are counted). `at_rest` is called when nothing is fetched any more."""

    me: str
    carrier: Carrier
    statuses: Statuses
    clock: Clock
    dice: Shuffler
    is_closed: Callable[[Urgency], bool] = lambda _: False
    send_rate: Callable[[], float] = lambda: 0.0
    moved: Callable[[], tuple[int, int]] | None = None
    limits: SwarmLimits = field(default_factory=SwarmLimits)
    on_bad_peer: Callable[[str], None] = lambda _: None
    at_rest: Callable[[], None] = lambda: None


class Bringing:
    """Brings one version, once."""

    def __init__(
        self,
        means: Means,
        staging: Stage,
        offer: Offer,
        urgency: Urgency,
        peers: tuple[SyncPeer, ...] = (),
    ) -> None:
        self.urgency = urgency
        self._means, self._staging, self._offer = means, staging, offer
        self._began_s = means.clock.monotonic_s()
        self._members = Members(
            me=means.me,
            digest=staging.digest,
            began_s=self._began_s,
            settle_s=means.limits.settle_s,
            disgrace_s=means.limits.disgrace_s,
        )
        self._members.listed(peers)
        self._swarm = self._new_swarm()
        self._wake = asyncio.Event()
        self._tasks: dict[Fetch, asyncio.Task[None]] = {}
        self._polls: dict[str, float] = {}  # when each member is asked next
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._failure: FederationError | None = None
        self._got_s = self._began_s  # when a piece came last
        self._lock = threading.Lock()
        self._bytes = {True: 0, False: 0}  # from the origin? - how many
        self._origin_pace, self._pace = Pace(), Pace(windows=2)
        self._samples: deque[tuple[float, int]] = deque()
        self._told: tuple[float, PeerStatus] | None = None

    def __repr__(self) -> str:
        return f"Bringing({self._staging!r}, {self._swarm!r})"

    # ------------------------------------------------------------ what others ask

    def peers_changed(self, peers: tuple[SyncPeer, ...]) -> None:
        """Take over the control plane's list."""
        self._members.listed(peers)
        self._wake.set()

    def is_mine(self, piece: int) -> bool:
        """Return whether this cluster gets a piece from the origin for the others."""
        return self._swarm.is_mine(piece)

    def gives(self, piece: int) -> bool:
        """Return whether a piece that is here goes to somebody who asks for it now."""
        return self._swarm.gives(piece, self._means.clock.monotonic_s())

    def given(self, piece: int) -> None:
        """Note that another cluster has taken a piece."""
        self._swarm.gave(piece)

    def status(self) -> PeerStatus:
        """Return what the other members are told."""
        now = self._means.clock.monotonic_s()
        if self._told is None or now - self._told[0] > _STATUS_S:
            received = sum(self._bytes.values())
            self._members.send_rate = self._means.send_rate()
            self._told = now, self._swarm.status(self._staging.bitmap(), received, now)
        return self._told[1]

    def progress(self) -> SyncProgress:
        """Return how far it is."""
        staging, done = self._staging, self._staging.present_bytes
        rate = self._rate()
        return SyncProgress(
            total_bytes=staging.total_bytes,
            reused_bytes=staging.reused_bytes,
            from_origin_bytes=self._bytes[True],
            from_peers_bytes=self._bytes[False],
            done_bytes=done,
            bytes_per_second=rate,
            eta_s=(staging.total_bytes - done) / rate if rate else 0.0,
        )

    def _rate(self) -> float:
        if not self._samples:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    # ------------------------------------------------------------ the run

    async def run(self) -> None:
        """Return when nothing is missing.

        Raises Unavailable or Invalid if the origin cannot be had for long, and what `put` raises.
        """
        for _ in range(_ROUNDS):
            await self._round()
            if self._failure is not None:
                raise self._failure
            if self._lacking() == []:
                return
            self._swarm = self._new_swarm()
        raise Unavailable(f"chunks of {self._staging.digest[:16]} vanish after they were written.")

    def _lacking(self) -> list[int]:
        return [p.number for p in self._staging.pieces if self._staging.needed(p.number)]

    def _new_swarm(self) -> Swarm:
        return Swarm(
            self._members,
            self._lacking(),
            count=len(self._staging.pieces),
            dice=self._means.dice,
            limits=self._means.limits,
        )

    async def _round(self) -> None:
        async with asyncio.TaskGroup() as group:
            try:
                while not self._swarm.done and self._failure is None:
                    self._wake.clear()
                    now = self._means.clock.monotonic_s()
                    self._members.able = not self._means.is_closed(self.urgency)
                    self._sample(now)
                    self._poll(group, now)
                    for fetch in self._swarm.next(now):
                        self._tasks[fetch] = group.create_task(self._fetch(fetch))
                    self._give_up(self._swarm.to_give_up(now))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_TICK_S):
                            await self._wake.wait()
            finally:
                self._polls.clear()
                for task in (*self._tasks.values(), *self._asking.values()):
                    task.cancel()

    def _sample(self, now: float) -> None:
        self._samples.append((now, sum(self._bytes.values())))
        while now - self._samples[0][0] > _RATE_S:
            self._samples.popleft()
        # Those that are asked for what they are not known to hold send nothing, as a rule.
        coming = [f for f in self._tasks if f.source == ORIGIN or self._members.is_held(f.piece)]
        origin, peers = self._means.moved() if self._means.moved else self._bytes.values()
        self._origin_pace.note(origin, now, active=any(f.source == ORIGIN for f in coming))
        self._pace.note(origin + peers, now, active=any(f.source for f in coming))
        self._members.origin_rate = self._origin_pace.rate
        self._members.receive_rate = self._pace.rate

    # ------------------------------------------------------------ fetches

    async def _fetch(self, fetch: Fetch) -> None:
        outcome = Outcome.GIVEN_UP
        try:
            outcome = await self._bring(fetch)
        except FederationError as error:
            outcome = Outcome.FAILED
            self._failed(fetch, error)
        finally:
            self._ended(fetch, outcome)

    async def _bring(self, fetch: Fetch) -> Outcome:
        origin = fetch.source == ORIGIN
        self._told = None if origin else self._told  # who asks now is told of it
        wanted = self._wanted(fetch.piece)
        if not wanted:
            return Outcome.GOT  # another piece brought what this one lacked

        def put(number: int, data: memoryview) -> None:
            self._staging.put(number, data)
            with self._lock:
                self._bytes[origin] += len(data)

        carrier = self._means.carrier
        if origin:
            await carrier.from_origin(wanted, self._offer, put, self.urgency)
            return Outcome.GOT
        peer = self._members.peer(fetch.source)
        if peer is None:
            return Outcome.REFUSED
        request = PeerRequest(
            cluster=peer.cluster, url=peer.url, digest=self._staging.digest, piece=fetch.piece
        )
        answer = await carrier.from_peer(request, wanted, put, self.urgency)
        if answer.outcome is PeerOutcome.BAD and peer.cluster not in self._members.dropped:
            log.error("%s It is not asked for this package again.", answer.reason)
            self._members.drop(peer.cluster)
            self._means.on_bad_peer(peer.cluster)
        elif answer.outcome is PeerOutcome.UNREACHABLE:
            log.info("%s It is left alone for a while.", answer.reason)
        return _OUTCOMES[answer.outcome]

    def _wanted(self, number: int) -> list[WantedChunk]:
        piece, staging = self._staging.pieces[number], self._staging
        missing = set(staging.needed(number))
        offset, found = 0, []
        for n in range(piece.first, piece.first + piece.count):
            chunk = staging.chunk(n)
            if n in missing:
                found.append(WantedChunk(n, chunk.digest, chunk.length, offset))
            offset += chunk.length
        return found

    def _failed(self, fetch: Fetch, error: FederationError) -> None:
        """Decide whether it makes sense to go on."""
        lost = not isinstance(error, Unavailable | Invalid)  # a full disk, a refusal
        lost = lost or error.reason == DISK_FAILING
        if fetch.source != ORIGIN or lost:
            self._failure = self._failure or error  # what `put` raised
            return
        quiet_s = self._means.clock.monotonic_s() - self._got_s
        failures = self._swarm.origin_failures + 1
        lying = isinstance(error, Invalid) and failures >= _LYING_TRIES
        if lying or (failures >= _TRIES and quiet_s > _NOTHING_S):
            self._failure = self._failure or error
        else:
            log.warning("a piece could not be had: %s It is tried again.", error.message)

    def _ended(self, fetch: Fetch, outcome: Outcome) -> None:
        self._tasks.pop(fetch, None)
        now = self._means.clock.monotonic_s()
        if outcome is Outcome.GOT:
            self._got_s = now
        self._give_up(self._swarm.ended(fetch, outcome, now))
        self._wake.set()

    def _give_up(self, fetches: Iterable[Fetch]) -> None:
        for fetch in fetches:
            if task := self._tasks.get(fetch):
                task.cancel()

    # ------------------------------------------------------------ what the others have

    def _poll(self, group: asyncio.TaskGroup, now: float) -> None:
        peers = self._members.peers(now)
        often_s = max(_POLL_S if self._members.met(now) else _GREET_S, len(peers) / _POLLS_PER_S)
        for peer in peers:
            name = peer.cluster
            if name not in self._asking and now >= self._polls.get(name, now):
                spread = 1.0 if name in self._polls else self._means.dice.random()
                self._polls[name] = now + spread * often_s  # not all at the same time
                self._asking[name] = group.create_task(self._ask(peer))

    async def _ask(self, peer: SyncPeer) -> None:
        try:
            status = await self._means.statuses.ask(peer, self._staging.digest)
        except Unavailable as error:
            log.debug("%s", error.message)
            self._members.unheard(peer.cluster, self._means.clock.monotonic_s())
        except PermissionDenied:
            self._members.stranger(peer.cluster)
        else:
            now = self._means.clock.monotonic_s()
            if status is None:
                self._members.absent(peer.cluster)
            else:
                self._members.heard(peer.cluster, status, now)
            self._wake.set()
        finally:
            self._asking.pop(peer.cluster, None)
