"""One agent's decisions, step by step; and that no order of events makes it stop or overdo it."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.policy.swarm import Swarm
from edge_agent.policy.swarm_members import Members, PeerStatus, has_bit, to_bitmap
from edge_agent.policy.swarm_terms import ORIGIN, Fetch, Outcome, SwarmLimits
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
    for now in (0.0, 2.0):
        members.heard("a", PeerStatus(have=b"\0", fetching=b"\1"), now)
        assert swarm.next(now) == []
    members.heard("a", PeerStatus(have=b"\1"), 3.0)
    assert swarm.next(3.0) == [Fetch(0, "a")]


def test_who_claims_to_fetch_and_never_has_it_is_not_waited_for_for_ever() -> None:
    swarm, members = make("a", count=1)
    now, asked = 0.0, list[str]()
    while now < 2 * L.stall_s and not asked:
        members.heard("a", PeerStatus(have=b"", fetching=b"\1", origin_rate=1e12), now)
        asked = [f.source for f in swarm.next(now)]
        now += 0.5
    assert asked == [ORIGIN]


def test_few_pieces_are_begun_one_by_one_so_that_they_are_soon_there_to_be_given() -> None:
    swarm, members = make("a", "b")
    for name in ("a", "b"):
        members.heard(name, has(), 0.0)
    begun = 0
    for now in range(1, 4):
        fetches = [f for f in swarm.next(float(now)) if f.source == ORIGIN]
        begun += len(fetches)
        assert begun == 2 * now - 1
        swarm.ended(fetches[0], Outcome.GOT, float(now))
        assert not any(f.source == ORIGIN for f in swarm.next(float(now)))
        swarm.gave(fetches[0].piece)
        members.heard("a", has(), float(now))
        members.heard("b", has(), float(now))


def known_rates(members: Members, now: float) -> None:
    for name in ("a", "b", "c"):
        members.heard(name, PeerStatus(have=b"", origin_rate=1e6, receive_rate=5e6), now)


def test_one_that_is_behind_gives_up_its_flights_once_and_says_that_it_is_not_able() -> None:
    swarm, members = make("a", "b", "c")
    known_rates(members, 0.0)
    mine = [f for f in swarm.next(0.0) if f.source == ORIGIN]
    assert mine
    assert swarm.to_give_up(2.0) == ()
    members.origin_rate = 3e5
    swarm.next(3.0)
    assert [f for f in swarm.to_give_up(3.0) if f.source == ORIGIN] == mine
    for fetch in mine:
        swarm.ended(fetch, Outcome.GIVEN_UP, 3.0)
    status = swarm.status(b"", 0, 3.0)
    assert (status.able, status.origin_rate) == (False, 3e5)
    assert swarm.to_give_up(4.0) == ()
    assert not any(swarm.is_mine(piece) for piece in range(COUNT))


def test_what_the_next_in_rank_has_taken_over_is_left_to_it() -> None:
    swarm, members = make("a", "b", "c")
    known_rates(members, 0.0)
    mine = next(f for f in swarm.next(0.0) if f.source == ORIGIN)
    taken = PeerStatus(have=b"", fetching=to_bitmap([mine.piece], COUNT))
    members.heard("b", taken, L.hedge_s - 0.5)
    assert swarm.to_give_up(L.hedge_s - 0.1) == ()
    assert swarm.to_give_up(L.hedge_s + 0.1) == (mine,)
    swarm.ended(mine, Outcome.GIVEN_UP, L.hedge_s + 0.1)
    assert Fetch(mine.piece) not in swarm.next(L.hedge_s + 0.2)


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


def test_the_second_in_rank_does_not_ask_the_first_for_ever() -> None:
    _, members = make("a")
    members.heard("a", has(), 0.0)
    piece = own_by(members, "a")
    swarm = Swarm(members, [piece], count=COUNT, dice=random.Random(1))
    asked, now = list[Fetch](), 0.0
    while now < 20 and Fetch(piece) not in asked:
        members.heard("a", has(), now)
        for fetch in swarm.next(now):
            asked.append(fetch)
            swarm.ended(fetch, Outcome.REFUSED if fetch.source else Outcome.GOT, now)
        now += 0.25
    assert asked.count(Fetch(piece, "a")) > 1
    assert L.hedge_s <= now <= 2 * L.hedge_s


def test_who_asks_for_what_is_known_to_come_is_told_to_wait() -> None:
    swarm, members = make("a", "b", "c")
    for name in ("a", "b", "c"):
        members.heard(name, has(), 0.0)
    swarm.next(0.0)
    piece = own_by(members, "a")
    assert not swarm.is_mine(piece)
    members.heard("b", PeerStatus(have=b"", fetching=to_bitmap([piece], COUNT)), 0.1)
    assert swarm.is_mine(piece)


def test_one_that_refuses_is_not_asked_for_everything_at_once() -> None:
    swarm, members = make("a", "b")
    for name in ("a", "b"):
        members.heard(name, has(), 0.0)
    fetch = next(f for f in swarm.next(0.0) if f.source == "a")
    swarm.ended(fetch, Outcome.REFUSED, 0.0)
    assert not any(f.source == "a" for f in swarm.next(L.busy_s / 2))
    assert any(f.source == "a" for f in swarm.next(L.busy_s + 0.01))


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
    assert swarm.next(6.0) == []  # the others hear of it first
    assert swarm.status(b"", 0, 6.0).able
    assert any(f.source == ORIGIN for f in swarm.next(8.0))


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
        for fetch in self.swarm.to_give_up(self.now):
            self.end(fetch, Outcome.GIVEN_UP)
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
                status = PeerStatus(have=more, fetching=more[::-1], origin_rate=more[0])
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
                self.members.origin_rate = what
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
