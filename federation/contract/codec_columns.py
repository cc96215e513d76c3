"""Devices and pools in columns: where a report that tells of a thousand devices becomes small.

Input: our types or protobuf messages. Output: the other. Equal devices share one description, texts
share their beginnings with the text before, a UUID is its 16 bytes. Raises Invalid for columns that
do not belong together.
"""

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from federation.contract import codec_capacity
from federation.contract.capacity import Device, Pool
from federation.contract.capacity_rules import MAX_DEVICES, MAX_NAME
from federation.contract.device_use import UseColumns
from federation.contract.errors import Invalid
from federation.contract.v1 import federation_pb2 as pb

H = TypeVar("H", bound=Hashable)

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_UUID_LENGTH = 36


class Nodes:
    """The nodes of a whole report, listed once: indexes for those who write, names for readers."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self._index = {name: n for n, name in enumerate(self.names)}

    def __repr__(self) -> str:
        return f"Nodes({len(self.names)})"

    @classmethod
    def of(cls, devices: Iterable[Device], pools: Iterable[Pool]) -> "Nodes":
        """Return the nodes of devices and pools; sorted, since neighbours share beginnings."""
        return cls(sorted({d.node for d in devices} | {p.node for p in pools}))

    @classmethod
    def from_proto(cls, message: pb.Ids) -> "Nodes":
        """Decode; raises Invalid."""
        return cls(_ids_from_proto(message))

    def to_proto(self) -> pb.Ids:
        """Encode."""
        return _ids_to_proto(self.names)

    def column(self, names: Iterable[str]) -> list[int]:
        """Return which node each name is."""
        return _short([self._index[name] for name in names])


def devices_to_columns(devices: Sequence[Device], nodes: Nodes) -> pb.DeviceColumns:
    """Encode devices without their use."""
    kinds, kind = _indexed(replace(d, id="", node="", parent="", use=None) for d in devices)
    parents, parent = _indexed(d.parent for d in devices)
    return pb.DeviceColumns(
        kinds=[codec_capacity.device_to_proto(each) for each in kinds],
        parents=_ids_to_proto(parents),
        ids=_ids_to_proto([d.id for d in devices]),
        kind=kind,
        node=nodes.column(d.node for d in devices),
        parent=parent,
    )


def devices_from_columns(columns: pb.DeviceColumns, nodes: Nodes) -> tuple[Device, ...]:
    """Decode devices; raises Invalid."""
    ids, parents = _ids_from_proto(columns.ids), _ids_from_proto(columns.parents)
    kinds = [codec_capacity.device_from_proto(each) for each in columns.kinds]
    rows = zip(
        ids,
        *(_filled(each, len(ids)) for each in (columns.kind, columns.node, columns.parent)),
        strict=True,
    )
    try:
        return tuple(
            replace(kinds[kind], id=name, node=nodes.names[node], parent=parents[parent], use=None)
            for name, kind, node, parent in rows
        )
    except IndexError:
        raise Invalid("a column of devices names what is not listed.") from None


def pools_to_columns(pools: Sequence[Pool], nodes: Nodes) -> pb.PoolColumns:
    """Encode pools without `free` and `ours`."""
    kinds, kind = _indexed(
        replace(p, node="", physical=0, total=0, allocatable=0, free=0, ours=0) for p in pools
    )
    return pb.PoolColumns(
        kinds=[codec_capacity.pool_to_proto(each) for each in kinds],
        kind=kind,
        node=nodes.column(p.node for p in pools),
        physical=[p.physical for p in pools],
        total=[p.total for p in pools],
        allocatable=[p.allocatable for p in pools],
    )


def pools_from_columns(columns: pb.PoolColumns, nodes: Nodes) -> tuple[Pool, ...]:
    """Decode pools, `free` and `ours` being 0; raises Invalid."""
    kinds = [codec_capacity.pool_from_proto(each) for each in columns.kinds]
    numbers = (columns.kind, columns.node, columns.physical, columns.total, columns.allocatable)
    length = max(map(len, numbers))
    rows = zip(*(_filled(each, length) for each in numbers), strict=True)
    try:
        return tuple(
            replace(
                kinds[kind],
                node=nodes.names[node],
                physical=devices,
                total=total,
                allocatable=healthy,
            )
            for kind, node, devices, total, healthy in rows
        )
    except IndexError:
        raise Invalid("a column of pools names what is not listed.") from None


def use_to_proto(use: UseColumns) -> pb.UseColumns:
    """Encode what devices are doing."""
    return pb.UseColumns(
        memory_mib=use.memory_mib,
        utilization=use.utilization,
        temperature_c=use.temperature_c,
        power_w=use.power_w,
    )


def use_from_proto(message: pb.UseColumns) -> UseColumns:
    """Decode what devices are doing."""
    return UseColumns(
        memory_mib=tuple(message.memory_mib),
        utilization=tuple(message.utilization),
        temperature_c=tuple(message.temperature_c),
        power_w=tuple(message.power_w),
    )


# ------------------------------------------------------------ small parts


def _indexed(values: Iterable[H]) -> tuple[list[H], list[int]]:
    """Return the distinct values, and for each value which of these it is."""
    known: dict[H, int] = {}
    indexes = [known.setdefault(value, len(known)) for value in values]
    return list(known), _short(indexes)


def _short(indexes: list[int]) -> list[int]:
    return indexes if any(indexes) else []


def _filled(column: Sequence[int], length: int) -> Sequence[int]:
    """Return a column of that length; an empty one of indexes stands for zeros."""
    if column and len(column) != length:
        raise Invalid("the columns of devices or pools differ in length.")
    return column or [0] * length


def _shared(one: str, other: str) -> int:
    """How many characters two texts share at their beginnings."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _ids_to_proto(texts: Sequence[str]) -> pb.Ids:
    shared: list[int] = []
    rest: list[str] = []
    ends: list[bool] = []
    uuids: list[bytes] = []
    before = ""
    for text in texts:
        tail = text[-_UUID_LENGTH:]
        is_uuid = _UUID.match(tail) is not None
        head = text[:-_UUID_LENGTH] if is_uuid else text
        length = _shared(before, head)
        shared.append(length)
        rest.append(head[length:])
        ends.append(is_uuid)
        if is_uuid:
            uuids.append(UUID(tail).bytes)
        before = head
    return pb.Ids(shared=shared, rest=rest, uuid=ends if any(ends) else (), uuids=b"".join(uuids))


def _ids_from_proto(message: pb.Ids) -> list[str]:
    if len(message.rest) > MAX_DEVICES:
        raise Invalid(f"a report names more than {MAX_DEVICES} things of a kind.")
    ends = message.uuid or [False] * len(message.rest)
    if not len(message.shared) == len(message.rest) == len(ends):
        raise Invalid("the columns of names differ in length.")
    if len(message.uuids) != 16 * sum(ends):
        raise Invalid("the UUIDs of names are not as many as the names say.")
    texts: list[str] = []
    before, position = "", 0
    for shared, rest, is_uuid in zip(message.shared, message.rest, ends, strict=True):
        if shared > len(before) or shared + len(rest) > MAX_NAME:
            raise Invalid(f"a name is longer than {MAX_NAME} characters, or is not complete.")
        before = before[:shared] + rest
        if is_uuid:
            raw = message.uuids[position : position + 16].hex()
            position += 16
            texts.append(f"{before}{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}")
        else:
            texts.append(before)
    return texts
