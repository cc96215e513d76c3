"""Who owns what: all that know the same agree, and newcomers take nothing from anybody."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.swarm_members import RANKS, Members, PeerStatus, to_bitmap
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


def test_one_much_slower_than_most_owns_nothing_and_knows_it() -> None:
    rates = {"c0": 9e7, "c1": 1e8, "c2": 8e7, "c3": 4e6}
    for me in rates:
        members = Members(me=me, digest=DIGEST, began_s=0.0, send_rate=rates[me])
        members.listed(peers(list(rates)))
        for name, rate in rates.items():
            members.heard(name, PeerStatus(have=b"", send_rate=rate), 0.0)
        members.update(0.0)
        assert {members.rank(p)[0] for p in range(60)} == {"c0", "c1", "c2"}


def test_what_a_member_fetches_is_believed_for_a_while() -> None:
    members = known("c0", {"c0": 1.0, "c1": 1.0}, now=0.0)
    members.heard("c1", PeerStatus(have=b"", fetching=to_bitmap([3], 8)), 0.0)
    members.update(0.0)
    assert members.is_fetched(3, 1.0)
    assert not members.is_fetched(2, 1.0)
    assert not members.is_fetched(3, 6.0)
