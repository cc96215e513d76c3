"""Who owns what: all that know the same agree, and newcomers take nothing from anybody."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.swarm_members import Members, PeerStatus, to_bitmap
from edge_agent.policy.swarm_owners import RANKS
from federation.contract.sync import SyncPeer

DIGEST = "ef" * 32
NAMES = [f"c{n}" for n in range(8)]


def peers(names: list[str], fetching: list[str] | None = None) -> tuple[SyncPeer, ...]:
    there = names if fetching is None else fetching
    return tuple(
        SyncPeer(cluster=n, url=f"https://{n}", digests=(DIGEST,) * (n in there)) for n in names
    )


def known(me: str, ages: dict[str, float], now: float = 100.0) -> Members:
    """What `me` knows when the others have been at it for so long."""
    members = Members(me=me, digest=DIGEST, began_s=now - ages[me])
    members.listed(peers(list(ages)))
    for name, age_s in ages.items():
        if name != me:
            members.heard(name, PeerStatus(have=b"", age_s=age_s), now)
    members.update(now)
    return members


def test_everybody_ranks_alike_and_all_own_about_the_same() -> None:
    views = [known(name, dict.fromkeys(NAMES, 1.0)) for name in NAMES]
    owned = dict.fromkeys(NAMES, 0)
    for piece in range(800):
        ranks = {view.rank(piece) for view in views}
        assert len(ranks) == 1
        (rank,) = ranks
        assert len(set(rank)) == RANKS
        owned[rank[0]] += 1
    assert min(owned.values()) > 60
    assert max(owned.values()) < 140


def test_one_that_leaves_moves_only_its_own_pieces() -> None:
    all_there = known("c0", dict.fromkeys(NAMES, 1.0))
    fewer = known("c0", dict.fromkeys(NAMES[:-1], 1.0))
    for piece in range(200):
        before = all_there.rank(piece)[0]
        assert before == NAMES[-1] or fewer.rank(piece)[0] == before


@given(st.lists(st.floats(0, 60), min_size=2, max_size=8))
def test_all_agree_on_who_is_new(ages_s: list[float]) -> None:
    ages = dict(zip(NAMES, ages_s, strict=False))
    views = [known(name, ages) for name in ages]
    assert len({view.rank(7) for view in views}) == 1
    owners = {name for piece in range(60) for name in views[0].rank(piece)}
    first = max(ages_s)
    for name, age_s in ages.items():
        new = age_s < 3.0 - 1e-6 and first - age_s > 3.0 + 1e-6
        assert not (new and name in owners)


def test_who_cannot_be_dialled_or_may_not_ask_the_origin_owns_nothing() -> None:
    members = Members(me="c0", digest=DIGEST, began_s=0.0)
    reverse = SyncPeer(cluster="c0", url="", digests=(DIGEST,))
    members.listed((reverse, *peers(["c1", "c2"])))
    members.heard("c1", PeerStatus(have=b"", able=False), 0.0)
    members.update(0.0)
    assert members.rank(0) == ()
    members.heard("c2", PeerStatus(have=b""), 0.0)
    members.update(0.0)
    assert members.rank(0) == ("c2",)


def test_who_has_not_announced_the_package_is_not_asked() -> None:
    members = Members(me="c0", digest=DIGEST, began_s=0.0)
    members.listed(peers(["c0", "c1", "c2"], ["c1"]))
    assert [p.cluster for p in members.peers(0.0)] == ["c1"]
    assert (members.announced, members.company, members.serves) == (False, True, False)


def test_two_silent_polls_are_disgrace_and_an_answer_after_it_ends_it() -> None:
    members = known("c0", {"c0": 1.0, "c1": 1.0}, now=0.0)
    members.unheard("c1", 1.0)
    assert members.peers(1.0) != ()
    members.unheard("c1", 2.0)
    assert members.peers(2.0) == ()
    members.update(2.0)
    assert members.rank(0) == ("c0",)
    assert [p.cluster for p in members.peers(32.0)] == ["c1"]
    members.heard("c1", PeerStatus(have=b"\1", age_s=33.0), 32.0)
    members.update(32.0)
    assert members.holders(0) == ["c1"]
    assert members.is_held(0)
    assert not members.is_held(1)


def test_who_stays_silent_is_left_alone_ever_longer() -> None:
    members = Members(me="c0", digest=DIGEST, began_s=0.0)
    members.listed(peers(["c0", "c1"]))
    now, away_s = 0.0, list[float]()
    for _ in range(6):
        members.unheard("c1", now)
        began_s = now
        while not members.peers(now):
            now += 0.5
        away_s.append(now - began_s)
    assert away_s == sorted(away_s)
    assert away_s[0] < 5
    assert away_s[-1] == members.disgrace_s


def test_one_that_gives_much_slower_than_most_says_so_and_owns_nothing() -> None:
    rates = {"c0": 9e7, "c1": 1e8, "c2": 8e7, "c3": 4e6}
    able = dict.fromkeys(rates, True)
    for turn in range(2):
        for me in rates:
            members = Members(me=me, digest=DIGEST, began_s=0.0, send_rate=rates[me])
            members.listed(peers(list(rates)))
            for name, rate in rates.items():
                members.heard(name, PeerStatus(have=b"", send_rate=rate, able=able[name]), 0.0)
            members.update(0.0)
            able[me] = members.eligible
            assert members.slow == ({"c3"} - {me})
            if turn:
                assert {members.rank(p)[0] for p in range(60)} == {"c0", "c1", "c2"}
    assert able == {"c0": True, "c1": True, "c2": True, "c3": False}


def test_who_can_own_pieces_again_lets_the_others_hear_of_it_first() -> None:
    members = Members(me="c0", digest=DIGEST, began_s=0.0, origin_rate=1.0)
    members.listed(peers(NAMES[:3]))
    told(members, {"c1": 1e6, "c2": 1e6}, "origin_rate")
    assert not members.eligible
    members.origin_rate = 1e6
    members.update(10.0)
    assert members.eligible
    assert not any(members.rank(p)[0] == "c0" for p in range(60))
    members.update(12.0)
    assert any(members.rank(p)[0] == "c0" for p in range(60))


def test_what_a_member_fetches_is_believed_for_a_while() -> None:
    members = known("c0", {"c0": 1.0, "c1": 1.0}, now=0.0)
    members.heard("c1", PeerStatus(have=b"", fetching=to_bitmap([3], 8)), 0.0)
    members.update(0.0)
    assert members.fetchers(3, 1.0) == ["c1"]
    assert members.fetchers(2, 1.0) == members.fetchers(3, 6.0) == []


def told(me: Members, rates: dict[str, float], kind: str, now: float = 0.0) -> None:
    for name, rate in rates.items():
        status = PeerStatus(have=b"", age_s=now, **{kind: rate})  # type: ignore[arg-type]
        me.heard(name, status, now)
    me.update(now)


def test_one_to_which_bytes_come_much_slower_than_to_most_knows_that_it_is_behind() -> None:
    for kind in ("origin_rate", "receive_rate"):
        for mine, behind in ((0.0, False), (3e5, True), (6e5, False)):
            members = Members(me="c0", digest=DIGEST, began_s=0.0)
            setattr(members, kind, mine)
            members.listed(peers(NAMES[:4]))
            told(members, {"c1": 1e6, "c2": 1.2e6, "c3": 9e6}, kind)
            assert members.behind == behind
            assert any(members.rank(p)[0] == "c0" for p in range(60)) != behind


def test_a_single_other_has_to_be_much_faster() -> None:
    members = Members(me="c0", digest=DIGEST, began_s=0.0, origin_rate=1e6)
    members.listed(peers(NAMES[:2]))
    told(members, {"c1": 5e6}, "origin_rate")
    assert not members.behind
    told(members, {"c1": 7e6}, "origin_rate", 0.4)
    assert not members.behind  # rates are judged now and then
    told(members, {"c1": 7e6}, "origin_rate", 0.6)
    assert members.behind
    members.heard("c1", PeerStatus(have=b"", origin_rate=7e6, able=False), 1.0)
    members.update(1.0)
    assert not members.behind  # nobody else would ask


@given(st.lists(st.sets(st.sampled_from(NAMES)), max_size=6))
def test_ranks_that_are_kept_are_those_that_are_made_anew(there: list[set[str]]) -> None:
    members = Members(me="me", digest=DIGEST, began_s=0.0)
    for names in there:
        members.listed(peers(sorted(names)))
        for name in names:
            members.heard(name, PeerStatus(have=b""), 0.0)
        members.update(0.0)
        fresh = Members(me="me", digest=DIGEST, began_s=0.0)
        fresh.listed(peers(sorted(names)))
        for name in names:
            fresh.heard(name, PeerStatus(have=b""), 0.0)
        fresh.update(0.0)
        assert [members.rank(p) for p in range(20)] == [fresh.rank(p) for p in range(20)]


def test_what_is_held_is_what_usable_members_hold_now() -> None:
    members = known("c0", {"c0": 1.0, "c1": 1.0, "c2": 1.0}, now=0.0)
    members.heard("c1", PeerStatus(have=to_bitmap([1, 5], 8)), 0.0)
    members.heard("c2", PeerStatus(have=to_bitmap([1], 8)), 0.0)
    members.update(0.0)
    assert members.held == 0b100010
    members.heard("c1", PeerStatus(have=to_bitmap([5], 8)), 1.0)  # its disk lost one
    members.disgrace("c2", 1.0)
    members.update(1.0)
    assert members.held == 0b100000
    members.update(1.0 + members.disgrace_s)
    assert members.held == 0b100010


def test_one_whom_most_do_not_know_owns_nothing_but_goes_by_the_same_owners() -> None:
    ages = dict.fromkeys(NAMES, 10.0)
    others = known("c1", {name: age_s for name, age_s in ages.items() if name != "c0"})
    members = known("c0", ages)
    for name in ("c1", "c2", "c3"):
        members.stranger(name)
    members.update(100.0)
    assert not members.eligible
    assert members.usable == {"c4", "c5", "c6", "c7"}
    assert all(members.rank(piece) == others.rank(piece) for piece in range(50))
    for name in ("c2", "c3"):  # they heard of it now
        members.heard(name, PeerStatus(have=b"", age_s=10.0), 101.0)
    members.update(101.0)
    assert members.eligible  # one of seven may be wrong


def test_a_list_takes_a_while_to_reach_everybody() -> None:
    members = Members(me="me", digest=DIGEST, began_s=0.0)
    members.listed(peers(["me", "a"]))
    members.stranger("a")
    members.update(0.5)
    assert members.eligible
    assert not members.met(0.5)
    members.update(1.5)
    assert not members.eligible
    assert members.rank(0) == ()  # who is known to nobody waits for nobody


def test_of_two_the_one_that_gives_much_slower_owns_nothing() -> None:
    members = known("c0", {"c0": 1.0, "c1": 1.0})
    for mine, slow in ((1e6, True), (2e6, False), (0.0, False)):
        members.send_rate = mine
        members.heard("c1", PeerStatus(have=b"", send_rate=1e7), 101.0)
        members.update(200.0)
        assert members.too_slow == slow
        assert members.eligible != slow
