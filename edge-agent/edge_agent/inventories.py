"""What sees the devices of a cluster, as the settings name it; and a look at it for operators.

Input: settings, and the backend whose engine may know its devices. Output: inventories for the
agent's loop; `fed-edge-agent inventory` prints what they see as tables and ends.
"""

import asyncio
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_agent.backends.base import Backend
from edge_agent.engine_devices import EngineInventory
from edge_agent.inventory.amd import AmdInventory
from edge_agent.inventory.base import DeviceSource, Inventory, look
from edge_agent.inventory.declared import DeclaredInventory
from edge_agent.inventory.exporter import ExporterInventory
from edge_agent.inventory.nvml import NvmlInventory
from edge_agent.policy.metric_maps import BOTH, PRESETS, TRITON, MetricMap, parse_map
from edge_agent.settings import Settings, check, tolerations
from federation.contract.capacity import Capacity, Device, Pool
from federation.contract.errors import Invalid
from federation.kube.access import KubeAccess, in_pod
from federation.runtime.clock import Clock, SystemClock
from federation.runtime.config import load_settings

COMMAND = "inventory"
_DEVICE = ("NODE", "DEVICE", "PRODUCT", "MEMORY", "USED", "BUSY", "TEMP", "HEALTH", "SOURCE")
_POOL = ("NODE", "RESOURCE", "PRODUCT", "PROFILE", "MEMORY", "UNITS", "USABLE", "FREE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventories:
    """All that is asked: `seeing` find devices, `telling` only tell more of these."""

    seeing: tuple[Inventory, ...]
    telling: tuple[Inventory, ...] = ()


def make_inventories(
    settings: Settings, backend: Backend | None, *, clock: Clock, node: str = ""
) -> Inventories:
    """Return what sees the devices; raises Invalid.

    Of what was declared, the engine and this machine's drivers only one is asked: they name the
    same GPU differently, and it would be counted twice. Exporters name NVIDIA's GPUs like the
    driver does: beside it they may add those of other machines.
    """
    node = node or node_name()
    kind = settings.inventory if settings.inventory != "auto" else _best(settings, backend)
    exporters = _exporters(settings, clock)
    match kind:
        case "none":
            return Inventories(seeing=())
        case "declared":
            declared = DeclaredInventory(Path(settings.inventory_file))
            return Inventories(seeing=(declared,), telling=exporters)
        case "engine":
            if not isinstance(backend, DeviceSource):
                raise Invalid(
                    f"--inventory=engine: {settings.engine} does not tell its devices.",
                    hint="Ray Serve does. Use auto, or declare them with --inventory-file.",
                )
            return Inventories(seeing=(EngineInventory(backend, clock=clock),), telling=exporters)
        case "nvml" | "kubernetes":
            nvml = kind == "nvml"
            first = NvmlInventory(clock=clock, node=node) if nvml else _kubernetes(settings, clock)
            return Inventories(seeing=(first, *exporters))
        case "amd":
            return Inventories(seeing=(AmdInventory(clock=clock, node=node),), telling=exporters)
        case _:
            drivers = (
                NvmlInventory(clock=clock, node=node),
                AmdInventory(clock=clock, node=node),
            )
            return Inventories(seeing=(*drivers, *exporters))


def node_name() -> str:
    """Return the name of the host: in a pod its NODE_NAME, if the manifest sets it."""
    return os.environ.get("NODE_NAME") or socket.gethostname()


def main(argv: Sequence[str], *, prog: str, make_backend: Callable[[Settings], Backend]) -> int:
    """Print what the inventories see; returns 0. Raises Invalid. Changes nothing."""
    settings = load_settings(Settings, prog=f"{prog} {COMMAND}", argv=["--cluster=here", *argv])
    check(settings)
    for line in asyncio.run(_seen(settings, make_backend)):
        sys.stdout.write(f"{line}\n")
    return 0


async def _seen(settings: Settings, make_backend: Callable[[Settings], Backend]) -> list[str]:
    spans_machines = settings.engine == "ray-serve"
    backend = make_backend(settings) if spans_machines else None
    inventories = make_inventories(settings, backend, clock=SystemClock())
    try:
        return list(report(await look(inventories.seeing, inventories.telling)))
    finally:
        if backend is not None:
            await backend.close()


def report(capacity: Capacity) -> Iterator[str]:
    """Yield the lines that tell people what is there."""
    if capacity.devices:
        yield from _table(_DEVICE, [_device_row(device) for device in capacity.devices])
        yield ""
    if capacity.pools:
        yield from _table(_POOL, [_pool_row(pool) for pool in capacity.pools])
        yield ""
    count = capacity.gpus
    yield f"{count or 'No'} GPU{'s' if count > 1 else ''} can be used."
    if capacity.reason:
        yield f"Not all could be seen: {capacity.reason}"


def _best(settings: Settings, backend: Backend | None) -> str:
    if settings.inventory_file:
        return "declared"
    if isinstance(backend, DeviceSource):
        return "engine"
    return "kubernetes" if settings.kubeconfig or in_pod(os.environ) else "drivers"


def _kubernetes(settings: Settings, clock: Clock) -> Inventory:
    # Here, for an agent on a plain server has no use for the memory that they take.
    from edge_agent.inventory.kubernetes import KubernetesInventory
    from edge_agent.policy.kube.view import KubeView
    from federation.kube.api import KubeApi

    access = KubeAccess(kubeconfig=settings.kubeconfig, context=settings.kube_context)
    return KubernetesInventory(
        KubeApi(access),
        view=partial(KubeView, tolerations=tolerations(settings)),
        clock=clock,
        dice=random.Random(),  # noqa: S311  # spreads requests, guards nothing
    )


def _exporters(settings: Settings, clock: Clock) -> tuple[Inventory, ...]:
    dcgm = _dcgm_map(settings.dcgm_metrics) if settings.dcgm_url else BOTH
    found = [ExporterInventory(u, dcgm, source="dcgm", clock=clock) for u in settings.dcgm_url]
    if url := settings.triton_metrics_url:
        found.append(ExporterInventory(url, TRITON, source="triton", clock=clock))
    return tuple(found)


def _dcgm_map(name: str) -> MetricMap:
    if name == "auto":
        return BOTH
    if name in PRESETS:
        return PRESETS[name]
    try:
        return parse_map(Path(name).read_text(encoding="utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"--dcgm-metrics: cannot read {name}: {error}.",
            hint=f"Use auto, {', '.join(PRESETS)} or a file.",
        ) from None


def _device_row(device: Device) -> tuple[str, ...]:
    use = device.use
    busy = use.utilization if use else None
    return (
        device.node,
        device.id,
        " ".join(part for part in (device.product, device.profile) if part),
        _gib(device.memory_mib),
        _gib(use.memory_mib) if use and use.memory_mib is not None else "",
        f"{busy:.0%}" if busy is not None else "",
        f"{use.temperature_c:.0f} C" if use and use.temperature_c is not None else "",
        "ok" if device.healthy else device.reason or "unhealthy",
        device.source,
    )


def _pool_row(pool: Pool) -> tuple[str, ...]:
    units = (str(count) for count in (pool.total, pool.allocatable, pool.free))
    return (
        pool.node, pool.resource, pool.product, pool.profile, _gib(pool.memory_mib), *units
    )  # fmt: skip


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    cells = [tuple(heads), *(tuple(_clean(cell) or "-" for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()


def _clean(text: str) -> str:
    """Return text that a terminal cannot be led astray by: drivers and exporters wrote it."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
