"""CPU per gRPC call: ours against HAProxy, Envoy and a grpc.aio proxy, in one interleaved run.

    python -m benchmarks.grpc [--rounds 5] [--seconds 3] [--envoy PATH]

CPU is the scheduler's time of the proxy's process, of all its threads, divided by calls. Only
ratios within one run mean anything on a shared machine. `varied`: each call has another
traceparent, so that no two header blocks are equal.
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.engines.ports import free_block

HERE = Path(__file__).parent


def cpu_s(pid: int) -> float:
    """Seconds on a processor, of all threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def await_port(port: int) -> None:
    """Wait until somebody listens there, a minute at most."""
    until_s = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)
        else:
            return


def peers(folder: Path, port: int, behind: int, envoy: str) -> dict[str, list[str]]:
    """The command of each peer, each on a port of its own."""
    module = [sys.executable, "-m", "benchmarks.grpc.wiring"]
    found = {}
    for i, name in enumerate(("router", "gateway", "aio")):
        found[name] = [*module, name, str(port + i), str(behind)]
    for name, at in (("haproxy.cfg", port + 3), ("envoy.yaml", port + 4)):
        text = (HERE / name).read_text().replace("@port@", str(at)).replace("@behind@", str(behind))
        (folder / name).write_text(text)
    if haproxy := shutil.which("haproxy"):
        found["haproxy"] = [haproxy, "-db", "-f", str(folder / "haproxy.cfg")]
    if envoy:
        found["envoy"] = [
            *(envoy, "-c", str(folder / "envoy.yaml"), "--concurrency", "1"),
            *("--disable-hot-restart", "-l", "error"),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--envoy", default=shutil.which("envoy") or "")
    given = parser.parse_args()
    port = free_block(6)
    ports = {"router": 0, "gateway": 1, "aio": 2, "haproxy": 3, "envoy": 4}
    module = [sys.executable, "-m", "benchmarks.grpc.wiring"]
    running: dict[str, subprocess.Popen[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            backend = subprocess.Popen([*module, "backend", str(port + 5)])
            running["backend"] = backend
            for name, command in peers(Path(folder), port, port + 5, given.envoy).items():
                running[name] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            for name in running:
                await_port(port + (5 if name == "backend" else ports[name]))
            rows: dict[tuple[str, str], list[float]] = {}
            latency: dict[tuple[str, str], list[int]] = {}
            for _ in range(given.rounds):
                for load in ("16 1", "16 4", "1 1", "16 1 varied"):
                    for name in ports:
                        if name not in running:
                            continue
                        before = cpu_s(running[name].pid)
                        words = [str(port + ports[name]), *load.split()[:2], str(given.seconds)]
                        done = subprocess.run(
                            [*module, "load", *words, *load.split()[2:]],
                            capture_output=True,
                            check=True,
                        )
                        told = json.loads(done.stdout)
                        used = cpu_s(running[name].pid) - before
                        if told["errors"] or not told["calls"]:
                            print(name, load, told, file=sys.stderr)
                            continue
                        rows.setdefault((load, name), []).append(used / told["calls"] * 1e6)
                        latency.setdefault((load, name), []).append(told["p50_us"])
        finally:
            for process in running.values():
                process.kill()
                process.wait()
    print("| load | peer | CPU us/call, least | median | to Envoy | p50 us, least |")
    print("|---|---|---|---|---|---|")
    for (load, name), values in rows.items():
        to = min(values) / min(rows[load, "envoy"]) if (load, "envoy") in rows else float("nan")
        cells = (min(values), statistics.median(values))
        print(
            f"| {load} | {name} | {cells[0]:.0f} | {cells[1]:.0f} | {to:.2f} "
            f"| {min(latency[load, name])} |"
        )


if __name__ == "__main__":
    main()
