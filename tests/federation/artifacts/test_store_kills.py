"""A store whose process is killed at random moments, and the memory that an upload takes.

FED_TEST_KILLS (default 8) and FED_TEST_UPLOAD_MB (default 200) make these longer.
"""

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from federation.artifacts.objects_local import LocalObjects
from federation.artifacts.packs import PackStore
from federation.runtime.clock import ManualClock
from tests.federation.artifacts.packing import content, digest

KILLS = int(os.environ.get("FED_TEST_KILLS", "8"))
UPLOAD_MB = int(os.environ.get("FED_TEST_UPLOAD_MB", "200"))
CHILD = [sys.executable, "-m", "tests.federation.artifacts.store_child"]
REPOSITORY = Path(__file__).resolve().parents[3]


def _life(root: Path, seed: int, live: dict[str, list[int]]) -> None:
    """Let a child live for a moment; note what it said."""
    command = [*CHILD, "life", str(root), str(seed)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.25))
        child.kill()
        for line in (first, *child.stdout):
            if not line.endswith("\n"):
                continue
            what, name, *seeds = line.split()
            if what == "live":
                live[name] = [int(n) for n in seeds]
            else:
                live.pop(name, None)


async def test_a_kill_loses_nothing_that_was_sealed(tmp_path: Path) -> None:
    for seed in range(KILLS):
        live: dict[str, list[int]] = {}
        # Every other life begins where the last one was killed.
        root = tmp_path / str(seed // 2)
        _life(root, seed, live)
        assert live
        clock = ManualClock(datetime.now(UTC) + timedelta(days=2))
        store = await PackStore.open(LocalObjects(root), clock=clock)
        assert await store.verify(list(live)) == []
        # What is left half-done goes; what is live stays.
        await store.collect(list(live), now=clock.utc(), grace=timedelta(hours=1))
        assert list((root / "incoming").iterdir()) == []
        names = {path.name for path in (root / "packs").iterdir()}
        assert names == {n.removesuffix(".index") + end for n in names for end in ("", ".index")}
        for seeds in live.values():
            for n in seeds:
                assert await store.read_chunk(digest(content(n, 200_000))) == content(n, 200_000)


def test_an_upload_takes_little_memory(tmp_path: Path) -> None:
    command = [*CHILD, "memory", str(tmp_path), str(UPLOAD_MB)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=55)
    assert float(done.stdout) <= 150
