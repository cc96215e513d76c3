from collections.abc import Iterable
from decimal import Decimal
from random import Random

from hypothesis import given, settings

from edge_agent.policy.kube.dra import Listed, count, layout
from edge_agent.policy.kube.slices import DeviceClass, Hold, Slice, SliceDevice
from federation.contract.capacity import Pool
from tests.edge_agent.policy.kube.worlds import numbers

DRIVER = "gpu.nvidia.com"
SLICES = 4  # of memory, of one GPU
WAYS = (("7g.80gb", 4), ("3g.40gb", 2), ("1g.20gb", 1))


def _device(name: str, **fields: object) -> SliceDevice:
    return SliceDevice(name=name, node="n1", vendor="nvidia", **fields)  # type: ignore[arg-type]


def _slice(
    devices: Iterable[SliceDevice], *, generation: int = 1, slices: int = 1, gpus: int = 0
) -> Slice:
    return Slice(
        name=f"s{generation}",
        driver=DRIVER,
        pool="n1",
        generation=generation,
        slices=slices,
        nodes=frozenset({"n1"}),
        devices=tuple(devices),
        counters={(f"gpu-{g}", f"m{n}"): Decimal(1) for g in range(gpus) for n in range(SLICES)},
    )


def _hold(name: str, ours: bool = False) -> tuple[Hold, bool]:
    return Hold(driver=DRIVER, pool="n1", device=name), ours


def _counted(
    one: Slice, *holds: tuple[Hold, bool], classes: tuple[DeviceClass, ...] = ()
) -> tuple[Pool, ...]:
    return count(layout([one], classes), holds).pools.get("n1", ())


def _listed(slices: list[Slice]) -> Listed:
    return count(layout(slices, ()), [])


def _cuttable(gpus: int) -> list[SliceDevice]:
    """Every way to take GPUs, or aligned parts of them."""
    found = []
    for gpu in range(gpus):
        uuid = f"GPU-{gpu}"
        every = tuple(((f"gpu-{gpu}", f"m{n}"), Decimal(1)) for n in range(SLICES))
        found.append(_device(f"gpu-{gpu}", kind="gpu", id=uuid, memory_mib=80, consumes=every))
        found += [
            _device(
                f"gpu-{gpu}-{profile}-{start}",
                kind="mig",
                parent=uuid,
                profile=profile,
                memory_mib=20 * size,
                consumes=every[start : start + size],
            )
            for profile, size in WAYS
            for start in range(0, SLICES, size)
        ]
    return found


def test_no_slices_come_to_nothing() -> None:
    assert _listed([]).pools == {}


def test_what_is_held_is_not_free() -> None:
    listed = _slice([_device("a", id="A"), _device("b", id="B"), _device("c", id="C")])
    (pool,) = _counted(listed, _hold("a", ours=True), _hold("b"), _hold("not-listed"))
    assert (pool.total, pool.allocatable, pool.free, pool.ours) == (3, 3, 1, 1)


def test_a_device_that_is_held_and_tainted_counts_in_total_only() -> None:
    (pool,) = _counted(_slice([_device("a", taint="x:NoExecute")]), _hold("a", ours=True))
    assert (pool.total, pool.allocatable, pool.free, pool.ours) == (1, 0, 0, 0)
    assert pool.reason == "1 of 1 devices is tainted x:NoExecute"


def test_only_the_newest_and_whole_list_counts() -> None:
    old = _slice([_device("a"), _device("b")], generation=1)
    new = _slice([_device("a")], generation=2)
    assert _listed([old, new]).pools["n1"][0].total == 1
    half = _slice([_device("a")], generation=3, slices=2)
    listed = _listed([old, half])
    assert (listed.pools, listed.reason) == ({}, "gpu.nvidia.com has listed 1 of 2 parts of n1")


def test_what_a_workload_asks_for() -> None:
    gpu, cut = _device("a", kind="gpu"), _device("b", kind="mig", parent="A", profile="1g.5gb")
    both = _slice([gpu, cut])

    def asked(*classes: DeviceClass) -> list[str]:
        return [pool.resource for pool in _counted(both, classes=classes)]

    assert asked() == ["gpu.nvidia.com", "mig.nvidia.com/1g.5gb"]
    whole = DeviceClass(name="whole", driver=DRIVER, kind="gpu")
    assert asked(whole) == ["mig.nvidia.com/1g.5gb", "whole"]
    named = DeviceClass(name="z", driver=DRIVER, kind="gpu", resource="nvidia.com/gpu")
    assert asked(whole, named) == ["mig.nvidia.com/1g.5gb", "nvidia.com/gpu"]
    every = DeviceClass(name="any", driver=DRIVER)
    assert asked(every, whole) == ["any/1g.5gb", "whole"]
    foreign = DeviceClass(name="other", driver="gpu.amd.com", resource="amd.com/gpu")
    assert asked(foreign) == asked()


def test_an_uncut_gpu_is_one_gpu() -> None:
    (pool,) = _counted(_slice(_cuttable(2), gpus=2))
    assert (pool.resource, pool.physical, pool.total, pool.free) == ("gpu.nvidia.com", 2, 2, 2)


def test_a_gpu_that_is_tainted_whole_can_still_be_cut() -> None:
    whole, *ways = _cuttable(1)
    sick = _device("gpu-0", kind="gpu", id=whole.id, taint="x:NoSchedule", consumes=whole.consumes)
    listed = _listed([_slice([sick, *ways], gpus=1)])
    assert [p.profile for p in listed.pools["n1"]] == ["7g.80gb"]
    assert listed.devices["n1"][0].healthy


@settings(max_examples=60, deadline=None)
@given(numbers)
def test_what_is_free_can_all_be_handed_out_at_once(number: int) -> None:
    """An allocator takes what the counters allow; then all that is said to be free fits too."""
    dice, gpus = Random(number), 3
    ways = _cuttable(gpus)
    left = {key: 1 for way in ways for key, _ in way.consumes}
    taken = []
    for way in dice.sample(ways, len(ways))[: dice.randint(0, 12)]:
        if all(left[key] for key, _ in way.consumes):
            taken.append(way)
            left |= {key: 0 for key, _ in way.consumes}
    pools = _counted(_slice(ways, gpus=gpus), *(_hold(way.name) for way in taken))
    assert sum(pool.physical for pool in pools) == gpus
    assert sum(pool.total - pool.free for pool in pools) == len(taken)
    for pool in sorted(pools, key=lambda pool: -pool.memory_mib):
        for _ in range(pool.free):
            fitting = (
                way
                for way in ways
                if (way.profile, way.memory_mib) == (pool.profile, pool.memory_mib)
                and all(left[key] for key, _ in way.consumes)
            )
            left |= {key: 0 for key, _ in next(fitting).consumes}
    assert not any(left.values())  # and nothing is left out
