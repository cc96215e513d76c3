"""Random lives of a store against a model: pushes, cuts, collections, restarts."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from federation.artifacts.objects_local import LocalObjects
from federation.artifacts.packs import PackStore
from federation.contract.errors import NotFound
from federation.runtime.clock import ManualClock
from tests.federation.artifacts.packing import content, digest, frame, push, put_manifest

GRACE = timedelta(hours=24)
CHUNKS = [content(n, 300 + 137 * n) for n in range(16)]
some_chunks = st.lists(st.integers(0, len(CHUNKS) - 1), min_size=1, max_size=8)
Answer = TypeVar("Answer")


class StoreMachine(RuleBasedStateMachine):
    """`relied_on`: chunk to when somebody was last told that it is there; `live`: manifest to its
    chunks. A chunk that is relied on within the grace, or live, must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(datetime.now(UTC))
        self.stamped: set[Path] = set()
        self.relied_on: dict[int, datetime] = {}
        self.live: dict[str, list[int]] = {}
        self.open_store()

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        answer = self.loop.run_until_complete(work)
        for path in self.root.rglob("*"):  # files are as old as the manual clock says
            if path.is_file() and path not in self.stamped:
                self.stamped.add(path)
                os.utime(path, (self.clock.utc().timestamp(),) * 2)
        return answer

    def open_store(self) -> None:
        self.store = self.run(PackStore.open(LocalObjects(self.root), clock=self.clock))

    def teardown(self) -> None:
        self.loop.close()
        shutil.rmtree(self.root)

    def rely_on(self, chunks: list[int]) -> None:
        self.relied_on.update(dict.fromkeys(chunks, self.clock.utc()))

    @rule(chunks=some_chunks)
    def push(self, chunks: list[int]) -> None:
        self.run(push(self.store, [CHUNKS[n] for n in chunks]))
        self.rely_on(chunks)

    @rule(first=some_chunks, second=some_chunks)
    def push_two_at_once(self, first: list[int], second: list[int]) -> None:
        async def both() -> None:
            uploads = [self.store.upload(), self.store.upload()]
            for one, two in zip(first, second, strict=False):
                for upload, n in zip(uploads, (one, two), strict=True):
                    await upload.add(frame(CHUNKS[n]), CHUNKS[n])
            await asyncio.gather(*(upload.seal() for upload in uploads))

        self.run(both())
        count = min(len(first), len(second))
        self.rely_on(first[:count] + second[:count])

    @rule(chunks=some_chunks)
    def killed_before_the_seal(self, chunks: list[int]) -> None:
        async def begin() -> None:
            upload = self.store.upload()
            for n in chunks:
                await upload.add(frame(CHUNKS[n]), CHUNKS[n])

        self.run(begin())
        self.open_store()

    @rule(chunks=some_chunks)
    def register(self, chunks: list[int]) -> None:
        missing = self.run(self.store.missing([digest(CHUNKS[n]) for n in chunks]))
        self.rely_on([n for n, gone in zip(chunks, missing, strict=True) if not gone])
        if not any(missing):
            name = self.run(put_manifest(self.store, [CHUNKS[n] for n in chunks]))
            self.live[name] = chunks

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if self.live:
            del self.live[data.draw(st.sampled_from(sorted(self.live)))]

    @rule(hours=st.floats(0.1, 40))
    def time_passes(self, hours: float) -> None:
        self.clock.advance(hours * 3600)

    @rule()
    def collect(self) -> None:
        now = self.clock.utc()
        planned = self.run(self.store.collect(list(self.live), now=now, grace=GRACE, dry_run=True))
        assert self.run(self.store.collect(list(self.live), now=now, grace=GRACE)) == planned

    @rule()
    def restart(self) -> None:
        self.open_store()

    @rule()
    def verify(self) -> None:
        assert self.run(self.store.verify(list(self.live))) == []

    @invariant()
    def what_must_be_there_is_there(self) -> None:
        must = {n for chunks in self.live.values() for n in chunks}
        now = self.clock.utc()
        must |= {n for n, moment in self.relied_on.items() if now - moment < GRACE}
        for n, data in enumerate(CHUNKS):
            try:
                assert self.run(self.store.read_chunk(digest(data))) == data
            except NotFound:
                assert n not in must


StoreMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestStoreMachine = StoreMachine.TestCase


async def test_at_last_nothing_is_left_but_what_is_live(tmp_path: Path) -> None:
    clock = ManualClock(datetime.now(UTC))
    store = await PackStore.open(LocalObjects(tmp_path), clock=clock)
    names = []
    for n in range(0, 16, 2):
        await push(store, CHUNKS[n : n + 5])
        names.append(await put_manifest(store, CHUNKS[n : n + 2]))
    for _ in range(3):
        clock.advance(48 * 3600)
        await store.collect(names[::3], now=clock.utc(), grace=GRACE)
    live = [data for n in range(0, 16, 6) for data in CHUNKS[n : n + 2]]
    packs = [p.stat().st_size for p in (tmp_path / "packs").iterdir() if not p.suffix]
    assert sum(packs) < 2 * sum(map(len, live))
    assert await store.verify(names[::3]) == []
