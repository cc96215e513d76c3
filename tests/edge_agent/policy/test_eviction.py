"""What leaves the disk: never what must stay, no more than needed, links counted once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.eviction import (
    MIN_RESERVE_BYTES,
    Inode,
    Key,
    OnDisk,
    decide,
    freed_bytes,
    protected,
    reserve_bytes,
)
from federation.contract.errors import Exhausted
from federation.contract.sync import Disk

GIB = 1 << 30


def package(version: int, *inodes: Inode, model: str = "m", used: bool = True) -> OnDisk:
    return OnDisk(
        model=model,
        version=version,
        digest=f"{version:064x}",
        last_used=float(version),
        ever_used=used,
        inodes=inodes,
    )


def own(number: int, gib: float) -> Inode:
    return Inode(number, int(gib * GIB), 1)


def disk(free: float, *, used: float = 0.0, budget: float = 0.0) -> Disk:
    return Disk(
        free_bytes=int(free * GIB), used_bytes=int(used * GIB), budget_bytes=int(budget * GIB)
    )


def test_nothing_is_removed_while_it_fits() -> None:
    assert decide([package(1, own(1, 4))], {}, disk(2), GIB) == ()


def test_the_least_recently_used_goes_first_and_no_more_than_needed() -> None:
    packages = [package(3, own(3, 4)), package(1, own(1, 1)), package(2, own(2, 4))]
    assert [p.version for p in decide(packages, {}, disk(0), GIB // 2)] == [1]
    # Version 1 alone is not enough, and once version 2 is gone it need not go.
    assert [p.version for p in decide(packages, {}, disk(0), 3 * GIB)] == [2]
    assert [p.version for p in decide(packages, {}, disk(0), 6 * GIB)] == [2, 3]


def test_what_must_stay_stays_and_the_refusal_says_so() -> None:
    packages = [package(1, own(1, 1)), package(2, own(2, 4))]
    with pytest.raises(Exhausted) as caught:
        decide(packages, {packages[1].key: "assigned"}, disk(0), 2 * GIB, "m@3")
    assert caught.value.message == (
        "m@3 does not fit: it needs 2.1 GiB with a reserve, and the disk would have 1.0 GiB free, "
        "even after removing 1 packages that nobody needs; m@2 (assigned) must stay."
    )
    assert caught.value.reason == "disk-budget"


def test_the_budget_counts_what_is_in_use() -> None:
    packages = [package(1, own(1, 3))]
    assert decide(packages, {}, disk(100, used=3, budget=5), 2 * GIB) == ()
    assert decide(packages, {}, disk(100, used=3, budget=4), 2 * GIB) == (packages[0],)
    with pytest.raises(Exhausted, match=r"0.0 MiB of the budget of 4.0 GiB are in use"):
        decide(packages, {}, disk(100, used=3, budget=4), 5 * GIB)
    with pytest.raises(Exhausted, match=r"3.0 GiB of the budget of 4.0 GiB .*nothing can be remov"):
        decide(packages, {packages[0].key: "prefetched"}, disk(100, used=3, budget=4), 2 * GIB)


def test_a_shared_file_is_free_with_its_last_link() -> None:
    shared = Inode(9, 4 * GIB, 2)
    packages = [package(1, own(1, 1), shared), package(2, own(2, 1), shared)]
    assert freed_bytes(packages[:1]) == GIB
    assert freed_bytes(packages) == 6 * GIB
    assert freed_bytes([package(1, Inode(9, GIB, 2, 2))]) == GIB
    assert decide(packages, {}, disk(0), 4 * GIB) == tuple(packages)
    with pytest.raises(Exhausted):  # staging holds a link as well
        decide([package(1, Inode(9, 4 * GIB, 2))], {}, disk(0), GIB)


def test_of_each_assigned_model_the_last_version_that_served_is_kept() -> None:
    packages = [package(n) for n in (1, 2, 3)] + [package(4, used=False), package(7, model="n")]
    assert protected(packages, [packages[2].key], [packages[3].key]) == {
        packages[2].key: "assigned",
        packages[3].key: "prefetched",
        packages[1].key: "kept for a rollback",
    }
    assert protected(packages, []) == {}


def test_a_reserve_is_kept_beside_what_is_needed() -> None:
    assert reserve_bytes(0) == 0
    assert reserve_bytes(1) == MIN_RESERVE_BYTES
    assert reserve_bytes(100 * GIB) == 5 * GIB


_INODES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(1, 3)), max_size=4)


@given(
    made=st.lists(st.tuples(_INODES, st.booleans()), max_size=6),
    outside=st.sets(st.integers(0, 9)),
    free=st.integers(0, 20),
    budget=st.integers(0, 40),
    needed=st.integers(0, 20),
)
def test_decisions_hold(
    made: list[tuple[list[tuple[int, int, int]], bool]],
    outside: set[int],
    free: int,
    budget: int,
    needed: int,
) -> None:
    sizes = {n: size * GIB for inodes, _ in made for n, size, _ in inodes}
    here = [{n: links for n, _, links in inodes} for inodes, _ in made]
    links = {n: sum(h.get(n, 0) for h in here) + (n in outside) for n in sizes}
    packages = [
        package(version, *(Inode(n, sizes[n], links[n], count) for n, count in h.items()))
        for version, h in enumerate(here)
    ]
    keep: dict[Key, str] = {
        p.key: "assigned" for p, (_, kept) in zip(packages, made, strict=True) if kept
    }
    at = disk(free, used=sum(sizes.values()) / GIB, budget=budget)

    def fits(removed: list[OnDisk]) -> bool:
        left = {n for p in packages if p not in removed for n in (i.number for i in p.inodes)}
        freed = sum(size for n, size in sizes.items() if n not in left | outside)
        want = needed * GIB
        if want + reserve_bytes(want) > at.free_bytes + freed:
            return False
        return not budget or at.used_bytes - freed + want <= at.budget_bytes

    may_go = [p for p in packages if p.key not in keep]
    try:
        chosen = list(decide(packages, keep, at, needed * GIB))
    except Exhausted:
        assert not fits(may_go)
        return
    assert set(chosen) <= set(may_go)
    assert fits(chosen)
    assert not any(fits([p for p in chosen if p is not one]) for one in chosen)
