"""Devices, pools and what follows from them."""

from hypothesis import given
from hypothesis import strategies as st

from federation.contract.capacity import Capacity, Device, DeviceUse, Pool, Sharing, pools_of


def device(name: str, **fields: object) -> Device:
    given = {"vendor": "nvidia", "product": "H100", "memory_mib": 81_559, **fields}
    return Device(id=name, **given)  # type: ignore[arg-type]


def test_equal_devices_of_a_node_are_one_pool() -> None:
    pools = pools_of(
        [
            device("a", node="n1"),
            device("b", node="n1", healthy=False, reason="XID 79"),
            device("c", node="n2"),
            device("d", node="n2", product="L4", memory_mib=23_034),
        ]
    )
    assert [(p.node, p.product, p.total, p.free, p.reason) for p in pools] == [
        ("n1", "H100", 2, 1, "XID 79"),
        ("n2", "H100", 1, 1, ""),
        ("n2", "L4", 1, 1, ""),
    ]


def test_a_device_with_partitions_is_represented_by_these() -> None:
    (pool,) = pools_of(
        [
            device("gpu"),
            device("m1", parent="gpu", profile="1g.10gb", memory_mib=9_856),
            device("m2", parent="gpu", profile="1g.10gb", memory_mib=9_856),
        ]
    )
    assert (pool.total, pool.physical, pool.sharing) == (2, 1, Sharing.PARTITION)


def test_gpus_are_counted_where_devices_are_seen_on_some_nodes_only() -> None:
    def pool(node: str) -> Pool:
        return Pool(node=node, resource="r", vendor="v", physical=4, total=4, allocatable=4, free=4)

    seen = Device(id="g1", vendor="v", product="", memory_mib=0, node="a")
    by_another_name = Device(id="g2", vendor="v", product="", memory_mib=0, node="10.0.0.1")
    capacity = Capacity(devices=(seen, by_another_name), pools=(pool("a"), pool("b")))
    assert capacity.gpus == 1 + 4


def test_gpus_counts_hardware_not_units() -> None:
    cut = (device("gpu"), device("m1", parent="gpu"), device("m2", parent="gpu"))
    assert Capacity(devices=cut).gpus == 1
    shared = Pool(
        node="n", resource="r", vendor="v", physical=2, total=8, allocatable=8, free=3, ours=1
    )
    gone = Pool(node="m", resource="r", vendor="v", physical=4, total=4)
    capacity = Capacity(pools=(shared, gone))
    assert (capacity.gpus, capacity.free, capacity.largest_block) == (2, 3, 3)
    assert Capacity().largest_block == 0


def test_at_rest_nothing_changes_with_load() -> None:
    busy = device("a", use=DeviceUse(utilization=0.9))
    assert Capacity(devices=(busy,), age_s=3.0).at_rest() == Capacity(devices=(device("a"),))


@given(
    st.lists(
        st.builds(
            device,
            st.text("abc", max_size=2),
            node=st.sampled_from("xy"),
            product=st.sampled_from(["H100", "L4"]),
            healthy=st.booleans(),
        ),
        max_size=8,
    )
)
def test_pools_hold_each_device_once(devices: list[Device]) -> None:
    pools = pools_of(devices)
    assert sum(pool.total for pool in pools) == len(devices)
    assert sum(pool.free for pool in pools) == sum(d.healthy for d in devices)
    assert all(0 <= p.free <= p.allocatable <= p.total for p in pools)
