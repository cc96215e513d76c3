"""Collecting the store's garbage: when an admin asks, and by itself from time to time.

Input: the state (which versions there are), the store. Output: fewer packs, an entry of the audit
log for each collection, figures for /metrics. One collection runs at a time. What an upload in
progress needs stays for the time of grace (`artifacts.collect`); a push asks for it again hourly.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from federation.api.origin import origin_now
from federation.artifacts.base import ArtifactStore, Collected
from federation.contract.errors import Conflict, FederationError
from federation.control_loop import ControlLoop
from federation.policy.audit.events import StoreCollected
from federation.policy.state import State
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)
GRACE = timedelta(hours=24)
SETTLE = timedelta(hours=1)  # after a start; agents and pushes come back meanwhile
CAREFUL = 0.5  # of the store: more is not removed unasked
ITSELF = "control-plane"


@dataclass(slots=True)
class Figures:
    """Since the start of this process. `held_back` were not done: they would have removed too
    much; `failed` raised an error."""

    done: int = 0
    held_back: int = 0
    failed: int = 0
    freed_bytes: int = 0
    last_at: datetime | None = None


class StoreCare:
    """Collects; `figures` tell what came of it."""

    def __init__(self, loop: ControlLoop, store: ArtifactStore, clock: Clock) -> None:
        self.figures = Figures()
        self._loop = loop
        self._store = store
        self._clock = clock
        self._collecting = asyncio.Lock()

    def __repr__(self) -> str:
        return f"StoreCare({self.figures})"

    async def collect(self, actor: str, *, grace: timedelta, dry_run: bool = False) -> Collected:
        """Remove what no version needs, or tell what would go; raises Conflict if one runs."""
        if self._collecting.locked():
            raise Conflict("garbage is being collected already.", reason="busy")
        async with self._collecting:
            return await self._collect(actor, grace, dry_run=dry_run)

    async def _collect(self, actor: str, grace: timedelta, *, dry_run: bool) -> Collected:
        live = live_manifests(self._loop.state)
        now = self._clock.utc()
        done = await self._store.collect(live, now=now, grace=grace, dry_run=dry_run)
        told = {"by": actor, "dry_run": dry_run, "freed": done.bytes_freed}
        log.info("garbage was collected", extra=told)
        if not dry_run:
            self.figures.done += 1
            self.figures.freed_bytes += max(0, done.bytes_freed)
            self.figures.last_at = now
            await self._loop.submit(
                StoreCollected(
                    actor=actor,
                    freed_bytes=done.bytes_freed,
                    packs=done.packs_removed + done.packs_rewritten,
                    documents=done.documents_removed,
                ),
                origin=origin_now(),
            )
        return done

    async def run(self, every: timedelta) -> None:
        """Collect every so often, until cancelled."""
        await asyncio.sleep(min(every, SETTLE).total_seconds())
        while True:
            await self._loop.ready()
            try:
                await self._by_itself()
            except FederationError as error:
                self.figures.failed += 1
                log.error("garbage was not collected: %s", error.sentence())  # noqa: TRY400  # told, not ours
            await asyncio.sleep(every.total_seconds())

    async def _by_itself(self) -> None:
        """Collect, unless so much would go that somebody should look first: a control plane that
        lost its database knows no version, and would empty the store."""
        would = await self.collect(ITSELF, grace=GRACE, dry_run=True)
        if would.bytes_freed > CAREFUL * would.bytes_before:
            self.figures.held_back += 1
            log.warning(
                "%s of %s bytes in the store are garbage: too much to be removed unasked. Look "
                "with `fed model gc --dry-run`, then run `fed model gc`.",
                would.bytes_freed,
                would.bytes_before,
            )
        elif would.packs_removed or would.packs_rewritten or would.documents_removed:
            await self.collect(ITSELF, grace=GRACE)
        else:
            self.figures.last_at = self._clock.utc()


def live_manifests(state: State) -> frozenset[str]:
    """Return the digests of all versions that there are."""
    return frozenset(v.digest for model in state.models.values() for v in model.versions)
