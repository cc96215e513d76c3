"""From cumulative counters of routers to what happened between two reports.

Input: what a router counted since it started, of both versions in one region, with its boot id and
a sequence. Output: Blocks, each what one router saw between two of its reports. Reports may be
lost, late, doubled or out of order; routers may start again: nothing is counted twice and nothing
is ever negative. A lost report loses nothing, since the next one holds it. What a router saw after
its last report and before it started anew is lost, of both versions alike.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from federation.contract.rollout import USER_BUCKETS, VersionCounts

ZEROS = (0,) * USER_BUCKETS
MAX_ENDED = 8  # runs of a router that are remembered
Column = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a router counted of one version, by user bucket; see `VersionCounts` for the words."""

    requests: Column = ZEROS
    errors: Column = ZEROS
    refused: Column = ZEROS
    slow: Column = ZEROS
    latency: Mapping[int, int] = field(default_factory=dict)
    compared: int = 0
    disagreed: int = 0
    undrawn: Column = ZEROS
    diverted: Column = ZEROS

    @classmethod
    def of(cls, counts: VersionCounts | None) -> "Counts":
        """Return what a router told; None = it has seen nothing of the version."""
        if counts is None:
            return NOTHING
        return cls(
            requests=counts.requests or ZEROS,
            errors=counts.errors or ZEROS,
            refused=counts.refused or ZEROS,
            slow=counts.slow or ZEROS,
            latency=counts.latency,
            compared=counts.compared,
            disagreed=counts.disagreed,
            undrawn=counts.undrawn or ZEROS,
            diverted=counts.diverted or ZEROS,
        )

    def minus(self, old: "Counts") -> "Counts | None":
        """Return what came since `old`; None if something is less than it was."""
        columns = [
            _minus(new, before) for new, before in zip(self._columns(), old._columns(), strict=True)
        ]
        latency = {i: more for i, c in self.latency.items() if (more := c - old.latency.get(i, 0))}
        compared, disagreed = self.compared - old.compared, self.disagreed - old.disagreed
        fell = any(column is None for column in columns) or min(latency.values(), default=0) < 0
        if fell or compared < 0 or disagreed < 0 or old.latency.keys() - self.latency.keys():
            return None
        requests, errors, refused, slow, undrawn, diverted = (c or ZEROS for c in columns)
        return Counts(
            requests=requests,
            errors=errors,
            refused=refused,
            slow=slow,
            latency=latency,
            compared=compared,
            disagreed=disagreed,
            undrawn=undrawn,
            diverted=diverted,
        )

    def _columns(self) -> tuple[Column, ...]:
        draw = self.undrawn, self.diverted
        return self.requests, self.errors, self.refused, self.slow, *draw

    def to_json(self) -> list[Any]:
        """Return the counts as JSON; columns of zeros are empty."""
        columns = [[] if c == ZEROS else list(c) for c in self._columns()]
        latency = [x for pair in sorted(self.latency.items()) for x in pair]
        return [*columns[:4], latency, self.compared, self.disagreed, *columns[4:]]

    @classmethod
    def from_json(cls, state: Sequence[Any]) -> "Counts":
        """Return what `to_json` told of."""
        requests, errors, refused, slow = (tuple(c) or ZEROS for c in state[:4])
        flat, compared, disagreed = state[4:7]
        undrawn, diverted = (tuple(c) or ZEROS for c in state[7:] or ((), ()))
        return cls(
            requests=requests,
            errors=errors,
            refused=refused,
            slow=slow,
            latency=dict(zip(flat[::2], flat[1::2], strict=True)),
            compared=compared,
            disagreed=disagreed,
            undrawn=undrawn,
            diverted=diverted,
        )


NOTHING = Counts()


def _minus(new: Column, old: Column) -> Column | None:
    if new == old:
        return ZEROS
    more = tuple(map(operator.sub, new, old))
    return None if min(more) < 0 else more


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterReport:
    """What a router told at once of one model in one region. `boot` names its run.

    None: it told nothing of the version, so nothing changed since its last report.
    """

    router: str
    boot: str
    sequence: int
    stable: Counts | None = None
    canary: Counts | None = None

    def over(self, older: "RouterReport | None") -> "RouterReport":
        """Return this report with what it does not tell taken from an older one of the same run."""
        if older is None or older.boot != self.boot:
            return self
        stable = older.stable if self.stable is None else self.stable
        canary = older.canary if self.canary is None else self.canary
        return replace(self, stable=stable, canary=canary)


def reports_by_region(
    run: tuple[str, str, int],
    counts: Iterable[VersionCounts],
    versions: tuple[str, int, int],
    regions: Iterable[str],
) -> dict[str, RouterReport]:
    """Return what a router told of a rollout, by region, also where it saw nothing: it is alive.

    `run` is the router's name, its boot id and the sequence; `versions` the model and its stable
    and canary version.
    """
    router, boot, sequence = run
    model, stable, canary = versions
    told = {(c.region, c.version): c for c in counts if c.model == model}

    def of(region: str, version: int) -> Counts | None:
        one = told.get((region, version))
        return None if one is None else Counts.of(one)

    return {
        region: RouterReport(
            router=router,
            boot=boot,
            sequence=sequence,
            stable=of(region, stable),
            canary=of(region, canary),
        )
        for region in regions
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one router saw between `since` and `at`, in seconds."""

    since: float
    at: float
    stable: Counts
    canary: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The last report of a router that was taken in, and when. Kept together with the evidence.

    `ended` are earlier runs of it: what still comes of them is too late.
    """

    at: float
    report: RouterReport
    ended: tuple[str, ...] = ()

    @classmethod
    def after(cls, last: "Tail | None", report: RouterReport, now: float) -> "Tail":
        """Return what is kept once a report was taken in."""
        if last is None:
            return cls(at=now, report=report)
        ended = last.ended
        if last.report.boot != report.boot:
            ended = (*ended, last.report.boot)[-MAX_ENDED:]
        return cls(at=now, report=report.over(last.report), ended=ended)

    def to_json(self) -> list[Any]:
        """Return the tail as JSON."""
        r = self.report
        counts = [None if c is None else c.to_json() for c in (r.stable, r.canary)]
        return [self.at, r.router, r.boot, r.sequence, *counts, list(self.ended)]

    @classmethod
    def from_json(cls, state: Sequence[Any]) -> "Tail":
        """Return what `to_json` told of."""
        at, router, boot, sequence, stable, canary, ended = state
        report = RouterReport(
            router=router,
            boot=boot,
            sequence=sequence,
            stable=None if stable is None else Counts.from_json(stable),
            canary=None if canary is None else Counts.from_json(canary),
        )
        return cls(at=at, report=report, ended=tuple(ended))


def is_news(last: Tail | None, report: RouterReport) -> bool:
    """Is it later than what is known of its router?"""
    if last is None:
        return True
    if last.report.boot == report.boot:
        return report.sequence > last.report.sequence
    return report.boot not in last.ended


def block_of(last: Tail | None, report: RouterReport, now: float) -> Block | None:
    """Return what happened since the last report of a router; None if that cannot be told.

    The first report of a router only says from where to count: its counters may be older than the
    rollout. The first of a new run counts as a whole, since it began after the last report.
    Counters that fell within a run are where to count from, too.
    """
    if last is None:
        return None
    old = last.report
    new, same = report.over(old), old.boot == report.boot
    stable = _since(new.stable, old.stable if same else None)
    canary = _since(new.canary, old.canary if same else None)
    if stable is None or canary is None:
        return None
    return Block(since=last.at, at=now, stable=stable, canary=canary)


def _since(new: Counts | None, old: Counts | None) -> Counts | None:
    if new is None or new is old:
        return NOTHING
    return new if old is None else new.minus(old)
