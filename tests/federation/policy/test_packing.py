"""Packing against what must hold for any pools and claims, and the words of near misses."""

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.contract.capacity import Capacity, Device, Pool, Resources, Sharing
from federation.contract.matching import misfit
from federation.policy.claims import Claim
from federation.policy.packing import Packing, usable

GIB = 1024


def pool(free: int, memory_gib: int = 24, **more: object) -> Pool:
    values = {"node": "n1", "resource": "gpu", "vendor": "NVIDIA", "product": "L4", **more}
    counts = {"physical": free, "total": free, "allocatable": free}
    return Pool(free=free, memory_mib=memory_gib * GIB, **{**counts, **values})  # type: ignore[arg-type]


def claim(holder: str = "m 1", replicas: int = 1, **needs: object) -> Claim:
    resources = Resources(**{"gpus": 1, **needs})  # type: ignore[arg-type]
    return Claim(holder=holder, needs=resources, replicas=replicas)


# ------------------------------------------------------------ what must hold

pools = st.lists(
    st.builds(
        pool,
        st.integers(0, 4),
        st.sampled_from([0, 16, 24]),
        vendor=st.sampled_from(["NVIDIA", "AMD"]),
        node=st.sampled_from(["a", "b"]),
        sharing=st.sampled_from([Sharing.NONE, Sharing.NONE, Sharing.TIME_SLICING]),
        physical=st.integers(1, 2),
    ),
    max_size=4,
)
whole = st.builds(
    Resources,
    gpus=st.integers(1, 3),
    memory_mib=st.sampled_from([0, 8 * GIB, 20 * GIB]),
    vendor=st.sampled_from(["", "amd", "nvidia"]),
    exclusive=st.booleans(),
)
shared = st.builds(
    Resources,
    gpus=st.just(1),
    fraction=st.sampled_from([0.25, 0.3, 0.5, 0.75]),
    memory_mib=st.sampled_from([0, 6 * GIB, 12 * GIB]),
    vendor=st.sampled_from(["", "amd"]),
)
claims = st.lists(st.tuples(whole | shared, st.integers(1, 3)), max_size=4).map(
    lambda listed: [
        Claim(holder=f"m {n}", needs=needs, replicas=replicas)
        for n, (needs, replicas) in enumerate(listed)
    ]
)


def check_conservation(packing: Packing, wanted: list[Claim]) -> None:
    """No unit is given out twice, each replica once, each where it is allowed."""
    needs = {each.holder: each.needs for each in wanted}
    owed = {each.holder: each.replicas for each in packing.owed}
    for each in wanted:
        got = sum(spot.holder == each.holder for spot in packing.spots)
        assert got == each.replicas - owed.get(each.holder, 0)
    for number, one in enumerate(packing.pools):
        mine = [spot for spot in packing.spots if spot.pool == number]
        assert all(misfit(one, needs[spot.holder]) is None for spot in mine)
        slots: dict[int, list[Resources]] = {}
        for spot in mine:
            if spot.slot >= 0:
                slots.setdefault(spot.slot, []).append(needs[spot.holder])
            else:
                assert spot.units == needs[spot.holder].gpus
        assert sum(spot.units for spot in mine) + len(slots) <= one.free
        for sharing in slots.values():
            assert sum(each.fraction for each in sharing) <= 1 + 1e-6
            if one.memory_mib:
                assert sum(each.memory_mib for each in sharing) <= one.memory_mib
        if one.sharing is Sharing.TIME_SLICING and one.memory_mib:
            memory = sum(needs[s.holder].memory_mib * (s.units or 1) for s in mine)
            assert memory <= one.memory_mib * one.physical


@settings(max_examples=100, deadline=None)
@given(pools, claims)
def test_nothing_is_given_out_twice(there: list[Pool], wanted: list[Claim]) -> None:
    check_conservation(Packing(there, wanted), wanted)
    grown, let_in = Packing(there), []
    for each in wanted:
        before = grown.spots
        assert grown.fits(each) is (grown.miss(each) == "")
        if grown.add(each):
            let_in.append(each)
        else:
            assert grown.spots == before
        check_conservation(grown, let_in)


@settings(max_examples=100, deadline=None)
@given(pools, claims, claims)
def test_what_was_asked_before_changes_no_answer(
    there: list[Pool], held: list[Claim], wanted: list[Claim]
) -> None:
    packing = Packing(there, held)
    asked = [replace(each, holder=f"new {each.holder}") for each in wanted]
    for each in (*asked, *reversed(asked)):
        before = packing.spots
        assert packing.fits(each) is Packing(there, held).fits(each)
        assert packing.spots == before
        assert packing.units_left(each.needs) == Packing(there, held).units_left(each.needs)
        if packing.refuses(each.needs, each.replicas):
            assert not Packing(there, held).fits(each)


@settings(max_examples=80, deadline=None)
@given(pools, claims, st.randoms(use_true_random=False))
def test_equal_questions_have_equal_answers(there: list[Pool], wanted: list[Claim], dice) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(wanted)
    dice.shuffle(shuffled)
    first, second = Packing(there, wanted), Packing(there, shuffled)
    assert first.spots == second.spots
    assert first.owed == second.owed


@settings(max_examples=100, deadline=None)
@given(pools, claims, st.data())
def test_more_capacity_never_hurts(there: list[Pool], wanted: list[Claim], data) -> None:  # type: ignore[no-untyped-def]
    if Packing(there, wanted).owed:
        return
    more = [*there, data.draw(pools.filter(bool))[0]]
    if there and data.draw(st.booleans()):
        grown = data.draw(st.integers(0, len(there) - 1))
        more = list(there)
        more[grown] = replace(there[grown], free=there[grown].free + 1)
    assert Packing(more, wanted).owed == []


@settings(max_examples=80, deadline=None)
@given(pools, claims)
def test_the_search_finds_what_trying_everything_finds(
    there: list[Pool], wanted: list[Claim]
) -> None:
    wanted = [replace(each, replicas=min(each.replicas, 2)) for each in wanted[:3]]
    if any(each.needs.fraction for each in wanted):
        return
    there = [replace(each, sharing=Sharing.NONE) for each in there]
    items = [each.needs for each in wanted for _ in range(each.replicas)]

    @cache
    def possible(index: int, left: tuple[int, ...]) -> bool:
        return index == len(items) or any(
            misfit(one, items[index]) is None
            and left[n] >= items[index].gpus
            and possible(index + 1, (*left[:n], left[n] - items[index].gpus, *left[n + 1 :]))
            for n, one in enumerate(there)
        )

    assert (Packing(there, wanted).owed == []) is possible(0, tuple(each.free for each in there))


# ------------------------------------------------------------ what fits


def test_all_units_of_a_replica_are_on_one_node() -> None:
    there = [pool(2, node="a"), pool(2, node="b")]
    assert not Packing(there).fits(claim(gpus=4))
    assert Packing(there).fits(claim(gpus=2, replicas=2))


def test_what_is_there_makes_room_by_another_arrangement() -> None:
    """Best fit puts the 1 beside the 3; only with the 1 elsewhere the others fit."""
    there = [pool(4, node="a"), pool(4, node="b", vendor="AMD")]
    packing = Packing(there)
    assert packing.add(claim("any 1", gpus=2, replicas=2))
    assert packing.add(claim("nv 1", gpus=4, vendor="nvidia"))
    assert {spot.pool for spot in packing.spots if spot.holder == "any 1"} == {1}
    assert not packing.fits(claim("more 1"))


def test_fractions_share_a_unit_and_their_memory_adds_up() -> None:
    packing = Packing([pool(1, 24)])
    assert packing.add(claim("a 1", fraction=0.5, memory_mib=10 * GIB))
    assert packing.add(claim("b 1", fraction=0.25, memory_mib=10 * GIB))
    assert not packing.fits(claim("c 1", fraction=0.5))
    assert not packing.fits(claim("c 1", fraction=0.25, memory_mib=5 * GIB))
    assert not packing.fits(claim("c 1"))
    assert packing.fits(claim("c 1", fraction=0.25, memory_mib=4 * GIB))
    thirds = Packing([pool(1)])
    assert thirds.add(claim("t 1", fraction=1 / 3, replicas=3))


def test_a_claim_is_replaced_by_its_holder() -> None:
    packing = Packing([pool(4)])
    assert packing.add(claim("a 1", replicas=2))
    assert packing.add(claim("a 1", replicas=4))
    assert not packing.add(claim("a 1", replicas=5))
    assert sum(spot.units for spot in packing.spots) == 4
    packing.drop("a 1")
    assert packing.spots == ()
    assert packing.add(claim("b 1", gpus=0))
    assert packing.spots == ()


def test_turns_on_a_device_share_its_memory() -> None:
    turns = pool(4, 24, sharing=Sharing.TIME_SLICING, physical=1)
    packing = Packing([turns])
    assert packing.fits(claim(replicas=4))
    assert packing.fits(claim(replicas=2, memory_mib=12 * GIB))
    assert not packing.fits(claim(replicas=3, memory_mib=12 * GIB))
    assert not packing.fits(claim(exclusive=True))
    assert not packing.fits(claim(gpus=2))


def test_what_an_overcommitted_holder_is_owed_is_nobodys() -> None:
    there = [pool(1, node="a"), pool(2, node="b", vendor="AMD")]
    packing = Packing(there, [claim("big 1", replicas=2, vendor="nvidia")])
    assert packing.owed == [claim("big 1", vendor="nvidia")]
    assert packing.overcommitted() == "overcommitted: big 1 has no room for 1 times 1 GPU"
    assert not packing.fits(claim("x 1", vendor="nvidia"))
    assert packing.fits(claim("x 1", replicas=2, vendor="amd"))
    assert Packing(there).overcommitted() == ""


def test_on_kubernetes_what_we_hold_is_ours_to_use() -> None:
    there = Capacity(pools=(replace(pool(8), free=1, ours=2),))
    assert [each.free for each in usable(there)] == [3]
    plain = Capacity(devices=(Device(id="1", vendor="v", product="p", memory_mib=1),) * 1)
    assert [each.free for each in usable(plain)] == [1]


def test_a_thousand_nodes_are_no_trouble() -> None:
    packing = Packing(
        [pool(8, node=f"n{n}") for n in range(1000)],
        [claim(f"m {n}", gpus=4, replicas=3) for n in range(600)],
    )
    assert packing.owed == []
    assert not packing.fits(claim("x 1", gpus=4, replicas=201))
    assert packing.fits(claim("x 1", gpus=4, replicas=200))


# ------------------------------------------------------------ near misses

A, B = pool(2, 16, node="node-1"), pool(1, 16, node="node-3", product="T4")


@pytest.mark.parametrize(
    ("there", "wanted", "told"),
    [
        ([], claim(), "needs 1 GPU and has no GPUs"),
        ([A, B], claim(memory_mib=24 * GIB), "needs 24 GiB, largest block is 16 GiB on node-1"),
        (
            [A, B],
            claim(gpus=4),
            "needs 4 GPUs on one node; the most that are free together is 2 on node-1",
        ),
        ([A, B], claim(replicas=5), "needs 5 times 1 GPU and has room for 3"),
        ([A], claim(vendor="amd"), "needs GPUs of amd, has some of NVIDIA"),
        ([A], claim(products=("*H100*",)), "needs product *H100*, has L4"),
        ([A], claim(profile="1g.*"), "needs a partition 1g.*, has whole GPUs"),
        (
            [A],
            claim(min_compute_capability="9.0"),
            "needs compute capability 9.0, that of its GPUs is not known on node-1",
        ),
        (
            [replace(A, compute_capability="8.9"), replace(B, compute_capability="10.0")],
            claim(min_compute_capability="12"),
            "needs compute capability 12, the highest is 10.0 on node-3",
        ),
        (
            [replace(A, free=0)],
            claim(),
            "needs 1 GPU and none is free (others hold 2)",
        ),
        (
            [replace(A, free=0, reason="cordoned")],
            claim(),
            "needs 1 GPU and none is free (node-1: cordoned)",
        ),
        (
            [replace(A, sharing=Sharing.TIME_SLICING)],
            claim(exclusive=True),
            "needs GPUs of its own, those on node-1 are shared (time-slicing)",
        ),
    ],
)
def test_the_nearest_miss_is_told(there: list[Pool], wanted: Claim, told: str) -> None:
    assert Packing(there).miss(wanted) == told


def test_who_holds_the_room_is_told() -> None:
    packing = Packing([A, B], [claim("a 1", replicas=2), claim("b 7", fraction=0.5)])
    assert packing.miss(claim("c 1", gpus=2)) == (
        "needs 2 GPUs on one node; the most that are free together is 0 "
        "(a 1 holds 2, b 7 holds 0.5)"
    )
    assert packing.miss(claim("c 1", fraction=0.75)) == (
        "needs 0.75 of a GPU; the most that is free of one is 0.5 on node-1 "
        "(a 1 holds 2, b 7 holds 0.5)"
    )
    assert Packing([A]).miss(claim()) == ""
