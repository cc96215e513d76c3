"""A router under load for an hour, while its clusters die, come back and move: does anything leak?

    python -m benchmarks.soak --minutes 60 --load 0.7     # needs gcc, Linux, two cores

Input: `--minutes`; `--load`, the share of a core that the router is to use; `--clusters`. Small
requests come from a compiled client which is paused as often as it takes for that share; beside it
streams, clients that leave in the middle of an answer, and ones that never finish their request.
Each few seconds a cluster is killed, stopped for some seconds, started again, leaves the table or
comes back on another port; the router reads each new table (SIGHUP).

Output: a line now and then, and a table in the end. Exit status 1 where a bar is broken: memory
(its proportional share) at the end as after warm-up, +-5 %; tasks, sockets and threads back where
they were before the load; no request in flight at any cluster; no small request failed, since what
breaks under one is tried again elsewhere; no stream cut without a word.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from benchmarks.router.__main__ import await_port, build
from benchmarks.router.loads import write_requests
from benchmarks.router.peers import _snapshot
from federation.contract.types import Snapshot

TICKS = os.sysconf("SC_CLK_TCK")
PORTS = range(9600, 9680)
ROUTER, ADMIN = 9590, 9591
EVENTS, EVERY_MS = 20, 50
SAMPLE_S, TURN_S = 10.0, 0.1
CALM_S = 25.0  # idle connections are closed after 10 s towards clients, and 15 s towards clusters
MEMORY_BAR = 0.05


@dataclass
class Sample:
    """What the router's process takes at a moment."""

    at_s: float
    pss_kib: int
    descriptors: int
    threads: int
    tasks: int
    in_flight: int


@dataclass
class Cluster:
    """An engine in a process of its own."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    until_s: float = 0.0  # when it is well again
    listed: bool = True


@dataclass
class Soak:
    """One run."""

    folder: Path
    args: argparse.Namespace
    dice: random.Random
    router: subprocess.Popen[bytes]
    clusters: list[Cluster]
    ports: Iterator[int]
    version: int = 1
    asked: int = 0
    failed: int = 0
    streams: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("whole", "told", "bad"), 0)
    )
    churned: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    # ------------------------------------------------------------ churn

    def table(self) -> Snapshot:
        """Return what the router is to know now."""
        listed = [c for c in self.clusters if c.listed]
        made = _snapshot([c.port for c in listed])
        names = {f"eu-{i}": c.name for i, c in enumerate(listed)}
        return replace(
            made,
            version=self.version,
            endpoints=tuple(replace(e, cluster=names[e.cluster]) for e in made.endpoints),
            replicas=tuple(replace(r, cluster=names[r.cluster]) for r in made.replicas),
        )

    def publish(self) -> None:
        """Have the router read a new table."""
        self.version += 1
        fresh = self.folder / "table.new"
        fresh.write_bytes(msgspec.json.encode(self.table()))
        fresh.rename(self.folder / "table.json")
        self.router.send_signal(signal.SIGHUP)

    def churn(self, now_s: float) -> None:
        """Do one thing to one cluster; at least half of them are well all the time."""
        for cluster in self.clusters:
            if 0.0 < cluster.until_s <= now_s:
                self.heal(cluster)
        sick = [c for c in self.clusters if c.until_s]
        if len(sick) * 2 >= len(self.clusters) - 1:
            return
        cluster = self.dice.choice([c for c in self.clusters if not c.until_s])
        what = self.dice.choice(("kill", "stop", "leave", "move"))
        self.churned[what] = self.churned.get(what, 0) + 1
        cluster.until_s = now_s + self.dice.uniform(2.0, 8.0)
        match what:
            case "kill":
                cluster.process.kill()
            case "stop":
                cluster.process.send_signal(signal.SIGSTOP)
            case "leave":
                cluster.listed = False
                self.publish()
            case _:
                self.restart(cluster, next(self.ports))
                self.publish()

    def heal(self, cluster: Cluster) -> None:
        """Let a cluster be well again."""
        cluster.until_s = 0.0
        cluster.process.send_signal(signal.SIGCONT)
        if cluster.process.poll() is not None:
            self.restart(cluster, cluster.port)
        if not cluster.listed:
            cluster.listed = True
            self.publish()

    def restart(self, cluster: Cluster, port: int) -> None:
        """Start a cluster's engine anew."""
        cluster.process.kill()
        cluster.process.wait()
        cluster.port, cluster.process = port, engine(self.folder, port)

    # ------------------------------------------------------------ load

    async def small(self, stop: asyncio.Event) -> None:
        """Keep the compiled client running, paused as often as the share of a core demands."""
        command = [str(self.folder / "client"), "closed", str(ROUTER), str(self.args.connections)]
        files = [str(self.folder / "small-new.head"), str(self.folder / "small.body")]
        share, before_s, looked_s = self.args.load, cpu_s(self.router.pid), time.monotonic()
        while not stop.is_set():
            process = await asyncio.create_subprocess_exec(
                *command, "10", *files, stdout=subprocess.PIPE
            )
            ended = asyncio.ensure_future(process.communicate())
            while not ended.done():
                await asyncio.sleep(TURN_S * share)
                if share < 1.0 and not stop.is_set():
                    with contextlib.suppress(ProcessLookupError):
                        process.send_signal(signal.SIGSTOP)
                        await asyncio.sleep(TURN_S * (1.0 - share))
                        process.send_signal(signal.SIGCONT)
                if time.monotonic() - looked_s > 2.0:
                    now_s, used_s = time.monotonic(), cpu_s(self.router.pid)
                    seen = (used_s - before_s) / (now_s - looked_s)
                    share *= min(max(self.args.load / max(seen, 0.01), 0.8), 1.25)
                    share = min(max(share, 0.01), 1.0)
                    before_s, looked_s = used_s, now_s
            told, _ = await ended
            if told:
                counts = json.loads(told)
                self.asked += counts["n"]
                self.failed += counts["errors"]

    async def stream(self, *, leave: bool) -> None:
        """Read a stream to its end, or leave in the middle of it."""
        head = (self.folder / "text.head").read_bytes()
        body = (self.folder / "text.body").read_bytes()
        reader, writer = await asyncio.open_connection("127.0.0.1", ROUTER)
        try:
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            got = b""
            async with asyncio.timeout(90):
                while not got.endswith(b"0\r\n\r\n") and (piece := await reader.read(65536)):
                    got += piece
                    if leave and got.count(b"data:") > EVENTS // 2:
                        return
            if b"[DONE]" in got:
                self.streams["whole"] += 1
            else:
                explicit = b'"error"' in got and (
                    got.endswith(b"0\r\n\r\n") or not got.startswith(b"HTTP/1.1 200")
                )
                self.streams["told" if explicit else "bad"] += 1
        except (OSError, TimeoutError):
            self.streams["bad"] += not leave
        finally:
            writer.transport.abort()

    async def odd_clients(self, stop: asyncio.Event) -> None:
        """Streams, clients that leave, and ones that never finish what they send."""
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(self.stream(leave=self.dice.random() < 0.3))
                if self.dice.random() < 0.2:
                    group.create_task(self.dangle())
                await asyncio.sleep(1 / self.args.streams)

    async def dangle(self) -> None:
        """Send half of a request, and leave or wait to be thrown out."""
        head = (self.folder / "small.head").read_bytes() + b"Content-Length: 1000\r\n\r\n{"
        reader, writer = await asyncio.open_connection("127.0.0.1", ROUTER)
        with contextlib.suppress(OSError, TimeoutError):
            writer.write(head[: self.dice.randrange(1, len(head))])
            async with asyncio.timeout(self.dice.uniform(0.0, 15.0)):
                await reader.read()
        writer.transport.abort()

    # ------------------------------------------------------------ looking

    async def look(self) -> Sample:
        """Take a sample."""
        page, table = await admin("/metrics"), json.loads(await admin("/table"))
        tasks = re.search(r"^fed_router_tasks ([\d.]+)", page, re.MULTILINE)
        folder = Path(f"/proc/{self.router.pid}")
        pss = re.search(r"Pss: +(\d+)", (folder / "smaps_rollup").read_text())
        return Sample(
            at_s=time.monotonic(),
            pss_kib=int(pss[1]) if pss else 0,
            descriptors=len(list((folder / "fd").iterdir())),
            threads=len(list((folder / "task").iterdir())),
            tasks=int(float(tasks[1])) if tasks else -1,
            in_flight=sum(c["in_flight"] for c in table["clusters"].values()),
        )

    async def calm(self, before: Sample) -> Sample:
        """Wait until nothing is left of the load, or for as long as that may take."""
        end_s = time.monotonic() + 3 * CALM_S
        await asyncio.sleep(CALM_S)
        while True:
            now = await self.look()
            same = now.descriptors <= before.descriptors and now.tasks <= before.tasks
            if (same and not now.in_flight) or now.at_s > end_s:
                return now
            await asyncio.sleep(1.0)


async def admin(path: str) -> str:
    """Read a page of the router."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ADMIN)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read()).partition(b"\r\n\r\n")[2].decode()
    finally:
        writer.transport.abort()


def engine(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a cluster's engine."""
    command = [str(folder / "origin"), str(EVENTS), str(EVERY_MS), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    await_port(port, process)
    return process


def kill_all(clusters: list[Cluster]) -> None:
    """End all engines, also those that were started anew."""
    for cluster in clusters:
        cluster.process.kill()
        cluster.process.wait()


def cpu_s(pid: int) -> float:
    """CPU seconds that a process used."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / TICKS


async def run(soak: Soak) -> tuple[Sample, Sample]:
    """Put the router under load and churn; returns samples of before and of when all is over."""
    await asyncio.sleep(3.0)
    before, stop = await soak.look(), asyncio.Event()
    began_s, printed_s = time.monotonic(), 0.0
    end_s = began_s + soak.args.minutes * 60
    used_s, every_s = cpu_s(soak.router.pid), soak.args.churn
    async with asyncio.TaskGroup() as group:
        group.create_task(soak.small(stop))
        group.create_task(soak.odd_clients(stop))
        churned_s = sampled_s = began_s
        while (now_s := time.monotonic()) < end_s:
            assert soak.router.poll() is None, "the router ended"
            if now_s - churned_s > every_s:
                churned_s = now_s
                await asyncio.to_thread(soak.churn, now_s)
            if now_s - sampled_s > SAMPLE_S:
                sampled_s = now_s
                soak.samples.append(await soak.look())
                if now_s - printed_s > 60:
                    printed_s = now_s
                    share = (cpu_s(soak.router.pid) - used_s) / (now_s - began_s)
                    print(f"{(now_s - began_s) / 60:5.1f} min, {share:.0%} of a core, "
                          f"{soak.asked} asked, {soak.samples[-1]}", flush=True)  # fmt: skip
            await asyncio.sleep(0.2)
        share = (cpu_s(soak.router.pid) - used_s) / (time.monotonic() - began_s)
        for cluster in soak.clusters:
            soak.heal(cluster)
        stop.set()
    print(f"load: {share:.0%} of a core, {soak.asked} small requests, streams {soak.streams}, "
          f"churn {soak.churned}, {soak.version} tables")  # fmt: skip
    return before, await soak.calm(before)


def judge(soak: Soak, before: Sample, after: Sample) -> bool:
    """Print what was measured against the bars; returns whether all hold."""
    warm_s = soak.samples[0].at_s + max(60.0, 0.1 * soak.args.minutes * 60)
    warm = [one for one in soak.samples if one.at_s >= warm_s]
    size = max(1, len(warm) // 6)
    first, last = (
        statistics.median(s.pss_kib for s in part) for part in (warm[:size], warm[-size:])
    )
    hours = [(one.at_s - warm[0].at_s) / 3600 for one in warm]
    slope = (
        statistics.linear_regression(hours, [one.pss_kib / first for one in warm]).slope
        if len(warm) > 2
        else 0.0
    )
    rows = [
        ("memory, PSS", f"{first / 1024:.1f} MiB", f"{last / 1024:.1f} MiB",
         abs(last / first - 1) <= MEMORY_BAR),
        ("  its slope", "", f"{slope:+.1%} an hour", True),
        ("descriptors", before.descriptors, after.descriptors,
         after.descriptors <= before.descriptors),
        ("threads", before.threads, after.threads, after.threads <= before.threads + 1),
        ("tasks", before.tasks, after.tasks, after.tasks <= before.tasks),
        ("in flight", before.in_flight, after.in_flight, after.in_flight == 0),
        ("failed requests", "", f"{soak.failed} of {soak.asked}", soak.failed == 0),
        ("streams cut silently", "", soak.streams["bad"], soak.streams["bad"] == 0),
    ]  # fmt: skip
    print(f"{'':22}{'before':>14}{'after':>18}")
    for name, was, now, good in rows:
        print(f"{name:22}{was!s:>14}{now!s:>18}  {'' if good else 'BROKEN'}")
    return all(row[-1] for row in rows)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--clusters", type=int, default=6)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--streams", type=float, default=2.0, help="streams begun a second")
    parser.add_argument("--churn", type=float, default=3.0, help="seconds between two changes")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    with tempfile.TemporaryDirectory(prefix="fed-soak-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        build(folder)
        write_requests(folder)
        ports = itertools.cycle(PORTS)
        clusters: list[Cluster] = []
        for i in range(args.clusters):
            port = next(ports)
            clusters.append(Cluster(f"eu-{i}", port, engine(folder, port)))
        stack.callback(kill_all, clusters)
        (folder / "table.json").write_bytes(b"{}")
        soak = Soak(folder, args, random.Random(args.seed), clusters[0].process, clusters, ports)
        (folder / "table.json").write_bytes(msgspec.json.encode(soak.table()))
        command = [sys.executable, "-m", "router", "--table", str(folder / "table.json")]
        command += ["--listen", f"127.0.0.1:{ROUTER}", "--admin-listen", f"127.0.0.1:{ADMIN}"]
        command += ["--max-connections-per-address", "8192", "--log-level", "error"]
        log = stack.enter_context((folder / "router.log").open("wb"))
        soak.router = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(soak.router.kill)
        await_port(ROUTER, soak.router)
        before, after = asyncio.run(run(soak))
        good = judge(soak, before, after)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
