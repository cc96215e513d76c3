"""What became of the last requests: one record each, by request id, in bounded memory.

Input: requests that are over, from the data path, as plain tuples: a record is kept for every
request and read for nearly none. Output: a document for whoever asks for a request id. The client's
address in it leaves the router only in such an answer.
"""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, timedelta
from itertools import islice
from typing import Any, NamedTuple

from federation.contract.errors import NotFound
from federation.runtime.clock import Clock
from router.policy.decision import Reason
from router.policy.hedging import Hedged, Outcome
from router.policy.retry import Failed
from router.policy.shortlist import Option
from router.policy.table import Resolved

Document = dict[str, object]
Who = tuple[str, tuple[str, ...], str]  # the peer, its X-Forwarded-For, its tenant
Scored = Sequence[tuple[float, Option]]
KEPT = 4096  # about a kilobyte each
_SHOWN = 8  # of those with one id, which clients may use as often as they like
_WORDS = {
    Reason.ONLY: "it was the only one",
    Reason.NEAREST: "it was near the least expected time, and the nearest",
    Reason.SPILLED: "a nearer one would have taken longer",
    Reason.AFFINITY: "it had seen the session or the prefix before",
    Reason.PANIC: "too few were healthy to believe it",
    Reason.DESPERATE: "all that was left had a reason to be avoided",
    Reason.FULL: "everything was full",
    Reason.NONE: "none could be had",
}
_HEDGED = {
    Outcome.WON: "it answered first",
    Outcome.LOST: "it was slower",
    Outcome.BOTH_FAILED: "both failed",
    Outcome.LEFT: "the client left before either answered",
}


class Record(NamedTuple):
    """One request that is over; `scored` are those that its last choice was made among, `failed`
    what happened to the attempts before, `hedged` the second cluster that was asked meanwhile."""

    request_id: str
    ended_s: float  # on the router's monotonic clock, like `started_s`
    started_s: float
    who: Who
    resolved: Resolved | None
    chosen: Option | None
    reason: Reason | None
    scored: Scored
    status: int
    failed: Sequence[Failed]
    hedged: Hedged | None = None


class Records:
    """The last requests of one router."""

    __slots__ = ("_kept", "keep", "most")

    def __init__(self, most: int = KEPT) -> None:
        self.most = most
        self._kept: deque[tuple[Any, ...]] = deque(maxlen=most)
        self.keep = self._kept.append  # the fields of a Record, in their order

    def __repr__(self) -> str:
        return f"Records({len(self)} of {self.most})"

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, request_id: str) -> list[Record]:
        """Return the newest records of a request id, the newest first."""
        found = (Record(*fields) for fields in reversed(self._kept) if fields[0] == request_id)
        return list(islice(found, _SHOWN))

    def tell(self, request_id: str, router: str, clock: Clock) -> Document:
        """Return what became of a request; raises NotFound if it is not known (any more)."""
        found = self.of(request_id)
        if not found:
            raise NotFound(
                f"Router {router!r} remembers no request {request_id[:128]!r}.",
                hint=f"It remembers the last {self.most} that are over (--decision-records).",
                reason="unknown-request",
            )
        return {
            "router": router,
            "request_id": request_id,
            "records": [_document(record, clock) for record in found],
            "why": why(found[0]),
        }


def why(record: Record) -> str:
    """Return one sentence on what became of a request."""
    story = "".join(f"{f.cluster} failed ({f.reason}). " for f in record.failed)
    if record.hedged is not None:
        story += _hedge(record.hedged)
    took = f"{record.status} after {(record.ended_s - record.started_s) * 1000:.1f} ms"
    if record.chosen is None:
        return f"{story}No cluster was asked: {_because(record)}; answered {took}."
    return f"{story}{record.chosen.cluster} was chosen: {_because(record)}; answered {took}."


def _hedge(hedged: Hedged) -> str:
    return (
        f"{hedged.first} had not answered after {hedged.after_s * 1000:.1f} ms, so {hedged.second} "
        f"was asked too: {_HEDGED[hedged.outcome]}. "
    )


def _because(record: Record) -> str:
    return _WORDS[record.reason] if record.reason is not None else "it came to no choice"


def _document(record: Record, clock: Clock) -> Document:
    ago_s = max(clock.monotonic_s() - record.ended_s, 0.0)
    ended = clock.utc().astimezone(UTC) - timedelta(seconds=ago_s)
    chosen, resolved = record.chosen, record.resolved
    return {
        "ended_at": ended.isoformat(timespec="milliseconds"),
        "client": record.who[0],
        "forwarded_for": record.who[1],
        "tenant": record.who[2],
        "model": resolved.route.name if resolved else None,
        "version": resolved.version if resolved else None,
        "chosen": chosen.cluster if chosen else None,
        "region": chosen.region if chosen else None,
        "reason": record.reason,
        "scores": [
            {"cluster": option.cluster, "region": option.region, "score_ms": round(score, 1)}
            for score, option in sorted(record.scored, key=lambda pair: pair[0])
        ],
        "failed": [{"cluster": f.cluster, "reason": f.reason} for f in record.failed],
        "hedged": _hedged(record.hedged),
        "status": record.status,
        "took_ms": round((record.ended_s - record.started_s) * 1000, 1),
        "why": why(record),
    }


def _hedged(hedged: Hedged | None) -> Document | None:
    if hedged is None:
        return None
    return {
        "first": hedged.first,
        "second": hedged.second,
        "after_ms": round(hedged.after_s * 1000, 1),
        "outcome": hedged.outcome,
    }
