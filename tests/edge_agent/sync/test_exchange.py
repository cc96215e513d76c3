"""Several versions at once, and what the syncer and the gateway are told of them."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.sync.bringing import Means
from edge_agent.sync.exchange import Exchange
from edge_agent.sync.shelf import Shelf
from edge_agent.sync.staging import Staging
from federation.contract.errors import Conflict
from federation.contract.types import Urgency
from federation.runtime.clock import Clock, SystemClock
from tests.edge_agent.sync.region import in_pieces
from tests.edge_agent.sync.test_bringing import OFFER, PACKAGE, Carrier, Told, listed


class Still(SystemClock):
    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


def make(
    carrier: Carrier, clock: Clock | None = None, at_rest: Callable[[], None] = lambda: None
) -> Exchange:
    means = Means(
        me="me",
        carrier=carrier,
        statuses=Told(),
        clock=clock or SystemClock(),
        dice=random.Random(1),
        at_rest=at_rest,
    )
    exchange = Exchange(means)
    exchange.peers_changed(listed("me", "a", digest="00" * 32))
    return exchange


def opened(tmp_path: Path) -> Staging:
    staging = PACKAGE.open(Shelf(tmp_path))
    staging.resume()
    staging.reuse()
    return staging


async def test_a_package_is_brought_once_at_a_time(tmp_path: Path) -> None:
    carrier, staging = Carrier(), opened(tmp_path)
    carrier.gate.clear()
    rests: list[bool] = []
    exchange = make(carrier, at_rest=lambda: rests.append(True))
    digest = PACKAGE.digest
    told = (exchange.progress(digest), exchange.status(digest), exchange.finished(digest))
    assert told == (None, None, None)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(exchange.bring(staging, OFFER, digest, Urgency.PREFETCH))
        while not carrier.running:
            await asyncio.sleep(0)
        with pytest.raises(Conflict):
            await exchange.bring(staging, OFFER, digest, Urgency.NORMAL)
        exchange.hasten(digest, Urgency.NORMAL)
        exchange.hasten("unknown", Urgency.NORMAL)
        assert any(exchange.is_mine(digest, piece) for piece in range(12))
        assert not exchange.is_mine("unknown", 0)
        assert not rests  # the one that was refused ended nothing
        progress = exchange.progress(digest)
        assert progress is not None
        assert progress.done_bytes == 0
        carrier.gate.set()
    assert carrier.urgencies == {Urgency.PREFETCH, Urgency.NORMAL}
    assert exchange.status(digest) is None
    assert rests == [True]
    finished = exchange.finished(digest)
    assert finished is not None
    assert finished.done_bytes == finished.total_bytes
    staging.close()
    await exchange.close()


def test_only_other_clusters_of_the_region_are_peers() -> None:
    exchange = make(Carrier(in_pieces(1, 1000)))
    assert [exchange.is_peer(name) for name in ("a", "me", "b")] == [True, False, False]


def test_the_rate_of_giving_is_that_of_all_that_is_given() -> None:
    clock = Still()
    exchange = make(Carrier(), clock)
    rate = exchange._means.send_rate
    assert rate() == 0
    for clock.now_s in (0.5, 1.0, 1.5, 2.0):  # side by side
        exchange.gave(1000, 0.9)
    assert rate() == pytest.approx(2000, rel=0.2)
