"""A process that pushes, drops and collects until it is killed, or uploads and tells its memory.

python -m tests.federation.artifacts.store_child life ROOT SEED | memory ROOT MEGABYTES
"""

import asyncio
import os
import random
import sys
from datetime import timedelta
from pathlib import Path

from federation.artifacts.packs import PackStore
from federation.artifacts.stores import open_objects
from federation.runtime.clock import SystemClock
from tests.federation.artifacts.packing import content, frame, push, put_manifest


async def life(root: str, seed: int) -> None:
    """Print `live DIGEST SEEDS…` once a package is stored, `drop DIGEST` before it may go."""
    dice = random.Random(seed)
    clock = SystemClock()
    store = await PackStore.open(open_objects(root), clock=clock)
    live: list[str] = []
    while True:
        seeds = [dice.randrange(1 << 30) for _ in range(dice.randrange(1, 8))]
        chunks = [content(n, 200_000) for n in seeds]
        half = len(chunks) // 2
        await asyncio.gather(push(store, chunks[:half]), push(store, chunks[half:]))
        live.append(await put_manifest(store, chunks[::2]))
        print("live", live[-1], *seeds[::2], flush=True)
        while len(live) > 4:
            print("drop", live[0], flush=True)
            del live[0]
            await store.collect(live, now=clock.utc(), grace=timedelta())


async def memory(root: str, megabytes: int) -> None:
    """Upload, and print the peak of the resident memory in MB."""
    store = await PackStore.open(open_objects(root), clock=SystemClock())
    upload = store.upload()
    dice = random.Random(1)
    sent = 0
    while sent < megabytes << 20:
        data = os.urandom(dice.choice([100_000, 1 << 20, 4 << 20, 16 << 20]))
        await upload.add(frame(data), data)
        sent += len(data)
    await upload.seal()
    # Not getrusage: its peak is that of the parent as well, until exec.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024, flush=True)


if __name__ == "__main__":
    what, place, number = sys.argv[1:]
    asyncio.run({"life": life, "memory": memory}[what](place, int(number)))
