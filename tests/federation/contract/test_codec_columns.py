"""Devices and pools in columns: they come back equal, and malformed columns are refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.capacity import Device, Pool
from federation.contract.codec_columns import (
    Nodes,
    devices_from_columns,
    devices_to_columns,
    pools_from_columns,
    pools_to_columns,
    use_from_proto,
    use_to_proto,
)
from federation.contract.device_use import UseColumns
from federation.contract.errors import Invalid
from federation.contract.v1 import federation_pb2 as pb
from tests.federation.contract.test_codec_capacity import devices, names, pools

uuids = st.uuids().map(str)
ids = names | uuids | st.tuples(names, uuids).map("".join) | st.text(max_size=40)
column = st.lists(st.integers(0, 2**32 - 1), max_size=4).map(tuple)


@given(st.lists(st.tuples(devices, ids, ids), max_size=6))
def test_devices_come_back_equal(drawn: list[tuple[Device, str, str]]) -> None:
    told = tuple(replace(d, id=name, parent=parent, use=None) for d, name, parent in drawn)
    nodes = Nodes.of(told, ())
    message = devices_to_columns(told, nodes)
    read = pb.DeviceColumns.FromString(message.SerializeToString())
    assert devices_from_columns(read, Nodes.from_proto(nodes.to_proto())) == told


@given(st.lists(pools, max_size=6))
def test_pools_come_back_equal_but_for_what_is_free(drawn: list[Pool]) -> None:
    told = tuple(replace(pool, free=0, ours=0) for pool in drawn)
    nodes = Nodes.of((), told)
    message = pools_to_columns(told, nodes)
    read = pb.PoolColumns.FromString(message.SerializeToString())
    assert pools_from_columns(read, Nodes.from_proto(nodes.to_proto())) == told


@given(st.builds(UseColumns, column, column, column, column))
def test_use_comes_back_equal(use: UseColumns) -> None:
    read = pb.UseColumns.FromString(use_to_proto(use).SerializeToString())
    assert use_from_proto(read) == use


def one_device() -> pb.DeviceColumns:
    device = Device(id="g", vendor="v", product="p", memory_mib=1)
    return devices_to_columns((device, device), Nodes([""]))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m.kind.append(0), "differ in length"),
        (lambda m: m.node.extend([0, 7]), "not listed"),
        (lambda m: m.kind.extend([1, 0]), "not listed"),
        (lambda m: m.ids.shared.append(0), "differ in length"),
        (lambda m: m.ids.uuid.extend([True, False]), "UUIDs"),
        (lambda m: setattr(m.ids, "uuids", b"123"), "UUIDs"),
        (lambda m: m.ids.shared.__setitem__(0, 1), "not complete"),
        (lambda m: m.ids.rest.__setitem__(0, "x" * 513), "longer than"),
        (lambda m: m.parents.rest.extend(["x"] * 10_001), "more than 10000"),
    ],
)
def test_columns_that_do_not_belong_together_are_refused(
    spoil: Callable[[pb.DeviceColumns], None], told: str
) -> None:
    message = one_device()
    spoil(message)
    with pytest.raises(Invalid, match=told):
        devices_from_columns(message, Nodes([""]))


def test_pools_of_kinds_that_are_not_listed_are_refused() -> None:
    with pytest.raises(Invalid, match="not listed"):
        pools_from_columns(pb.PoolColumns(total=[1]), Nodes([""]))
    with pytest.raises(Invalid, match="differ in length"):
        pools_from_columns(pb.PoolColumns(total=[1, 2], physical=[1]), Nodes([""]))
