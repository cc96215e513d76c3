"""What happens to rollouts, counted and told: transitions, verdicts, log lines, spans.

Input: changes from the publisher, and the records behind them. Output: counters for metrics; a span
for each phase that ended, and one for the whole rollout when it is over. Nothing is decided here:
what is missed because of a restart is missing in the counts, and in nothing else.
"""

import logging
from collections import Counter
from collections.abc import Callable

from federation.control_loop import ControlLoop
from federation.policy.analysis.verdict import Outcome
from federation.policy.rollouts.records import Passage, Phase, RolloutRecord
from federation.policy.rollouts.table import TRANSITIONS
from federation.publisher import Change, FellBehind, Publisher
from federation.runtime.otlp import Span, span_id, trace_id

log = logging.getLogger(__name__)

Tell = Callable[[Span], None]


def _nobody(_span: Span) -> None:
    """Spans go nowhere."""


class RolloutJournal:
    """Follows all rollouts. `transitions` are counted by event and the phase that it led to,
    `verdicts` by outcome."""

    def __init__(self, loop: ControlLoop, publisher: Publisher, tell: Tell = _nobody) -> None:
        self._loop = loop
        self._publisher = publisher
        self._tell = tell
        self._known: dict[str, RolloutRecord] = {}
        self.transitions: Counter[tuple[str, str]] = Counter(
            {(turn.value, phase.value): 0 for (_, turn), phase in TRANSITIONS.items() if phase}
        )
        self.verdicts: Counter[str] = Counter({outcome.value: 0 for outcome in Outcome})

    def __repr__(self) -> str:
        return f"RolloutJournal({len(self._known)} rollouts)"

    async def run(self) -> None:
        """Follow until cancelled. What is there at the start is no news."""
        await self._loop.ready()
        if not self._known:
            self._known = dict(self._loop.state.rollouts)
        after = self._look_at_all()
        while True:
            try:
                changes = self._changes_after(after)
            except FellBehind:
                after = self._look_at_all()
                continue
            for name in {change.name for change in changes if change.kind == "Rollout"}:
                self.look(name)
            after = max([after, *(change.revision for change in changes)])
            if not changes:
                await self._publisher.wait_for_changes()

    def _changes_after(self, revision: int) -> list[Change]:
        """Return the changes; raises FellBehind, also for a revision that is yet to come."""
        if revision > self._loop.state.revision:  # the newest state was lost
            raise FellBehind
        return self._publisher.changes_after(revision)

    def _look_at_all(self) -> int:
        """Look at all rollouts; returns the revision that they were looked at."""
        state = self._loop.state
        for name in {*self._known, *state.rollouts}:
            self.look(name)
        return state.revision

    def look(self, name: str) -> None:
        """Tell what is new in a rollout."""
        record = self._loop.state.rollouts.get(name)
        if record is None:
            self._known.pop(name, None)
            return
        known = self._known.get(name)
        self._known[name] = record
        for before, passage in _new_passages(known, record):
            self.transitions[passage.event, passage.now.value] += 1
            log.info(
                "rollout %s: %s",
                name,
                passage.event,
                extra={
                    "rollout": name,
                    "model": record.spec.model,
                    "was": passage.was.value,
                    "now": passage.now.value,
                    "actor": passage.actor,
                    "reason": passage.reason,
                },
            )
            if before is not None:
                self._tell(_phase_span(record, before, passage))
            if record.over and passage is record.history[-1]:
                self._tell(_whole_span(record))
        old = known.verdicts if known else ()
        for verdict in record.verdicts:
            if verdict not in old:
                self.verdicts[verdict.outcome.value] += 1


def _new_passages(
    known: RolloutRecord | None, record: RolloutRecord
) -> list[tuple[Passage | None, Passage]]:
    """Return the passages that were not known, oldest first, each with the one before it."""
    history = record.history
    last = known.history[-1] if known and known.history else None
    start = 0
    if last is not None:
        start = next((n for n in range(len(history), 0, -1) if history[n - 1] == last), 0)
    return [(history[n - 1] if n else None, history[n]) for n in range(start, len(history))]


# ------------------------------------------------------------ spans


def _ids(record: RolloutRecord) -> tuple[str, str]:
    """Return the ids of a rollout's trace and of its root span."""
    key = (record.meta.name, record.meta.created_at.isoformat())
    return trace_id(*key), span_id(*key)


def _phase_span(record: RolloutRecord, before: Passage, passage: Passage) -> Span:
    """Return the span of the phase that a passage ended."""
    trace, root = _ids(record)
    return Span(
        trace=trace,
        id=span_id(trace, before.at.isoformat(), before.event, passage.event),
        parent=root,
        name=f"rollout {passage.was.value}",
        start=before.at,
        end=passage.at,
        attributes={
            "fed.rollout": record.meta.name,
            "fed.rollout.wave": before.wave + 1,
            "fed.rollout.step": before.step + 1,
            "fed.rollout.ended_by": passage.event,
            "fed.rollout.reason": passage.reason,
            "fed.actor": passage.actor,
        },
        error=passage.reason if passage.now is Phase.ROLLING_BACK else "",
    )


def _whole_span(record: RolloutRecord) -> Span:
    trace, root = _ids(record)
    return Span(
        trace=trace,
        id=root,
        parent="",
        name=f"rollout {record.spec.model}",
        start=record.meta.created_at,
        end=record.ended_at or record.since,
        attributes={
            "fed.rollout": record.meta.name,
            "fed.model": record.spec.model,
            "fed.version.stable": record.stable,
            "fed.version.canary": record.canary,
            "fed.rollout.outcome": record.phase.value,
            "fed.rollout.waves": len(record.waves),
            "fed.actor": record.started_by,
        },
        error="" if record.phase is Phase.PROMOTED else record.reason or record.phase.value,
    )
