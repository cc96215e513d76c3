"""What idle connections of clients cost in memory: ours beside Envoy, HAProxy and nginx.

    python -m benchmarks.router.idle [--connections 5000] [--peers ours,envoy] [--tls]

Each connection asks once and stays. Input: proxies as in `benchmarks.router`; our router has a
table of 1,000 replicas. Output: PSS and RSS (MB, of the proxy and its children) before, with all of
them open, and after they closed; in the end each is asked again: `lost` are those that were gone.
"""

import argparse
import contextlib
import re
import resource
import socket
import ssl
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec

from benchmarks.router.__main__ import (
    ENGINES,
    LOAD_CORE,
    PLAIN_PORT,
    PROXY_CORE,
    await_port,
    build,
    children,
    running,
)
from benchmarks.router.loads import write_certificate, write_requests
from benchmarks.router.peers import PEERS, _snapshot
from federation.contract.types import Endpoint, ModelRoute, Replica, Snapshot

CLUSTERS, MODELS = 10, 100
SETTLES_S = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--peers", default="ours")
    parser.add_argument("--tls", action="store_true")
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="fed-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        build(folder)
        write_requests(folder)
        write_certificate(folder)
        engine = [str(folder / "origin"), "1", "1", *map(str, ENGINES)]
        stack.enter_context(running(engine, LOAD_CORE, folder))
        await_port(ENGINES[0])
        print(f"{args.connections} idle connections, {'TLS 1.3' if args.tls else 'plain'}; MB\n")
        print("| peer | PSS before | with them | KB each | after | RSS before | with them | lost |")
        print("|---|---|---|---|---|---|---|---|")
        for number, peer in enumerate(args.peers.split(",")):
            print(measure(peer, PLAIN_PORT + number, args, folder))


def measure(peer: str, port: int, args: argparse.Namespace, folder: Path) -> str:
    """Return a row of one peer."""
    command = PEERS[peer](port, ENGINES, folder, tls=args.tls)
    if command is None:
        return f"| {peer} | not installed | | | | | | |"
    if peer == "ours":
        (folder / "table.json").write_bytes(msgspec.json.encode(_larger()))
        command += ["--client-idle-ms", "600000"]
    head, body = ((folder / f"small.{kind}").read_bytes() for kind in ("head", "body"))
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with running(command, PROXY_CORE, folder) as process:
        await_port(port, process)
        time.sleep(SETTLES_S)
        for _ in range(100):  # what the first requests bring stays
            with dial(port, tls=args.tls) as one:
                ask(one, request)
        time.sleep(SETTLES_S)
        before = memory(process.pid)
        opened = []
        for _ in range(args.connections):
            opened.append(dial(port, tls=args.tls))
            ask(opened[-1], request)
        time.sleep(SETTLES_S)
        filled = memory(process.pid)
        lost = sum(not ask(one, request) for one in opened)
        for one in opened:
            one.close()
        time.sleep(SETTLES_S)
        after = memory(process.pid)
    each_kb = (filled[0] - before[0]) / args.connections * 1000
    return (
        f"| {peer} | {before[0]:.1f} | {filled[0]:.1f} | {each_kb:.1f} | {after[0]:.1f} "
        f"| {before[1]:.1f} | {filled[1]:.1f} | {lost} |"
    )


def _larger() -> Snapshot:
    """Return the snapshot of the benchmark with 1,000 replicas more, in ten clusters."""
    small = _snapshot(ENGINES)
    names = [f"us-{i}" for i in range(CLUSTERS)]
    models = [f"model-{i}" for i in range(MODELS)]
    endpoints = tuple(
        Endpoint(cluster=name, region="us", url=f"http://127.0.0.1:{ENGINES[i % len(ENGINES)]}")
        for i, name in enumerate(names)
    )
    replicas = tuple(Replica(model=m, version=1, cluster=name) for m in models for name in names)
    return replace(
        small,
        models=small.models + tuple(ModelRoute(name=m, default_version=1) for m in models),
        endpoints=small.endpoints + endpoints,
        replicas=small.replicas + replicas,
    )


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def dial(port: int, *, tls: bool) -> socket.socket:
    """Connect."""
    plain = socket.create_connection(("127.0.0.1", port), 10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _context().wrap_socket(plain) if tls else plain


def ask(one: socket.socket, request: bytes) -> bool:
    """Ask for an answer and read it; return whether it came and was good."""
    got = b""
    with contextlib.suppress(OSError):
        one.sendall(request)
        while (more := one.recv(65536)) or not got:
            got += more
            head, end, body = got.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            if not more or (end and length and len(body) >= int(length[1])):
                break
    return got.startswith(b"HTTP/1.1 200")


def memory(pid: int) -> tuple[float, float]:
    """Return PSS and RSS of a process and its children, in MB."""
    pss = rss = 0
    for one in (pid, *children(pid)):
        text = Path(f"/proc/{one}/smaps_rollup").read_text()
        pss += sum(int(kib) for kib in re.findall(r"^Pss: +(\d+)", text, re.MULTILINE))
        rss += sum(int(kib) for kib in re.findall(r"^Rss: +(\d+)", text, re.MULTILINE))
    return pss * 1024 / 1e6, rss * 1024 / 1e6


if __name__ == "__main__":
    main()
