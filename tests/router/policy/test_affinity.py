from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from federation.contract.types import Endpoint
from router.policy.affinity import LEAST_MS, MOST_MS, bonuses, keys
from router.policy.lanes import Lane, Place
from router.policy.shortlist import Option


def options(names: str, service_ms: float = 100.0) -> list[Option]:
    made = []
    for name in names:
        lane = Lane(Place(name))
        lane.service_ms = service_ms
        made.append(Option(Endpoint(cluster=name, region="eu", url="http://h:1"), lane, 1.0, 0))
    return made


@given(st.integers(0, 2**32 - 1), st.sampled_from("abcdef"))
def test_who_leaves_changes_only_what_it_owned(key: int, gone: str) -> None:
    before = next(iter(bonuses(options("abcdef"), (key,)))).cluster
    after = next(iter(bonuses(options("abcdef".replace(gone, "")), (key,)))).cluster
    assert after == before or before == gone


def test_owners_are_spread_evenly() -> None:
    owners = Counter(
        o.cluster for key in range(3000) for o in bonuses(options("abcdef"), (key * 7919,))
    )
    assert min(owners.values()) > 380


def test_a_bonus_is_a_part_of_the_service_and_never_large() -> None:
    assert set(bonuses(options("ab"), (5,)).values()) == {50.0}
    assert set(bonuses(options("ab", 60_000.0), (5,)).values()) == {MOST_MS}
    assert set(bonuses(options("ab", 0.0), (5,)).values()) == {LEAST_MS}
    assert sum(bonuses(options("ab"), (5, 6)).values()) == 50.0
    assert bonuses([], (5,)) == bonuses(options("ab"), ()) == {}


def test_what_requests_have_in_common() -> None:
    prompt = b"x" * 5000
    assert keys("", b"short") == ()
    assert len(keys("", prompt)) == 2
    assert keys("", prompt[:4096] + b"other") == keys("", prompt)
    assert keys("", prompt[:2000] + b"other" * 500)[0] == keys("", prompt)[0]
    assert keys("", prompt[:2000] + b"other" * 500)[1] != keys("", prompt)[1]
    assert keys("s1", prompt) == keys("s1", b"") != keys("s2", b"")
