"""The control plane's numbers about rollouts.

Input: the State, and what the journal counted. Output: families by model and region: a model has
one series, of the rollout that goes on or else of its newest, so there are as many as models.
"""

from collections.abc import Iterable
from datetime import datetime

from prometheus_client.core import Metric

from federation.api.families import counter, gauge
from federation.api.rollout_journal import RolloutJournal
from federation.policy.rollouts.records import RolloutRecord
from federation.policy.rollouts.rollout_view import weights
from federation.policy.state import State

Values = dict[tuple[str, ...], float]


def rollout_families(state: State, journal: RolloutJournal, now: datetime) -> Iterable[Metric]:
    """Yield all families."""
    phases: Values = {}
    seconds: Values = {}
    shares: Values = {}
    for model, record in present(state).items():
        phase = record.phase.value
        pause = record.pause.value if record.pause else ""
        phases[model, phase, pause] = 1
        if record.over:
            continue
        seconds[model, phase] = (now - record.since).total_seconds()
        for region, percent in weights(record, state).items():
            shares[model, region] = percent / 100
    told = "1 = the phase of a model's rollout: the one that goes on, else the newest."
    yield gauge("fed_rollout_phase", told, phases, "model", "phase", "pause")
    told = "How long a rollout that goes on has been in its phase."
    yield gauge("fed_rollout_phase_seconds", told, seconds, "model", "phase")
    told = "Share of a region's traffic that was ordered for the canary."
    yield gauge("fed_rollout_weight_ratio", told, shares, "model", "region")
    told = "Transitions of rollouts, by what happened and the phase that it led to."
    transitions: Values = {(*key,): count for key, count in journal.transitions.items()}
    yield counter("fed_rollout_transitions", told, transitions, "event", "phase")
    told = "Verdicts of the analysis, each when it changed."
    verdicts: Values = {(outcome,): count for outcome, count in journal.verdicts.items()}
    yield counter("fed_rollout_verdicts", told, verdicts, "outcome")


def present(state: State) -> dict[str, RolloutRecord]:
    """Return for each model the rollout that people mean: the one that moves, else one that waits,
    else the newest."""
    found: dict[str, RolloutRecord] = {}
    for record in state.rollouts.values():
        other = found.get(record.spec.model)
        if other is None or _rank(record) > _rank(other):
            found[record.spec.model] = record
    return found


def _rank(record: RolloutRecord) -> tuple[bool, bool, datetime, str]:
    return record.moving, not record.over, record.meta.created_at, record.meta.name
