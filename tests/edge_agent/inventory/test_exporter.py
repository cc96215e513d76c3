"""Pages of exporters: good, bad, long, slow, gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from edge_agent.inventory import exporter
from edge_agent.inventory.exporter import ExporterInventory
from edge_agent.policy.metric_maps import BOTH, TRITON
from federation.runtime.clock import ManualClock
from tests.engines.triton import TritonServer

ABOUT = 'gpu="0",UUID="GPU-1",pci_bus_id="00000000:2F:00.0",modelName="NVIDIA L4"'
PAGE = f"""\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{{{ABOUT}}} 50
# HELP DCGM_FI_DEV_XID_ERRORS Value of the last XID error encountered.
# TYPE DCGM_FI_DEV_XID_ERRORS gauge
DCGM_FI_DEV_XID_ERRORS{{{ABOUT}}} XID
# TYPE something_else counter
something_else{{a="b"}} nonsense
"""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[ExporterInventory, ManualClock]]:
    app = web.Application()
    app.router.add_get("/metrics", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    clock = ManualClock()
    url = f"http://{host}:{port}/metrics"
    try:
        yield ExporterInventory(url, BOTH, source="dcgm", clock=clock), clock
    finally:
        await runner.cleanup()


def text(body: str, status: int = 200) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=body, status=status)

    return handle


async def test_a_page_becomes_devices() -> None:
    async with serving(text(PAGE.replace("XID\n", "0\n"))) as (inventory, _):
        capacity = await inventory.read()
        [device] = capacity.devices
        assert (device.id, device.product, device.healthy) == ("GPU-1", "L4", True)
        assert device.use is not None
        assert device.use.utilization == 0.5
        assert inventory.names == {"0000:2f:00.0": "GPU-1"}
        assert (capacity.reason, capacity.age_s) == ("", 0.0)


async def test_health_is_judged() -> None:
    async with serving(text(PAGE.replace("XID\n", "79\n"))) as (inventory, _):
        [device] = (await inventory.read()).devices
        assert not device.healthy
        assert "XID 79" in device.reason


async def test_an_exporter_without_gpus_is_fine() -> None:
    async with serving(text("# TYPE other gauge\nother 1\n")) as (inventory, _):
        capacity = await inventory.read()
        assert (capacity.devices, capacity.reason) == ((), "")


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (text("nothing", status=503), "status 503"),
        (text("<html>a page</html>"), "no Prometheus text"),
        (text("DCGM_FI_DEV_GPU_UTIL{UUID=} x\n"), "shows no metrics"),
        (text('DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1" 5\n'), "shows no metrics"),
        (text('DCGM_FI_DEV_GPU_UTIL{UUID="GPU-1", ="x"} 5\n'), "shows no metrics"),
        (text("#" * 4096), "more than"),
    ],
)
async def test_what_is_no_page_is_told(
    handler: Handler, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "MAX_BYTES", 4000)
    async with serving(handler) as (inventory, _):
        capacity = await inventory.read()
        assert capacity.devices == ()
        assert words in capacity.reason


async def test_an_exporter_that_goes_leaves_its_last_picture_and_then_no_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(text(PAGE.replace("XID\n", "79\n"))) as (inventory, clock):
        await inventory.read()
    clock.advance(10)
    await inventory.read()
    clock.advance(10)
    capacity = await inventory.read()
    assert capacity.devices[0].use is not None
    assert capacity.age_s == 20.0
    assert "cannot be read" in capacity.reason
    clock.advance(20)
    [device] = (await inventory.read()).devices
    assert device.use is None
    assert not device.healthy, "a device does not heal by the exporter's absence"
    assert len(caplog.records) == 1, "told once"


async def test_an_exporter_that_hangs_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "DEADLINE_S", 0.1)

    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(hang) as (inventory, _):
        capacity = await inventory.read()
        assert "did not answer within 0.1 s" in capacity.reason


@pytest.mark.triton
async def test_the_page_of_a_real_triton(triton_server: TritonServer) -> None:
    """Without a GPU its page tells of none; with some, all of them by UUID."""
    clock = ManualClock()
    inventory = ExporterInventory(triton_server.metrics_url, TRITON, source="triton", clock=clock)
    capacity = await inventory.read()
    assert capacity.reason == ""
    assert all(device.id.startswith("GPU-") for device in capacity.devices)
