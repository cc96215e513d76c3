from federation.policy.packing_search import (
    DEPTH,
    FULL,
    NO_LIMIT,
    Kind,
    Load,
    may_fit,
    search,
    steps,
)

HALF = FULL // 2


def load(units: int = 1, pools: tuple[int, ...] = (0, 1), share: int = 0, memory: int = 0) -> Load:
    return Load(units=0 if share else units, share=share, memory=memory, pools=pools)


def empty(*units: int) -> list[Kind]:
    return [(count, (), NO_LIMIT) for count in units]


def test_a_replica_goes_into_a_pool_in_each_way_that_there_is() -> None:
    assert list(steps((2, (), NO_LIMIT), load(2), 24)) == [(-1, (0, (), NO_LIMIT))]
    assert list(steps((1, (), NO_LIMIT), load(2), 24)) == []
    assert list(steps((4, (), 10), load(2, memory=6), 24)) == []
    shared: Kind = (1, ((HALF, 12), (HALF, 12), (FULL - 1, 4)), NO_LIMIT)
    ways = [slot for slot, _ in steps(shared, load(share=HALF, memory=8), 24)]
    assert ways == [0, 3], "equal slots are one way, one lacks memory, and a new one may be opened"


def test_counting_proves_what_cannot_be() -> None:
    assert may_fit(empty(2, 2), {load(1): 4})
    assert not may_fit(empty(2, 2), {load(1): 5})
    assert not may_fit(empty(3, 3), {load(2): 3}), "each pool holds one pair"
    assert not may_fit(empty(2, 2), {load(1, (0,)): 1, load(1, (0,)): 2})
    assert not may_fit(empty(1, 1), {load(share=HALF): 5})
    assert may_fit(empty(1, 1), {load(share=HALF): 4})


def test_an_arrangement_says_who_goes_where() -> None:
    found = search(empty(2, 2), [0, 0], [("any", load(2), 1), ("first", load(2, (0,)), 1)])
    assert found is not None
    assert sorted(found.moves) == [("any", 1, -1), ("first", 0, -1)]
    assert [kind[0] for kind in found.kinds] == [0, 0]


def test_shares_find_their_partners() -> None:
    """0.6 + 0.4 twice: putting the two 0.4 together leaves no room for both 0.6."""
    big, small = load(share=600_000), load(share=400_000)
    found = search(empty(1, 1), [0, 0], [("small", small, 2), ("big", big, 2)])
    assert found is not None
    assert len({(pool, name) for name, pool, _ in found.moves}) == 4
    assert search(empty(1, 1), [0, 0], [("small", small, 3), ("big", big, 2)]) is None


def test_it_gives_up_where_it_said_it_would() -> None:
    many = [("m", load(1), DEPTH + 1)]
    assert search(empty(DEPTH, DEPTH), [0, 0], many) is None
