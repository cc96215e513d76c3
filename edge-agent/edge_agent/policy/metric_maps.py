"""What an exporter's metrics say about GPUs: names, units and labels, as data.

Input: a preset's name or an operator's file, and samples as they were scraped. Output: devices with
their use, and what their health is judged by. Two namings of NVIDIA's DCGM exporter (it changed
names and units with 4.9: percent became ratios, MiB bytes), and Triton's own.
https://github.com/NVIDIA/dcgm-exporter/blob/main/etc/default-counters.csv
https://docs.nvidia.com/datacenter/dcgm/latest/dcgm-api/dcgm-api-field-ids.html
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import PurePath
from typing import NamedTuple

from edge_agent.policy.capacity import bus_id
from edge_agent.policy.device_health import Signals
from federation.contract.capacity import Device, DeviceUse
from federation.contract.errors import Invalid
from federation.contract.strict_yaml import load_document

_MIB = 2.0**-20
_PERCENT = 0.01


class Field(StrEnum):
    """What a metric can tell."""

    UTILIZATION = "utilization"  # 0 to 1
    MEMORY_USED = "memory_used"  # MiB, like the next three
    MEMORY_FREE = "memory_free"
    MEMORY_RESERVED = "memory_reserved"
    MEMORY_TOTAL = "memory_total"
    TEMPERATURE = "temperature"  # degrees Celsius
    POWER = "power"  # W
    XID = "xid"  # the code of the last error
    REMAP_FAILED = "remap_failed"  # not 0: bad memory can no longer be replaced


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: its value times `scale` is the field in our unit."""

    name: str
    field: Field
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Which labels say what; the first one that a sample has counts."""

    uuid: tuple[str, ...] = ("UUID", "uuid", "gpu_uuid")
    bus_id: tuple[str, ...] = ("pci_bus_id",)
    product: tuple[str, ...] = ("modelName",)
    node: tuple[str, ...] = ("Hostname", "hostname")
    profile: tuple[str, ...] = ("GPU_I_PROFILE",)
    instance: tuple[str, ...] = ("GPU_I_ID",)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricMap:
    """All of an exporter. Of several metrics for one field the first that has a value counts."""

    metrics: tuple[Metric, ...]
    labels: Labels = field(default_factory=Labels)


class Sample(NamedTuple):
    """One line of a scrape."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """One device of a scrape."""

    device: Device
    signals: Signals
    bus_id: str = ""


def _metrics(*rows: tuple[str, Field, float]) -> tuple[Metric, ...]:
    return tuple(Metric(name=name, field=field, scale=scale) for name, field, scale in rows)


_PROFILING = ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", Field.UTILIZATION, 1.0)  # also of MIG instances
DCGM = MetricMap(
    metrics=_metrics(
        ("DCGM_FI_DEV_GPU_UTIL", Field.UTILIZATION, _PERCENT),
        _PROFILING,
        ("DCGM_FI_DEV_FB_USED", Field.MEMORY_USED, 1.0),
        ("DCGM_FI_DEV_FB_FREE", Field.MEMORY_FREE, 1.0),
        ("DCGM_FI_DEV_FB_RESERVED", Field.MEMORY_RESERVED, 1.0),
        ("DCGM_FI_DEV_FB_TOTAL", Field.MEMORY_TOTAL, 1.0),
        ("DCGM_FI_DEV_GPU_TEMP", Field.TEMPERATURE, 1.0),
        ("DCGM_FI_DEV_POWER_USAGE", Field.POWER, 1.0),
        ("DCGM_FI_DEV_XID_ERRORS", Field.XID, 1.0),
        ("DCGM_FI_DEV_ROW_REMAP_FAILURE", Field.REMAP_FAILED, 1.0),
    )
)
DCGM_4_9 = MetricMap(
    metrics=_metrics(
        ("DCGM_FI_DEV_GPU_UTIL_RATIO", Field.UTILIZATION, 1.0),
        ("DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO", Field.UTILIZATION, 1.0),
        _PROFILING,
        ("DCGM_FI_DEV_FB_USED_BYTES", Field.MEMORY_USED, _MIB),
        ("DCGM_FI_DEV_FB_FREE_BYTES", Field.MEMORY_FREE, _MIB),
        ("DCGM_FI_DEV_FB_RESERVED_BYTES", Field.MEMORY_RESERVED, _MIB),
        ("DCGM_FI_DEV_FB_CAPACITY_BYTES", Field.MEMORY_TOTAL, _MIB),
        ("DCGM_FI_DEV_GPU_TEMP_CELSIUS", Field.TEMPERATURE, 1.0),
        ("DCGM_FI_DEV_BOARD_POWER_WATTS", Field.POWER, 1.0),
        ("DCGM_FI_DEV_XID_ERROR", Field.XID, 1.0),
        ("DCGM_FI_DEV_ROW_REMAP_FAILED", Field.REMAP_FAILED, 1.0),
    )
)
TRITON = MetricMap(
    metrics=_metrics(
        ("nv_gpu_utilization", Field.UTILIZATION, 1.0),
        ("nv_gpu_memory_used_bytes", Field.MEMORY_USED, _MIB),
        ("nv_gpu_memory_total_bytes", Field.MEMORY_TOTAL, _MIB),
        ("nv_gpu_power_usage", Field.POWER, 1.0),
    )
)
PRESETS = {"dcgm": DCGM, "dcgm-4.9": DCGM_4_9}
# The names of the two differ wherever their units do, so both can be looked for at once.
BOTH = MetricMap(metrics=tuple(dict.fromkeys(DCGM_4_9.metrics + DCGM.metrics)))


def parse_map(text: str, source: str) -> MetricMap:
    """Return an operator's map; raises Invalid with line, key and remedy."""
    document = load_document(text, source=PurePath(source).name)
    found: MetricMap = document.convert(MetricMap)
    for index, metric in enumerate(found.metrics):
        if not (metric.name and math.isfinite(metric.scale) and metric.scale > 0):
            line = document.line(("metrics", index))
            raise Invalid(f"{source} line {line}: a metric needs a name and a scale above 0.")
    if not found.metrics:
        raise Invalid(f"{source}: no metrics.")
    return found


def devices_of(samples: Iterable[Sample], metric_map: MetricMap, source: str) -> list[Scraped]:
    """Return the devices that samples tell of, in the order in which they come.

    Samples without a UUID or without a finite value are left out: exporters write such for what a
    device does not support. A MIG instance is known by its GPU's UUID and its number.
    """
    order = {metric.name: (rank, metric) for rank, metric in enumerate(metric_map.metrics)}
    found: dict[tuple[str, str], dict[Field, tuple[int, float]]] = {}
    about: dict[tuple[str, str], Mapping[str, str]] = {}
    for name, labels, value in samples:
        uuid = _label(labels, metric_map.labels.uuid)
        if name not in order or not uuid or not math.isfinite(value):
            continue
        key = (uuid, _label(labels, metric_map.labels.instance))
        rank, metric = order[name]
        fields = found.setdefault(key, {})
        about.setdefault(key, labels)
        if metric.field not in fields or rank < fields[metric.field][0]:
            fields[metric.field] = (rank, value * metric.scale)
    scraped = {
        key: _scraped(key, {f: v for f, (_, v) in told.items()}, about[key], metric_map, source)
        for key, told in found.items()
    }
    cut = {uuid for uuid, instance in scraped if instance}
    return [
        _of_gpu(one, scraped.get((uuid, ""))) if instance else one
        for (uuid, instance), one in scraped.items()
        if instance or uuid not in cut
    ]


def _of_gpu(instance: Scraped, gpu: Scraped | None) -> Scraped:
    """Return a MIG instance with the health of its GPU, which exporters tell of the whole."""
    if gpu is None:
        return instance
    one, whole = instance.signals, gpu.signals
    signals = Signals(
        last_xid=one.last_xid or whole.last_xid,
        remap_failed=one.remap_failed or whole.remap_failed,
    )
    return replace(instance, signals=signals)


def _scraped(
    key: tuple[str, str],
    told: Mapping[Field, float],
    labels: Mapping[str, str],
    metric_map: MetricMap,
    source: str,
) -> Scraped:
    (uuid, instance), names = key, metric_map.labels
    used, total = told.get(Field.MEMORY_USED), told.get(Field.MEMORY_TOTAL)
    if total is None and used is not None and Field.MEMORY_FREE in told:
        total = used + told[Field.MEMORY_FREE] + told.get(Field.MEMORY_RESERVED, 0.0)
    busy = told.get(Field.UTILIZATION)
    place = _label(labels, names.bus_id)
    return Scraped(
        device=Device(
            id=f"{uuid}/gi-{instance}" if instance else uuid,
            vendor="nvidia",
            product=_label(labels, names.product).removeprefix("NVIDIA "),
            memory_mib=round(total or 0.0),
            source=source,
            node=_label(labels, names.node),
            parent=uuid if instance else "",
            profile=_label(labels, names.profile),
            use=DeviceUse(
                memory_mib=round(used) if used is not None else None,
                utilization=min(max(busy, 0.0), 1.0) if busy is not None else None,
                temperature_c=told.get(Field.TEMPERATURE),
                power_w=None if instance else told.get(Field.POWER),  # it is the whole GPU's
            ),
        ),
        signals=Signals(
            last_xid=round(told.get(Field.XID, 0.0)),
            remap_failed=bool(told.get(Field.REMAP_FAILED)),
        ),
        bus_id="" if instance or not place else bus_id(place),
    )


def _label(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
