"""One agent's decisions, step by step; and that no order of events makes it stop or overdo it."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.swarm import ORIGIN, Fetch, Outcome, Swarm, SwarmLimits
from edge_agent.policy.swarm_members import Members, PeerStatus, has_bit, to_bitmap
from federation.contract.sync import SyncPeer

DIGEST = "cd" * 32
COUNT = 40
L = SwarmLimits()


def peer(name: str, url: str = "https://x") -> SyncPeer:
    return SyncPeer(cluster=name, url=url, digests=(DIGEST,))


def make(*others: str, me_url: str = "https://me", count: int = COUNT) -> tuple[Swarm, Members]:
    members = Members(me="me", digest=DIGEST, began_s=0.0)
    members.listed((peer("me", me_url), *(peer(name) for name in others)))
    swarm = Swarm(members, range(count), count=count, dice=random.Random(1), limits=L)
    return swarm, members


def has(*pieces: int) -> PeerStatus:
    return PeerStatus(have=to_bitmap(pieces, COUNT), age_s=0.0)


def test_alone_it_goes_straight_to_the_origin_in_an_order_of_its_own() -> None:
    swarm, _ = make()
    begun = swarm.next(0.0)
    assert [f.source for f in begun] == [ORIGIN] * L.from_origin
    assert [f.piece for f in begun] != list(range(L.from_origin))
    assert swarm.next(0.0) == []


def test_before_others_have_told_what_they_have_nothing_is_asked_of_the_origin() -> None:
    swarm, members = make("a")
    assert swarm.next(0.0) == []
    members.heard("a", has(), 0.1)
    assert ORIGIN in {f.source for f in swarm.next(0.1)}


def test_before_any_list_is_known_it_waits_for_one_but_not_for_ever() -> None:
    members = Members(me="me", digest=DIGEST, began_s=0.0)
    swarm = Swarm(members, range(COUNT), count=COUNT, dice=random.Random(1))
    assert swarm.next(0.0) == []
    assert len(swarm.next(L.greet_s)) == L.from_origin


def test_what_somebody_has_comes_from_there_and_two_at_a_time() -> None:
    swarm, members = make("a", "b")
    members.heard("a", has(*range(COUNT)), 0.0)
    members.heard("b", has(), 0.0)
    assert [f.source for f in swarm.next(0.0)] == ["a"] * L.per_peer
    members.heard("b", has(*range(COUNT)), 0.1)
    assert [f.source for f in swarm.next(0.1)] == ["b"] * L.per_peer
    assert swarm.next(0.2) == []  # as many as allowed


def test_only_what_it_owns_comes_from_the_origin() -> None:
    swarm, members = make("a", "b", "c")
    for name in ("a", "b", "c"):
        members.heard(name, has(), 0.0)
    begun = [f for f in swarm.next(0.0) if f.source == ORIGIN]
    assert begun
    assert all(members.rank(f.piece)[0] == "me" for f in begun)


def test_a_piece_that_another_is_getting_from_the_origin_is_waited_for() -> None:
    swarm, members = make("a", count=1)
    members.heard("a", PeerStatus(have=b"\0", fetching=b"\1"), 0.0)
    members.update(0.0)
    if members.rank(0)[0] == "me":
        assert swarm.next(0.0) == []
    else:
        assert [f.source for f in swarm.next(0.0)] == ["a"]


def own_by(members: Members, name: str) -> int:
    members.update(0.0)
    return next(p for p in range(COUNT) if members.rank(p)[0] == name)


def test_refused_by_all_the_origin_is_asked_after_a_while() -> None:
    _, members = make("a", "b", "c", me_url="")
    for name in ("a", "b", "c"):
        members.heard(name, has(), 0.0)
    swarm = Swarm(members, [3], count=COUNT, dice=random.Random(1))
    asked, now = [], 0.0
    while now < 20 and ORIGIN not in asked:
        for fetch in swarm.next(now):
            asked.append(fetch.source)
            if fetch.source != ORIGIN:
                swarm.ended(fetch, Outcome.REFUSED, now)
        for name in ("a", "b", "c"):
            members.heard(name, has(), now)
        now += 0.25
    assert asked[:3] == list(members.rank(3))
    assert asked[-1] == ORIGIN
    assert L.hedge_s <= now <= 8


def test_a_liar_is_dropped_and_not_asked_again() -> None:
    swarm, members = make("a", "b")
    members.heard("a", has(*range(COUNT)), 0.0)
    members.heard("b", has(), 0.0)
    first = swarm.next(0.0)[0]
    swarm.ended(first, Outcome.BAD, 0.0)
    members.listed((peer("me"), peer("a"), peer("b")))  # the next list does not bring it back
    assert members.dropped == {"a"}
    assert all(f.source != "a" for f in swarm.next(1.0))


def test_a_failure_is_disgrace_for_a_while() -> None:
    swarm, members = make("a")
    members.heard("a", has(*range(COUNT)), 0.0)
    swarm.ended(swarm.next(0.0)[0], Outcome.FAILED, 0.0)
    assert all(f.source == ORIGIN for f in swarm.next(1.0))
    swarm.ended(Fetch(0, "nobody"), Outcome.FAILED, 1.0)  # of no consequence
    assert any(f.source == "a" for f in swarm.next(L.disgrace_s + 0.1))


def test_the_last_pieces_are_asked_of_a_second_one_and_the_slower_is_given_up() -> None:
    _, members = make("a", "b")
    swarm = Swarm(members, [5], count=COUNT, dice=random.Random(1))
    members.heard("a", has(5), 0.0)
    members.heard("b", has(5), 0.0)
    (first,) = swarm.next(0.0)
    assert swarm.next(L.hedge_s) == []
    (second,) = swarm.next(L.hedge_s + 0.1)
    assert {first.source, second.source} == {"a", "b"}
    assert swarm.ended(second, Outcome.GOT, 4.0) == (first,)
    assert swarm.done
    swarm.ended(first, Outcome.GIVEN_UP, 4.0)
    assert swarm.next(5.0) == []


def test_while_the_origin_is_closed_only_others_are_asked_and_nobody_relies_on_us() -> None:
    swarm, members = make("a")
    members.able = False
    members.heard("a", has(1, 2), 0.0)
    assert {f.source for f in swarm.next(5.0)} == {"a"}
    assert not swarm.status(b"", 0, 5.0).able
    members.able = True
    assert any(f.source == ORIGIN for f in swarm.next(6.0))


def test_a_failing_origin_is_left_alone_ever_longer() -> None:
    swarm, _ = make()
    now, asked = 0.0, []
    for _ in range(6):
        begun = swarm.next(now)
        asked.append(now)
        for fetch in begun:
            swarm.ended(fetch, Outcome.FAILED, now)
        while not (again := swarm.next(now)):
            now += 0.1
        for fetch in again:
            swarm.ended(fetch, Outcome.GIVEN_UP, now)
    assert not swarm.status(b"", 0, now).able
    assert asked[-1] > 10


def test_an_owner_at_which_nothing_moves_is_disgraced() -> None:
    swarm, members = make("a")
    members.heard("a", has(), 0.0)
    now = 0.0
    while now < L.stall_s + 2:
        for fetch in swarm.next(now):
            outcome = Outcome.GIVEN_UP if fetch.source == ORIGIN else Outcome.NOT_YET
            swarm.ended(fetch, outcome, now)
        members.heard("a", has(), now)
        now += 0.5
    assert members.peers(now) == ()


PEERS = ("a", "b", "c", "d")
EVENT = st.one_of(
    st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from(Outcome)),
    st.tuples(st.just("heard"), st.sampled_from(PEERS), st.binary(min_size=5, max_size=6)),
    st.tuples(st.just("unheard"), st.sampled_from(PEERS), st.none()),
    st.tuples(st.just("absent"), st.sampled_from(PEERS), st.none()),
    st.tuples(st.just("listed"), st.sets(st.sampled_from(PEERS)), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0, 20), st.none()),
)


class Driver:
    """Runs a Swarm through events, and checks after each that nothing is overdone."""

    def __init__(self, seed: int) -> None:
        self.members = Members(me="me", digest=DIGEST, began_s=0.0)
        self.members.listed((peer("me"), *map(peer, PEERS)))
        self.swarm = Swarm(self.members, range(COUNT), count=COUNT, dice=random.Random(seed))
        self.running: list[Fetch] = []
        self.got: set[int] = set()
        self.now = 0.0

    def end(self, fetch: Fetch, outcome: Outcome) -> None:
        self.running.remove(fetch)
        if outcome is Outcome.GOT:
            self.got.add(fetch.piece)
        for other in self.swarm.ended(fetch, outcome, self.now):
            self.end(other, Outcome.GIVEN_UP)

    def step(self) -> None:
        begun = self.swarm.next(self.now)
        assert not any(f.source in self.members.dropped for f in begun)
        self.running += begun
        assert len(set(self.running)) == len(self.running)
        assert all(f.piece not in self.got for f in self.running)
        sources = [f.source for f in self.running]
        assert all(sources.count(name) <= L.per_peer for name in PEERS)
        assert sources.count(ORIGIN) <= L.from_origin
        assert len(sources) - sources.count(ORIGIN) <= L.from_peers
        assert self.swarm.done == (len(self.got) == COUNT)

    def happen(self, kind: str, what: Any, more: Any) -> None:
        match kind:
            case "end" if self.running:
                self.end(self.running[what % len(self.running)], more)
            case "heard":
                status = PeerStatus(have=more, fetching=more[::-1])
                self.members.heard(what, status, self.now)
            case "unheard":
                self.members.unheard(what, self.now)
            case "absent":
                self.members.absent(what)
            case "listed":
                me = peer("me", "https://me" if more else "")
                self.members.listed((me, *map(peer, what)))
            case "wait":
                self.now += what
            case _:
                pass  # nothing to end

    def finish(self) -> None:
        """From here on the origin gives what it is asked for, and all others fail."""
        for _ in range(500):
            self.now += 0.5
            self.step()
            while self.running:
                fetch = self.running[0]
                self.end(fetch, Outcome.FAILED if fetch.source else Outcome.GOT)
            if self.swarm.done:
                return


@settings(max_examples=60, deadline=None)
@given(events=st.lists(EVENT, max_size=40), seed=st.integers(0, 3))
def test_whatever_happens_limits_hold_and_it_ends(
    events: list[tuple[str, Any, Any]], seed: int
) -> None:
    driver = Driver(seed)
    for event in events:
        driver.happen(*event)
        driver.step()
    driver.finish()
    assert driver.got == set(range(COUNT))


def test_bitmaps() -> None:
    bitmap = to_bitmap([0, 9], 10)
    assert bitmap == b"\x01\x02"
    assert [n for n in range(100) if has_bit(bitmap, n)] == [0, 9]
