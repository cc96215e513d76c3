"""The two processes of `test_behind_nat.py`, each in a network of its own.

Input: `router` or `site`, a directory with the authority. Output: the router's findings as JSON in
that directory. The site's network has no port that the router's can reach.
"""

import asyncio
import hashlib
import json
import subprocess
import sys
from pathlib import Path

from federation.contract.trust import RouterAddress
from tests.contract.reversed_rig import CHAT, CLUSTER, INFER, Router, Site, joined, until
from tests.pki import make_authority

ROUTER_ADDRESS, SITE_ADDRESS = "10.9.0.1", "10.9.0.2"
ADDRESS_FILE, LISTENING_FILE, FINDINGS_FILE = "address", "listening", "findings.json"
BIG = bytes(range(256)) * 125_000  # 32 MB up, 32 MB down
HEAD = json.dumps({"inputs": [{"name": "x"}]}).encode()
STREAM = {
    "model": "text",
    "messages": [{"role": "user", "content": "one two three four"}],
    "stream": True,
}


async def site(directory: Path) -> None:
    """Serve until stdin ends."""
    one = Site(make_authority(directory))
    await one.start_engine()
    file = directory / ADDRESS_FILE
    await until(file.exists, 20)
    name, address = file.read_text().split()
    await one.dial(RouterAddress(name=name, reverse_address=address))
    await until(lambda: one.stock(name).idle >= 4, 20)
    command = ["ss", "--no-header", "--listening", "--numeric", "--tcp"]
    listening = await asyncio.to_thread(subprocess.check_output, command, text=True)
    (directory / LISTENING_FILE).write_text(listening)
    await asyncio.to_thread(sys.stdin.read)
    await one.stop()
    await one.engine.stop()


async def router(directory: Path) -> None:
    """Ask the site, and another one that is dialled, and tell what they answered."""
    authority = make_authority(directory)
    one = Router(authority)
    await one.start(host=ROUTER_ADDRESS)
    (directory / "new").write_text(f"{one.name} {one.address.reverse_address}")
    (directory / "new").rename(directory / ADDRESS_FILE)
    one.route_to(Site(authority, name=CLUSTER))
    listening = directory / LISTENING_FILE
    await until(lambda: listening.exists() and listening.stat().st_size > 0, 20)
    findings = {"reversed": await ask(one), "reachable": []}
    ports = {int(line.split()[3].rpartition(":")[2]) for line in listening.read_text().splitlines()}
    for port in sorted(ports):
        try:
            _, writer = await asyncio.open_connection(SITE_ADDRESS, port)
        except OSError:
            continue
        writer.close()
        findings["reachable"].append(port)
    await one.stop()
    async with joined(authority, dialled=True) as (_, other):
        findings["dialled"] = await ask(other)
    (directory / FINDINGS_FILE).write_text(json.dumps(findings))


async def ask(one: Router) -> list[object]:
    """Return what a small request, a stream, a big body and a burst are answered."""
    status, body = await one.post(INFER, {"inputs": [{"name": "x", "data": [1]}]})
    found: list[object] = [status, body.decode()]
    status, body = await one.post(CHAT, STREAM)
    found += [status, body.decode()]
    named = {"Inference-Header-Content-Length": str(len(HEAD))}
    status, body = await one.post(INFER, HEAD + BIG, **named)
    found += [status, len(body), hashlib.sha256(body).hexdigest()]
    async with asyncio.TaskGroup() as group:
        burst = [group.create_task(one.infer()) for _ in range(50)]
    return [*found, sorted({task.result() for task in burst})]


if __name__ == "__main__":
    asyncio.run({"site": site, "router": router}[sys.argv[1]](Path(sys.argv[2])))
