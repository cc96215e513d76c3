"""The sync side of one edge agent with its real gateway, as a process of its own: on the event loop
that agents use, and with all that an agent imports, for its memory is measured.

Run as `python -m benchmarks.sync.agent CONFIG`. Commands come on stdin, one JSON object a line:
{"peers": [...]}, {"stage": [version, digest]}, {"stats": 1}. Answers go to stdout in the same way.
"""

import asyncio
import cProfile
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from edge_agent.app import SWITCH_S, loop_factory
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.gateway.gateway import PEER_PATHS, Gateway
from edge_agent.gateway.peers import PeerDesk
from edge_agent.sync.build import make_sync_side
from edge_agent.sync.throttle import Throttle
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncPeer, SyncSpec
from federation.contract.types import Assignment
from federation.relay.guard import PeerGuard
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from federation.runtime.memory import read_tls_in_small_blocks, share_one_arena
from federation.trust.credentials import Credentials

MIB = 1 << 20


def say(**told: object) -> None:
    print(json.dumps(told), flush=True)


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def main(config: dict[str, Any]) -> None:
    credentials = Credentials(Path(config["credentials"]))
    side = make_sync_side(
        Path(config["state"]),
        cluster=config["name"],
        url=config["origin"],
        credentials=credentials,
        clock=SystemClock(),
        dice=random.Random(config["name"]),
    )
    side.syncer.assignment_changed(Assignment(cluster=config["name"], generation=1))
    side.syncer.settings_changed(
        SyncSpec(
            max_mbytes_per_second=config["mbytes_per_s"],
            peer_max_mbytes_per_second=config["mbytes_per_s"],
        )
    )
    uplink = Throttle(SyncSpec(peer_max_mbytes_per_second=config["up_mbytes_per_s"])).upload
    guard = PeerGuard(credentials, PeerRole.ROUTER, SystemClock(), paths=PEER_PATHS)
    desk = PeerDesk(side.exchange, side.shelf.peer_view, uplink)
    gateway = Gateway(FakeBackend(FakeEngine()), dict, lambda *_: None)
    runner = make_runner(gateway.application(guard, desk), ServerLimits(shutdown_s=0.1))
    await listen(runner, config["listen"], credentials.server_context())
    base, base_cpu_s = peak_mib(), time.process_time()
    say(ready=True)
    loop, staging = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def stage(version: int, digest: str) -> None:
        began, cpu = time.monotonic(), time.process_time()
        await side.syncer.stage("bench", version, digest)
        say(done=version, took_s=time.monotonic() - began, cpu_s=time.process_time() - cpu)

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        match json.loads(line):
            case {"peers": peers}:
                side.syncer.peers_changed(
                    tuple(SyncPeer(cluster=c, url=u, digests=tuple(d)) for c, u, d in peers)
                )
            case {"stage": [version, digest]}:
                staging.add(loop.create_task(stage(version, digest)))
            case {"stats": _}:
                moved = dict(side.syncer.figures().moved_bytes)
                cpu_s = time.process_time() - base_cpu_s
                say(stats=moved, peak_mib=peak_mib(), base_mib=base, cpu_s=cpu_s)
            case _:
                raise SystemExit(f"what is {line!r}?")
    await side.syncer.close()
    await runner.cleanup()
    desk.close()


def run(config: dict[str, Any]) -> None:
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(config))


if __name__ == "__main__":
    share_one_arena()  # as the agent's app does, and so
    read_tls_in_small_blocks()
    sys.setswitchinterval(SWITCH_S)
    settings = json.loads(Path(sys.argv[1]).read_text())
    if folder := os.environ.get("BENCH_PROFILE"):  # of the event loop's thread, for pstats
        with cProfile.Profile() as profile:
            run(settings)
        profile.dump_stats(Path(folder, settings["name"]))
    else:
        run(settings)
