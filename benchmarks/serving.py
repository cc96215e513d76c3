"""How much a cluster's inference suffers while it fetches a large package.

Input: `--mib`, the size of the package; `--pairs`, how often both halves are measured; `--rate`,
requests a second; `--cap`, the cluster's cap in MB/s (0 = none). Output: p50 and p99 quiet and
while syncing, their ratio for each pair, and the median; the agent's memory before the first
package and at its peak. Everything is real and on this machine: a control plane, a router, an
agent, Triton, and the clients. So they compete for the same cores, which a cluster far from its
control plane does not.

Only the sync itself is measured against quiet, which is half before and half after it: what was
pushed is on the disk before, and `fed`, whose start takes CPU time that no cluster sees, has ended.

Run by `python -m benchmarks.serving`.
"""

import argparse
import asyncio
import compileall
import json
import os
import re
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

import edge_agent
import federation
from federation.demo.triton_install import ensure_triton
from tests.e2e.small_federation import SmallFederation, join, small_federation
from tests.engines.triton import TritonServer

MODEL = b"""\
class Model:
    def __init__(self, directory, parameters):
        pass

    def infer(self, inputs):
        return {"y": inputs["x"] * 2}
"""
SPEC = """\
name: {name}
runtime: {runtime}
inputs: [{{name: x, datatype: FP32, shape: [-1]}}]
outputs: [{{name: y, datatype: FP32, shape: [-1]}}]
"""
ASKED = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 21]}]}


@dataclass
class Load:
    """Requests at a fixed rate, whatever becomes of those before; latency from the due time."""

    url: str
    key: str
    rate: float
    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0

    async def run(self, session: aiohttp.ClientSession, until: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as group:
            due_s = clock()
            while not until.is_set():
                group.create_task(self._one(session, due_s))
                due_s += 1 / self.rate
                await asyncio.sleep(max(0.0, due_s - clock()))

    async def _one(self, session: aiohttp.ClientSession, due_s: float) -> None:
        head = {"authorization": f"Bearer {self.key}"}
        async with session.post(self.url, json=ASKED, headers=head) as answer:
            await answer.read()
            self.failed += answer.status != 200
        self.latencies_s.append(asyncio.get_running_loop().time() - due_s)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def deployed(made: SmallFederation, triton: TritonServer) -> str:
    """Make the federation serve the model `doubler`; return a key for it."""
    root = made.root
    await made.fed("login", made.api, "--state-dir", str(made.state))
    await made.fed("region", "create", "eu", "--location", "53,-6")
    words = ("--region", "eu", "--allow-code", "--token-file", f"{root}/agent.token")
    await made.fed("cluster", "register", "c1", *words)
    await made.fed("router", "register", "r1", "--token-file", f"{root}/router.token")
    await made.fed("tenant", "create", "acme")
    await made.fed("key", "create", "k1", "--tenant", "acme", "--key-file", f"{root}/key")
    pin = re.search(r"sha256:[0-9a-f]{64}", await made.fed("ca", "get"))
    assert pin is not None
    engine = {"engine-url": triton.url, "triton-repository": triton.repository}
    async with aiohttp.ClientSession() as session:
        await join(made, pin[0], session, engine)
    folder = root / "doubler"
    folder.mkdir()
    (folder / "model.py").write_bytes(MODEL)
    (folder / "model.yaml").write_text(SPEC.format(name="doubler", runtime="python"))
    await made.fed("model", "push", str(folder))
    told = await made.fed("deploy", "doubler", "--wait")
    print(told.strip().splitlines()[-1])
    return (root / "key").read_text().strip()


async def pushed(made: SmallFederation, mib: int) -> int:
    """Push a package of random bytes; return its version."""
    folder = made.root / "big"
    folder.mkdir(exist_ok=True)
    (folder / "model.yaml").write_text(SPEC.format(name="big", runtime="onnx"))
    with (folder / "model.onnx").open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    found = re.search(r"version (\d+)", await made.fed("model", "push", str(folder)))
    assert found is not None
    return int(found[1])


async def brought(made: SmallFederation, version: int) -> None:
    """Wait until the cluster has a version that it was told to fetch."""
    packages = made.root / "agent" / "packages" / "big"
    while not list(packages.glob(f"{version}-????????????????")):
        await asyncio.sleep(0.05)


def compile_all() -> None:
    """Have the bytecode on the disk, as an installed agent has: its memory is measured, and the
    compiler takes some that it never gives back."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for package in (edge_agent, federation):
        for folder in package.__path__:
            compileall.compile_dir(folder, quiet=1)


def agent_mib(made: SmallFederation, field: str) -> float:
    """Return a field of the agent's memory from the kernel, in MiB."""
    status = Path(f"/proc/{made.processes['agent'].pid}/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--cap", type=float, default=0.0)
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds before and after")
    asked = parser.parse_args()
    compile_all()
    with tempfile.TemporaryDirectory(prefix="fed-bench-") as folder:
        triton = TritonServer(ensure_triton(), Path(folder) / "triton")
        triton.start()
        try:
            async with small_federation(Path(folder), "unused") as made:
                await compare(made, await deployed(made, triton), asked)
        finally:
            triton.kill()


async def compare(made: SmallFederation, key: str, asked: argparse.Namespace) -> None:
    """Print the table."""
    await made.fed("cluster", "sync", "c1", "--max-mbytes-per-second", str(asked.cap))
    url = f"{made.router}/v2/models/doubler/infer"
    ratios = []
    print(f"{asked.mib} MiB, {asked.rate:g} requests/s, cap {asked.cap:g} MB/s (0 = none)")
    print(f"the agent has {agent_mib(made, 'VmRSS'):.0f} MiB")
    print("pair      p50 ms         p99 ms          ratio of p99   sync s   failed")
    async with aiohttp.ClientSession() as session:
        for pair in range(asked.pairs):
            version = await pushed(made, asked.mib)
            await asyncio.to_thread(os.sync)
            busy, quiet = Load(url, key, asked.rate), Load(url, key, asked.rate)
            await for_a_while(quiet, session, asked.quiet)
            await made.fed("prefetch", f"big@{version}")
            took_s = await while_it_comes(busy, session, made, version)
            await made.fed("prefetch", f"big@{version}", "--remove")
            await for_a_while(quiet, session, asked.quiet)
            ratios.append(busy.percentile(0.99) / quiet.percentile(0.99))
            cells = [
                f"{quiet.percentile(q) * 1e3:6.1f} {busy.percentile(q) * 1e3:6.1f}"
                for q in (0.5, 0.99)
            ]
            told = f"{ratios[-1]:10.2f} {took_s:10.1f} {busy.failed + quiet.failed:6d}"
            print(f"{pair + 1:4d}  {'   '.join(cells)} {told}", flush=True)
    most = agent_mib(made, "VmHWM")
    print(f"the agent had {most:.1f} MiB ({most * 1.048576:.1f} MB) at most")
    print(json.dumps({"median_ratio": round(statistics.median(ratios), 2)}))


async def for_a_while(load: Load, session: aiohttp.ClientSession, seconds: float) -> None:
    """Put a load on the federation for so long."""
    ended = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, ended.set)
    await load.run(session, ended)


async def while_it_comes(
    load: Load, session: aiohttp.ClientSession, made: SmallFederation, version: int
) -> float:
    """Put a load on the federation until the cluster has a version; return seconds."""
    began_s, ended = asyncio.get_running_loop().time(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(session, ended))
        await brought(made, version)
        ended.set()
    return asyncio.get_running_loop().time() - began_s


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


if __name__ == "__main__":
    asyncio.run(main())
