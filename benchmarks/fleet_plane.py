"""The control plane of `benchmarks.fleet`, in a process of its own.

Input: a state directory, and where to write a profile. Output: one line of JSON that says where it
listens; then it serves until its standard input ends, and tells what it used.
"""

import argparse
import asyncio
import cProfile
import gc
import json
import sys
import time
from pathlib import Path

from federation.app import control_plane
from federation.control_loop import ControlLoop
from federation.runtime.collector import collect_rarely
from federation.settings import Settings


class Pauses:
    """How long the process stood still to collect garbage, in CPU seconds of its thread."""

    def __init__(self) -> None:
        self.all_s = self.longest_s = self._begun_s = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _info: object) -> None:
        now_s = time.thread_time()
        if phase == "start":
            self._begun_s = now_s
            return
        self.all_s += now_s - self._begun_s
        self.longest_s = max(self.longest_s, now_s - self._begun_s)


class Steps:
    """What batches of events cost the loop's thread: CPU seconds from decision to publication."""

    def __init__(self, loop: ControlLoop) -> None:
        self.each_s: list[float] = []
        decide, publish = loop._decide, loop._publish
        begun = [0.0]

        def first(*words: object) -> object:
            begun[0] = begun[0] or time.thread_time()
            return decide(*words)

        def last(commands: object) -> None:
            publish(commands)
            if begun[0]:
                self.each_s.append(time.thread_time() - begun[0])
                begun[0] = 0.0

        commit = loop._commit
        self.commits_s = [0.0]

        async def timed(commands: object, writer: object) -> None:
            before, begun_s = loop.commits_total, time.monotonic()
            await commit(commands, writer)
            if loop.commits_total > before:
                self.commits_s.append(time.monotonic() - begun_s)

        loop._decide, loop._publish, loop._commit = first, last, timed

    def take(self) -> list[float]:
        taken, self.each_s = self.each_s, []
        return sorted(taken) or [0.0]


async def serve(state_dir: Path) -> None:
    """Serve until standard input ends."""
    pauses = Pauses()
    settings = Settings(
        state_dir=str(state_dir), http_listen="127.0.0.1:0", grpc_listen="127.0.0.1:0"
    )
    async with control_plane(settings) as plane:
        await plane.loop.ready()
        steps = Steps(plane.loop)
        told = {
            "http": plane.http_address,
            "grpc": plane.grpc_address,
            "admin": plane.admin.text,
            "trust_domain": plane.keyring.identity.trust_domain,
            "roots": plane.keyring.credentials.require()[1].bundle,
        }
        print(json.dumps(told), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            each_s = steps.take()
            counts = {
                "gc_s": pauses.all_s,
                "gc_longest_s": pauses.longest_s,
                "commit_p50_s": sorted(steps.commits_s)[len(steps.commits_s) // 2],
                "commit_longest_s": max(steps.commits_s),
                "step_p50_s": each_s[len(each_s) // 2],
                "step_p99_s": each_s[len(each_s) * 99 // 100],
                "step_longest_s": each_s[-1],
                "commits": plane.loop.commits_total,
                "reports": plane.loop.events_total["AgentReported"],
            }
            pauses.longest_s, steps.commits_s = 0.0, [0.0]
            print(json.dumps(counts), flush=True)


def main() -> None:
    """Serve, with a profile if asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("state_dir", type=Path)
    parser.add_argument("--profile", default="")
    asked = parser.parse_args()
    profile = cProfile.Profile() if asked.profile else None
    if profile:
        profile.enable()
    collect_rarely()
    asyncio.run(serve(asked.state_dir))
    if profile:
        profile.disable()
        profile.dump_stats(asked.profile)


if __name__ == "__main__":
    main()
