"""One version on its way, against a carrier and peers that do as they are told."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.policy.swarm_members import PeerStatus, to_bitmap
from edge_agent.policy.swarm_terms import SwarmLimits
from edge_agent.sync.bringing import Bringing, Means
from edge_agent.sync.offers import Offer, PeerAnswer, PeerOutcome, PeerRequest, WantedChunk
from edge_agent.sync.shelf import Shelf
from edge_agent.sync.staging import Staging
from federation.contract.errors import (
    Exhausted,
    FederationError,
    Invalid,
    PermissionDenied,
    Unavailable,
)
from federation.contract.sync import SyncPeer
from federation.contract.types import Urgency
from federation.runtime.clock import SystemClock
from tests.edge_agent.sync.packages import Package
from tests.edge_agent.sync.region import in_pieces

PACKAGE = in_pieces(12, 16 << 10)
OFFER: Any = SimpleNamespace()
LIMITS = SwarmLimits(
    greet_s=0.3, origin_pause_s=0.01, stall_s=1.0, hedge_s=0.6, refused_s=0.4, turn_s=0.1
)
Put = Callable[[int, memoryview], None]


class Carrier:
    """Brings everything in no time; `fail` and `answer` may say otherwise."""

    def __init__(self, package: Package = PACKAGE) -> None:
        self._package = package
        self.fail: Callable[[], FederationError | None] = lambda: None
        self.answer: Callable[[PeerRequest], PeerOutcome] = lambda _: PeerOutcome.GOT
        self.origin: list[int] = []
        self.peers: list[tuple[str, int]] = []
        self.urgencies: set[Urgency] = set()
        self.running = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def close(self) -> None:
        pass

    def _deliver(self, wanted: Sequence[WantedChunk], put: Put) -> None:
        for chunk in wanted:
            put(chunk.number, memoryview(self._package.chunks[chunk.digest]))

    async def from_origin(
        self, wanted: Sequence[WantedChunk], offer: Offer, put: Put, urgency: Urgency
    ) -> int:
        assert offer is OFFER
        self.urgencies.add(urgency)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.running -= 1
        if (error := self.fail()) is not None:
            raise error
        self._deliver(wanted, put)
        self.origin += [chunk.number for chunk in wanted]
        return 0

    async def from_peer(
        self, request: PeerRequest, wanted: Sequence[WantedChunk], put: Put, urgency: Urgency
    ) -> PeerAnswer:
        self.peers.append((request.cluster, request.piece))
        await asyncio.sleep(0)
        outcome = self.answer(request)
        if outcome is PeerOutcome.GOT:
            assert wanted[0].offset == 0
            self._deliver(wanted, put)
        return PeerAnswer(outcome=outcome, reason=f"cluster {request.cluster}.")


class Told:
    """What peers say; None = they know nothing of it. A name that is not there does not answer, a
    stranger has never heard of us."""

    def __init__(self, **said: PeerStatus | None) -> None:
        self.said, self.strangers = said, set[str]()

    async def close(self) -> None:
        pass

    async def ask(self, peer: SyncPeer, digest: str) -> PeerStatus | None:
        if peer.cluster in self.strangers:
            raise PermissionDenied("who is that?")
        if peer.cluster not in self.said:
            raise Unavailable("gone")
        return self.said[peer.cluster]


class Fast(SystemClock):
    """Goes so many times faster."""

    def __init__(self, times: float) -> None:
        self._times = times

    def monotonic_s(self) -> float:
        return super().monotonic_s() * self._times


def listed(*names: str, digest: str = PACKAGE.digest) -> tuple[SyncPeer, ...]:
    return tuple(SyncPeer(cluster=n, url=f"https://{n}", digests=(digest,)) for n in names)


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    staging = PACKAGE.open(Shelf(tmp_path))
    staging.resume()
    staging.reuse()
    yield staging
    staging.close()


def make(
    staging: Staging, carrier: Carrier, told: Told | None = None, *names: str, **means: Any
) -> Bringing:
    means = {"clock": SystemClock(), "dice": random.Random(1), "limits": LIMITS, **means}
    shared = Means(me="me", carrier=carrier, statuses=told or Told(), **means)
    return Bringing(shared, staging, OFFER, Urgency.NORMAL, listed("me", *names))


async def test_alone_all_comes_from_the_origin_a_few_at_once(staging: Staging) -> None:
    carrier = Carrier()
    bringing = make(staging, carrier)
    await bringing.run()
    assert staging.complete
    assert sorted(carrier.origin) == list(range(24))
    assert carrier.most == 4
    progress = bringing.progress()
    assert progress.done_bytes == progress.total_bytes == progress.from_origin_bytes
    assert progress.eta_s == progress.from_peers_bytes == 0


async def test_what_a_peer_has_comes_from_there(staging: Staging) -> None:
    carrier = Carrier()
    told = Told(a=PeerStatus(have=to_bitmap(range(12), 12), able=False))
    bringing = make(staging, carrier, told, "a")
    await bringing.run()
    assert staging.complete
    assert carrier.origin == []
    assert bringing.progress().from_peers_bytes == staging.total_bytes


@pytest.mark.parametrize("outcome", [PeerOutcome.BAD, PeerOutcome.UNREACHABLE, PeerOutcome.REFUSED])
async def test_a_useless_peer_is_replaced_by_the_origin(
    staging: Staging, outcome: PeerOutcome
) -> None:
    carrier, bad = Carrier(), list[str]()
    carrier.answer = lambda _: outcome
    told = Told(a=PeerStatus(have=to_bitmap(range(12), 12), able=False))
    bringing = make(staging, carrier, told, "a", on_bad_peer=bad.append)
    await bringing.run()
    assert staging.complete
    assert len(carrier.origin) == 24
    assert bad == (["a"] if outcome is PeerOutcome.BAD else [])


async def test_whom_most_do_not_know_fetches_nothing_for_them(staging: Staging) -> None:
    carrier = Carrier()
    carrier.gate.clear()
    nothing = PeerStatus(have=b"\0\0")
    told = Told(a=nothing, b=nothing)
    told.strangers = {"a"}
    bringing = make(staging, carrier, told, "a", "b", clock=Fast(10))

    async def until(able: bool) -> None:
        while bringing.status().able is not able:
            await asyncio.sleep(0.01)

    async with asyncio.timeout(20):
        task = asyncio.get_running_loop().create_task(bringing.run())
        await until(able=False)
        told.strangers.clear()
        await until(able=True)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_silent_peer_delays_nothing_for_long(staging: Staging) -> None:
    carrier = Carrier()
    async with asyncio.timeout(2):
        await make(staging, carrier, Told(), "a").run()
    assert carrier.peers == []


async def test_a_peer_that_appears_later_is_used(staging: Staging) -> None:
    carrier = Carrier()
    carrier.gate.clear()
    told = Told(a=PeerStatus(have=to_bitmap(range(12), 12), able=False))
    bringing = make(staging, carrier, told)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(bringing.run())
        await asyncio.sleep(0.1)
        assert carrier.peers == []
        bringing.peers_changed(listed("me", "a"))
        while len(carrier.peers) < 8:
            await asyncio.sleep(0.01)
        carrier.gate.set()
    assert staging.complete
    assert len(carrier.origin) <= 8


async def test_errors_of_the_origin_are_tried_again(staging: Staging) -> None:
    carrier = Carrier()
    errors = [Unavailable("no."), Invalid("wrong."), Unavailable("no.")]
    carrier.fail = lambda: errors.pop() if errors else None
    await make(staging, carrier).run()
    assert staging.complete


@pytest.mark.parametrize("error", [Invalid("the origin lies."), Exhausted("the disk is full.")])
async def test_what_is_hopeless_is_raised(staging: Staging, error: FederationError) -> None:
    carrier = Carrier()
    carrier.fail = lambda: error
    with pytest.raises(type(error), match=error.message):
        await make(staging, carrier).run()
    assert carrier.running == 0


async def test_an_origin_that_is_gone_for_long_is_given_up(staging: Staging) -> None:
    carrier = Carrier()
    carrier.fail = lambda: Unavailable("the origin is gone.")
    with pytest.raises(Unavailable, match="is gone"):
        await make(staging, carrier, clock=Fast(200)).run()


async def test_cancelling_ends_every_fetch(staging: Staging) -> None:
    carrier = Carrier()
    carrier.gate.clear()
    task = asyncio.get_running_loop().create_task(make(staging, carrier).run())
    while not carrier.running:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert carrier.running == 0


async def test_a_closed_origin_is_not_asked(staging: Staging) -> None:
    carrier, closed = Carrier(), [True]
    bringing = make(staging, carrier, is_closed=lambda _: closed[0])
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(bringing.run())
        await asyncio.sleep(0.3)
        assert carrier.most == 0
        assert not bringing.status().able
        bringing.urgency = Urgency.ROLLBACK
        closed[0] = False
    assert staging.complete
    assert carrier.urgencies == {Urgency.ROLLBACK}


async def test_what_a_failing_disk_loses_is_fetched_again(staging: Staging) -> None:
    carrier = Carrier()
    lost: list[int] = []
    needed = staging.needed

    def losing(piece: int) -> tuple[int, ...]:
        if not lost and staging.complete:
            lost.append(piece)
            return (piece * 2,)
        return needed(piece)

    staging.needed = losing  # type: ignore[method-assign]
    await make(staging, carrier).run()
    assert lost
    assert len(carrier.origin) == 24


async def test_others_are_told_what_is_here_and_what_is_coming(staging: Staging) -> None:
    carrier = Carrier()
    carrier.gate.clear()
    bringing = make(staging, carrier)
    assert bringing.status().fetching == b"\0\0"
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(bringing.run())
        while carrier.running < 4:
            await asyncio.sleep(0)
        status = bringing.status()
        assert (status.have, status.able) == (b"\0\0", True)
        assert sum(byte.bit_count() for byte in status.fetching) == 4
        assert all(bringing.is_mine(piece) for piece in range(12))
        carrier.gate.set()
    await asyncio.sleep(0.3)
    assert bringing.status().have == b"\xff\x0f"
    assert not bringing.is_mine(0)
