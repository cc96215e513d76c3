"""Packages reach clusters as real processes do it, through `fed`: while agents and the control
plane are killed, as a change of little, and under a cap.

The agents have no engine: their packages are prefetched, which needs none. FED_TEST_SYNC_MIB is the
size of the package, FED_TEST_SYNC_KILLS how often something is killed.
"""

import asyncio
import json
import os
import random
import re
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.chunking.scan import scan_directory
from tests.e2e.small_federation import SmallFederation, small_federation
from tests.engines.ports import free_block

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

MIB = 1 << 20
SIZE_MIB = int(os.environ.get("FED_TEST_SYNC_MIB", "48"))
KILLS = int(os.environ.get("FED_TEST_SYNC_KILLS", "6"))
CLUSTERS = ("a1", "a2", "a3", "b1")  # in the regions a and b
MODEL_YAML = """\
name: big
runtime: onnx
inputs: [{name: x, datatype: FP32, shape: [-1]}]
outputs: [{name: x, datatype: FP32, shape: [-1]}]
"""


class Sync:
    """A federation of agents that only fetch."""

    def __init__(self, made: SmallFederation, session: aiohttp.ClientSession) -> None:
        self.made, self.session = made, session
        self.dice = random.Random(7)
        self.tensors = [self.dice.randbytes(MIB) for _ in range(SIZE_MIB)]

    async def register(self) -> None:
        made = self.made
        await made.fed("login", made.api, "--state-dir", str(made.state))
        pin = re.search(r"sha256:[0-9a-f]{64}", await made.fed("ca", "get"))
        assert pin is not None
        for region in sorted({name[0] for name in CLUSTERS}):
            await made.fed("region", "create", f"region-{region}", "--location", "53,-6")
        port = free_block(2 * len(CLUSTERS))
        for number, name in enumerate(CLUSTERS):
            token = made.root / f"{name}.token"
            words = ("--region", f"region-{name[0]}", "--token-file", str(token))
            await made.fed("cluster", "register", name, *words)
            gateway = f"127.0.0.1:{port + 2 * number}"
            made.start(
                name,
                "edge_agent",
                {
                    "cluster": name,
                    "state-dir": made.root / name,
                    "control-plane": f"127.0.0.1:{made.ports['grpc']}",
                    "control-plane-url": made.api,
                    "ca-pin": pin[0],
                    "join-token-file": token,
                    "listen": gateway,
                    "advertise-url": f"https://{gateway}",
                    "admin-listen": f"127.0.0.1:{port + 2 * number + 1}",
                    "engine-url": "http://127.0.0.1:9",
                },
            )

    async def push(self, *words: str) -> int:
        """Push the tensors as the next version; return its number."""
        folder = self.made.root / "package"
        folder.mkdir(exist_ok=True)
        (folder / "model.yaml").write_text(MODEL_YAML)
        header: dict[str, Any] = {}
        for number, tensor in enumerate(self.tensors):
            span = [number * MIB, number * MIB + len(tensor)]
            header[f"t{number}"] = {"dtype": "BF16", "shape": [MIB // 2], "data_offsets": span}
        head = json.dumps(header).encode()
        with (folder / "model.onnx").open("wb") as file:
            file.write(b"not looked at")
        with (folder / "weights.safetensors").open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            file.writelines(self.tensors)
        told = await self.made.fed("model", "push", str(folder), *words)
        found = re.search(r"version (\d+)", told)
        assert found is not None, told
        return int(found[1])

    async def rows(self, version: int) -> dict[str, dict[str, Any]]:
        """What `fed get sync` tells of a version, by cluster."""
        told = await self.made.fed("get", "sync", "-o", "json")
        try:
            items = json.loads(told)["items"]
        except ValueError:  # the control plane is down
            return {}
        return {row["cluster"]: row for row in items if row["version"] == version}

    async def arrived(self, version: int, within_s: float) -> dict[str, dict[str, Any]]:
        """Wait until all clusters have a version, verified."""
        rows: dict[str, dict[str, Any]] = {}
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            rows = await self.rows(version)
            if {n for n, row in rows.items() if row["state"] == "verified"} == set(CLUSTERS):
                return rows
            await asyncio.sleep(0.5)
        pytest.fail(f"not there after {within_s} s: {rows}")

    def package_of(self, name: str, version: int) -> Path:
        (found,) = (self.made.root / name / "packages" / "big").glob(f"{version}-????????????????")
        return found

    def kill(self, name: str) -> None:
        process = self.made.processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert isinstance(process.args, list)
        self.made._spawn(name, process.args)

    async def egress(self) -> float:
        """Bytes of packs that the control plane gave away since it started."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with self.session.get(f"{self.made.api}/metrics", ssl=context) as answer:
            page = await answer.text()
        found = re.search(r"^fed_control_plane_pack_bytes_total (\S+)$", page, re.MULTILINE)
        assert found is not None, page
        return float(found[1])


@asynccontextmanager
async def syncing(tmp_path: Path) -> AsyncIterator[Sync]:
    async with (
        small_federation(tmp_path, "engine-secret") as made,
        aiohttp.ClientSession() as session,
    ):
        sync = Sync(made, session)
        await sync.register()
        yield sync


async def test_through_kills_to_all_clusters_then_a_change_costs_what_changed(
    tmp_path: Path,
) -> None:
    async with syncing(tmp_path) as sync:
        first = await sync.push()
        told = await sync.made.fed("prefetch", f"big@{first}")
        victims = [*CLUSTERS, "control-plane"]
        for _ in range(KILLS):
            await asyncio.sleep(sync.dice.uniform(0.2, 1.5))
            sync.kill(sync.dice.choice(victims))
        await sync.arrived(first, 240)
        whole = scan_directory(tmp_path / "package", "big")
        for name in CLUSTERS:
            assert scan_directory(sync.package_of(name, first), "big") == whole, told

        before = await sync.egress()
        changed = SIZE_MIB // 3
        sync.tensors[changed] = sync.dice.randbytes(MIB)
        second = await sync.push()
        await sync.made.fed("prefetch", f"big@{second}")
        rows = await sync.arrived(second, 120)
        manifests_bytes = len(CLUSTERS) * 64 * 1024
        regions = len({name[0] for name in CLUSTERS})
        assert await sync.egress() - before < regions * 1.1 * MIB + MIB + manifests_bytes
        for row in rows.values():
            assert row["reused_bytes"] >= (SIZE_MIB - 2) * MIB
        whole = scan_directory(tmp_path / "package", "big")
        for name in CLUSTERS:
            assert scan_directory(sync.package_of(name, second), "big") == whole


def fine_tuned(tensor: bytes) -> bytes:
    """Return a tensor all over which numbers have changed a little."""
    moved = bytearray(tensor)
    moved[::16] = bytes(byte ^ 1 for byte in moved[::16])
    return bytes(moved)


async def test_a_cap_holds_for_a_cluster_and_can_be_lifted_then_a_weight_delta_comes(
    tmp_path: Path,
) -> None:
    async with syncing(tmp_path) as sync:
        for name in CLUSTERS:
            told = await sync.made.fed("cluster", "sync", name, "--max-mbytes-per-second", "1")
            assert name in told, told
        version = await sync.push()
        before, began_s = await sync.egress(), time.monotonic()
        await sync.made.fed("prefetch", f"big@{version}", "--regions", "region-b")
        await asyncio.sleep(8)
        moved, took_s = await sync.egress() - before, time.monotonic() - began_s
        assert 2e6 < moved < (took_s + 0.5) * 1e6 + 0.5e6
        row = (await sync.rows(version))["b1"]
        assert 0 < row["done_bytes"] < row["total_bytes"]
        assert row["eta_s"] > 0
        await sync.made.fed("cluster", "sync", "b1", "--max-mbytes-per-second", "0")
        async with asyncio.timeout(60):
            while (await sync.rows(version))["b1"]["state"] != "verified":
                await asyncio.sleep(0.5)

        # Differences: b1 has what they lean on, the region a has not.
        for name in CLUSTERS:
            await sync.made.fed("cluster", "sync", name, "--max-mbytes-per-second", "0")
        sync.tensors = [fine_tuned(tensor) for tensor in sync.tensors]
        second = await sync.push("--delta-from", str(version))
        before = await sync.egress()
        await sync.made.fed("prefetch", f"big@{second}")
        rows = await sync.arrived(second, 120)
        assert rows["b1"]["from_origin_bytes"] > 0
        # About 1.2 sizes; if nobody gave anything to anybody, it would be nearly four.
        assert SIZE_MIB * MIB <= await sync.egress() - before < 2.5 * SIZE_MIB * MIB
        whole = scan_directory(tmp_path / "package", "big")
        for name in CLUSTERS:
            assert scan_directory(sync.package_of(name, second), "big") == whole
