"""The bridge's pages."""

from pathlib import Path
from typing import Any

import aiohttp

from tests.federation.bridge.rig import DEPLOYMENT, rig, until


async def fetch(address: str, path: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}") as response,
    ):
        text = await response.text()
        return response.status, text if path == "/metrics" else await response.json()


async def test_the_pages_tell_how_it_is(tmp_path: Path) -> None:
    async with rig(tmp_path) as its:
        await its.prepare("m")
        async with its.bridge():
            await its.apply(DEPLOYMENT, "d", model="m")
            await its.apply(DEPLOYMENT, "e", model="unknown")
            await its.told(DEPLOYMENT, "d", "Applied")
            await its.told(DEPLOYMENT, "e", "Refused")
            assert await fetch(its.admin, "/healthz") == (200, {"status": "ok"})
            assert await fetch(its.admin, "/readyz") == (200, {"ready": True, "reasons": []})
            status, page = await fetch(its.admin, "/metrics")
            assert status == 200
            for line in (
                'fed_bridge_objects{kind="ModelDeployment",synced="True"} 1.0',
                'fed_bridge_objects{kind="ModelDeployment",synced="False"} 1.0',
                'fed_bridge_calls_total{outcome="unknown-model",to="control-plane"}',
                'fed_bridge_calls_total{outcome="ok",to="kubernetes"}',
                "fed_bridge_control_plane_reached 1.0",
                "fed_bridge_kubernetes_age_seconds",
                'fed_bridge_task_restarts_total{task="reconciler"} 0.0',
            ):
                assert line in page


async def test_who_reaches_nobody_is_not_ready(tmp_path: Path) -> None:
    async with rig(tmp_path) as its, its.bridge(endpoint="https://127.0.0.1:9"):
        await until(lambda: its.fake.watches)
        status, body = await fetch(its.admin, "/readyz")
        assert status == 503
        assert any("control plane" in reason or "asked" in reason for reason in body["reasons"])
