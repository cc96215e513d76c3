"""Reads every package on the disk again, slowly, one after the other, for bytes that rotted.

Input: the shelf, what the newest assignment wants. Output: a package that is damaged is removed
(`Shelf.verify`), told, and brought again if it is wanted. What an engine has loaded of it serves on
meanwhile. `policy.scrub` says when, and how fast.
"""

import asyncio
import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from edge_agent.policy.eviction import Key
from edge_agent.policy.scrub import LOOK_S, next_due, pause_s
from edge_agent.sync.cancel import Cancel, Cancelled
from edge_agent.sync.shelf import Shelf
from federation.contract.errors import FederationError, Invalid
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)


class Bringer(Protocol):
    """What is used of the Syncer."""

    def wants(self, key: Key) -> bool:
        """Whether a package shall be here."""
        ...

    async def bring_again(self, key: Key) -> None:
        """Bring a package that is gone."""
        ...


@dataclass(slots=True)
class Scrubbed:
    """Since the agent started: bytes that were compared, packages that were found damaged."""

    checked_bytes: int = 0
    damaged: int = 0


class Scrubber:
    """Checks; `done` tells what came of it."""

    def __init__(self, shelf: Shelf, bringer: Bringer, clock: Clock, done: Scrubbed) -> None:
        self._done = done
        self._shelf = shelf
        self._bringer = bringer
        self._clock = clock
        self._gone: set[Key] = set()  # damaged ones that are wanted, and not here again yet

    def __repr__(self) -> str:
        return f"Scrubber({self._done})"

    async def run(self, days: int) -> None:
        """Check each package once in so many days, until cancelled; 0 = never."""
        if not days:
            return
        every = timedelta(days=days)
        while True:
            wait_s = await self.step(every)
            await asyncio.sleep(wait_s)

    async def step(self, every: timedelta) -> float:
        """Check the package that is due, if any; return after how many seconds to go on."""
        await self._bring()
        now = self._clock.utc().timestamp()
        try:
            packages = await asyncio.to_thread(self._shelf.checks)
            due = next_due(packages, now, every.total_seconds())
            if due.key is None:
                return due.wait_s
            await self._check(due.key)
        except FederationError as error:  # the disk fails: that tells nothing about a package
            log.warning("packages cannot be checked: %s", error.sentence())
            return LOOK_S
        return 0.0

    async def _check(self, key: Key) -> None:
        cancel = Cancel()
        try:
            await asyncio.to_thread(self._read, key, cancel)
        except Invalid as error:
            self._done.damaged += 1
            log.error("%s@%d: %s", key[0], key[1], error.message)  # noqa: TRY400  # told, not ours
            self._gone.add(key)
            await self._bring()
        finally:
            cancel.set()

    def _read(self, key: Key, cancel: Cancel) -> None:
        """Hash a package, and keep the time if it is right. In a thread."""
        started_s, done = self._clock.monotonic_s(), 0

        def before(fd: int, offset: int, length: int) -> None:
            nonlocal done
            # From the disk, not from memory; and nobody else's pages have to go for these.
            os.posix_fadvise(fd, 0, offset + length, os.POSIX_FADV_DONTNEED)
            cancel.sleep(pause_s(done, self._clock.monotonic_s() - started_s))
            done += length
            self._done.checked_bytes += length

        try:
            self._shelf.verify(*key, read=before)
        except Cancelled:
            return
        self._shelf.note_check(*key)

    async def _bring(self) -> None:
        """Bring what was damaged; what cannot be had now is tried at the next step."""
        for key in tuple(self._gone):
            try:
                if self._bringer.wants(key):
                    await self._bringer.bring_again(key)
            except FederationError as error:
                log.warning("%s@%d is not here again: %s", key[0], key[1], error.sentence())
            else:
                self._gone.discard(key)
