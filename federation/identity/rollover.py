"""The phases of the authority's roots: kept on disk, moved on by time, told to those who listen.

Input: the Authority's roots and what `federation.policy.roots` decides. Output: which root signs,
the bundle that everyone shall trust (also as a public file), and calls of `on_change`.

The files of a root are written before its phase, and go after it. So a crash may leave a root
without a phase: the newest one counts as just prepared, an older one had been forgotten. A phase
without files is an error: somebody deleted what others trust.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from federation.contract.errors import Invalid
from federation.identity.authority import Authority
from federation.policy.roots import (
    RootPatience,
    RootPhase,
    RootRecord,
    Roots,
    advanced,
    check_can_prepare,
    due_of,
    in_bundle,
    next_change,
    prepared,
)
from federation.runtime.clock import Clock
from federation.runtime.files import write_atomic

log = logging.getLogger(__name__)

PHASES_FILE = "roots.json"
LONGEST_SLEEP_S = 3600.0  # the machine may have been suspended: look at the calendar again


class _Kept(msgspec.Struct):
    """What stands in the file. `longest_leaf_s` is the longest life of any leaf out there: phases
    and revocations must outlast those that were issued before the setting was lowered, which was
    at `lowered_at`."""

    roots: tuple[RootRecord, ...] = ()
    longest_leaf_s: float = 0.0
    lowered_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RootView:
    """A root as people see it; `until` is when it moves on by itself, `not_after` when its
    certificate ends."""

    name: str
    phase: RootPhase
    pin: str
    since: datetime
    until: datetime | None
    not_after: datetime


class Rollover:
    """Keeps the phases of an authority's roots, in its directory; `bundle_file` is public."""

    def __init__(
        self,
        authority: Authority,
        *,
        directory: Path,
        bundle_file: Path,
        clock: Clock,
        renew_grace: timedelta,
    ) -> None:
        self.on_change: list[Callable[[], None]] = []
        self._authority = authority
        self._path = directory / PHASES_FILE
        self._bundle_file = bundle_file
        self._clock = clock
        self._poked = asyncio.Event()
        kept = self._read()
        longest, self._lowered_at = self._longest(kept)
        self._patience = RootPatience(leaf_life=longest, renew_grace=renew_grace)
        self._roots: Roots = self._reconciled(kept.roots)
        self._roots = advanced(self._roots, clock.utc(), self._patience)
        self._take_over()

    def __repr__(self) -> str:
        phases = ", ".join(f"{r.name}: {r.phase.value}" for r in self._roots)
        return f"Rollover({phases})"

    @property
    def leaf_life(self) -> timedelta:
        """The longest life of any leaf that may be out there."""
        return self._patience.leaf_life

    @property
    def active_pin(self) -> str:
        """The pin of the root that signs: a new peer knows the control plane by it."""
        return self._authority.roots[self._authority.signing].pin

    def bundle(self) -> tuple[str, ...]:
        """Return the roots (PEM) that everyone shall trust, oldest first."""
        roots = self._authority.roots
        return tuple(roots[record.name].pem for record in self._roots if in_bundle(record))

    def views(self) -> tuple[RootView, ...]:
        """Return all roots for people, oldest first."""
        roots = self._authority.roots
        return tuple(
            RootView(
                name=record.name,
                phase=record.phase,
                pin=roots[record.name].pin,
                since=record.since,
                until=due_of(record, self._patience),
                not_after=roots[record.name].certificate.not_valid_after_utc,
            )
            for record in self._roots
        )

    def rotate(self) -> str:
        """Make a new root, tell everyone, return its name; it signs one leaf's life from now.

        Raises Conflict while another one is being prepared.
        """
        check_can_prepare(self._roots)
        name = self._authority.add_root()
        self._change(prepared(self._roots, name, self._clock.utc()))
        log.info("a new root is prepared", extra={"root": name})
        return name

    async def run(self) -> None:
        """Move the roots on as time passes, for ever."""
        while True:
            self._poked.clear()
            self.advance()
            try:
                async with asyncio.timeout(self._until_next_s()):
                    await self._poked.wait()
            except TimeoutError:
                pass

    def advance(self) -> bool:
        """Move on what is due; returns whether there was anything."""
        new = advanced(self._roots, self._clock.utc(), self._patience)
        if new == self._roots:
            return False
        self._change(new)
        log.info("the roots moved on", extra={"roots": repr(self)})
        return True

    def _until_next_s(self) -> float:
        due = next_change(self._roots, self._patience)
        if due is None:
            return LONGEST_SLEEP_S
        wait_s = (due - self._clock.utc()).total_seconds()
        return min(max(wait_s, 0.0), LONGEST_SLEEP_S)

    def _change(self, roots: Roots) -> None:
        self._roots = roots
        self._take_over()
        self._poked.set()
        for tell in self.on_change:
            tell()

    def _take_over(self) -> None:
        """Put phases into force: on disk first, then in the authority."""
        kept = _Kept(
            roots=self._roots,
            longest_leaf_s=self._patience.leaf_life.total_seconds(),
            lowered_at=self._lowered_at,
        )
        write_atomic(self._path, msgspec.json.encode(kept))
        (active,) = (r.name for r in self._roots if r.phase is RootPhase.ACTIVE)
        self._authority.signing = active
        for name in self._authority.roots.keys() - {record.name for record in self._roots}:
            self._authority.remove_root(name)
        write_atomic(self._bundle_file, "".join(self.bundle()).encode())

    def _longest(self, kept: _Kept) -> tuple[timedelta, datetime | None]:
        """Return the longest life to reckon with, and since when newer leaves live shorter."""
        life, now = self._authority.leaf_life, self._clock.utc()
        longest = timedelta(seconds=kept.longest_leaf_s)
        lowered_at = kept.lowered_at or now
        if life >= longest or lowered_at + longest <= now:
            return life, None
        return longest, lowered_at

    def _read(self) -> _Kept:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return _Kept()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(
                f"{self._path} cannot be read: {error}.",
                hint="Restore the directory from its backup.",
            ) from None

    def _reconciled(self, roots: Roots) -> Roots:
        """Return the phases of exactly the roots that have files; raises Invalid."""
        names = self._authority.roots.keys()
        if missing := [record.name for record in roots if record.name not in names]:
            raise Invalid(
                f"the root {missing[0]} has no files in {self._path.parent}.",
                hint="Restore the directory from its backup.",
            )
        newest = max((record.name for record in roots), default="")
        for name in sorted(name for name in names if name > newest):
            phase = RootPhase.PREPARED if roots else RootPhase.ACTIVE
            roots = (*roots, RootRecord(name=name, phase=phase, since=self._clock.utc()))
        if sum(record.phase is RootPhase.ACTIVE for record in roots) != 1:
            raise Invalid(
                f"{self._path} does not name exactly one active root.",
                hint="Restore the directory from its backup.",
            )
        return roots
