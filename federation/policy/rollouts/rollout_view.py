"""How a rollout stands, for people: phase, waves with their regions and clusters, what comes next.

Input: a State and a RolloutRecord. Output: the status of its document. What can be done about it is
told with the very command to type.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from federation.contract.types import ObservedVersion, VersionState
from federation.policy.analysis.limits import Metric
from federation.policy.analysis.phrasing import praise
from federation.policy.analysis.phrasing import seen as counted
from federation.policy.analysis.words import percent
from federation.policy.cluster_view import trouble, versions_of
from federation.policy.lookup import version_or_none
from federation.policy.plain import Json, moment
from federation.policy.records import ClusterRecord
from federation.policy.rollouts.next_words import commands, next_words
from federation.policy.rollouts.records import (
    Passage,
    Phase,
    RolloutRecord,
    VerdictRecord,
    WaveRecord,
)
from federation.policy.standing import is_confirmed
from federation.policy.state import State
from federation.policy.sync.staging import READY

MAX_TOLD = 100  # passages that a document tells; the newest


def rollout_status(state: State, record: RolloutRecord, now: datetime) -> Json:
    """Return the status of a rollout's document. Waves and steps count from 1; weights are in
    percent; `next_at` is when it goes on by itself at the earliest."""
    whole = _newest(record.verdicts, "")
    return {
        "phase": record.phase.value,
        "over": record.over,
        "reason": record.reason,
        "pause": record.pause.value if record.pause and record.phase is Phase.PAUSED else None,
        "deployment": record.deployment,
        "stable": record.stable,
        "canary": record.canary,
        "since": moment(record.since),
        "started_by": record.started_by,
        "why": record.why,
        "ended_at": moment(record.ended_at) if record.ended_at else None,
        "wave": min(record.wave + 1, len(record.waves)),
        "of_waves": len(record.waves),
        "step": min(record.step + 1, len(record.spec.strategy.steps)),
        "of_steps": len(record.spec.strategy.steps),
        "weights": weights(record, state),
        "verdict": _verdict(whole) if whole else None,
        "waves": [
            _wave(state, record, index, wave, now) for index, wave in enumerate(record.waves)
        ],
        "next": next_words(record),
        "next_at": moment(at) if (at := next_at(record)) else None,
        "commands": [{"does": does, "command": text} for does, text in commands(record)],
        "history": [_passage(each) for each in record.history[-MAX_TOLD:]],
    }


def weights(record: RolloutRecord, state: State) -> dict[str, float]:
    """Return the canary's ordered share of traffic by region, in percent, where it has any.

    Where waves share a region, it is the largest of theirs.
    """
    if record.over or record.phase is Phase.ROLLING_BACK:
        return {}  # there is but one version that has traffic
    found: dict[str, float] = {}
    for wave in record.waves:
        for region in regions_of(state, wave):
            if wave.weight:
                found[region] = max(wave.weight, found.get(region, 0.0))
    return found


def regions_of(state: State, wave: WaveRecord) -> tuple[str, ...]:
    """Return the regions of a wave: those that it names, and those of its clusters."""
    named = dict.fromkeys(wave.regions)
    for name in wave.clusters:
        if (cluster := state.clusters.get(name)) is not None:
            named.setdefault(cluster.spec.region)
    return tuple(named)


def next_at(record: RolloutRecord) -> datetime | None:
    """Return when a rollout goes on by itself at the earliest; None = nobody knows."""
    if record.phase is Phase.PAUSED:
        return record.frozen_until
    if record.phase is not Phase.BAKING or record.weighed_at is None:
        return None
    return record.weighed_at + timedelta(seconds=record.spec.strategy.bake_s)


# ------------------------------------------------------------ waves


def wave_state(record: RolloutRecord, index: int) -> str:
    """Return how far one wave is, in a word: waiting, next, now, done, back."""
    wave = record.waves[index]
    if record.phase is Phase.PROMOTED:
        return "done"
    if record.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED):
        return "back" if index <= record.wave else "waiting"
    if wave.promoted_at is not None or index < record.wave:
        return "done"
    if index == record.wave:
        return "waiting" if record.phase is Phase.PENDING else "now"
    return "next" if index == record.wave + 1 and record.phase is not Phase.PENDING else "waiting"


def _wave(state: State, record: RolloutRecord, index: int, wave: WaveRecord, now: datetime) -> Json:
    shares, regions = weights(record, state), []
    serves = record.phase not in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED)
    for region in regions_of(state, wave):
        verdict = _newest(record.verdicts, region)
        inside = [
            cluster
            for name in wave.clusters
            if (cluster := state.clusters.get(name)) and cluster.spec.region == region
        ]
        regions.append(
            {
                "region": region,
                "weight": shares.get(region, wave.weight) if serves and wave.weight else 0.0,
                "verdict": _verdict(verdict) if verdict else None,
                "so_far": so_far(state, record, region),
                "clusters": [_cluster(state, record, each, now) for each in inside],
            }
        )
    return {
        "number": index + 1,
        "state": wave_state(record, index),
        "approval": wave.approval,
        "approved_by": wave.approved_by,
        "weight": wave.weight if serves else 0.0,
        "promoted_at": moment(wave.promoted_at) if wave.promoted_at else None,
        "regions": regions,
    }


def so_far(state: State, record: RolloutRecord, region: str) -> str:
    """Return what was counted of both versions in a region since its wave began, in words; "" =
    nothing yet, or not judged now."""
    analysis = state.desk.analyses.get(record.meta.name)
    known = analysis.regions.get(region) if analysis else None
    if known is None or not known.weight or not any(known.tails):
        return ""
    if all(metric in known.evidence for metric in known.limits.metrics):
        return praise(known)
    errors = counted(known, Metric.ERRORS)  # nothing is known yet of the stable version's latency
    shares = f"errors {percent(errors.canary)} against {percent(errors.stable)}"
    return f"{shares}, {errors.counts()}"


def _cluster(state: State, record: RolloutRecord, cluster: ClusterRecord, now: datetime) -> Json:
    seen = _seen(state, cluster, record.spec.model, record.canary)
    progress = seen.sync if seen else None
    size = _size(state, record) or (progress.total_bytes if progress else 0)
    complete = seen is not None and (seen.state in READY or seen.state is VersionState.STAGED)
    done = size if complete else min(progress.done_bytes, size) if progress else 0
    moving = bool(progress and not complete)
    silent = "" if is_confirmed(state, cluster.meta.name) else trouble(state, cluster, now)
    waiting = progress.waiting if progress and not complete else ""
    return {
        "cluster": cluster.meta.name,
        "state": seen.state.value if seen else "",
        "done_bytes": done,
        "total_bytes": size,
        "bytes_per_second": progress.bytes_per_second if progress and moving else 0.0,
        "eta_s": progress.eta_s if progress and moving else 0.0,
        "replicas": seen.replicas if seen else 0,
        "golden": _golden(seen),
        "reason": silent or (seen.reason if seen else "") or waiting,
    }


def _seen(state: State, cluster: ClusterRecord, model: str, version: int) -> ObservedVersion | None:
    return next(
        (v for v in versions_of(state, cluster) if (v.model, v.version) == (model, version)), None
    )


def _size(state: State, record: RolloutRecord) -> int:
    model = state.models.get(record.spec.model)
    version = version_or_none(model, record.canary) if model else None
    return version.size if version else 0


def _golden(seen: ObservedVersion | None) -> Json | None:
    if seen is None or (golden := seen.golden) is None:
        return None
    return {"inputs": golden.inputs, "wrong": golden.wrong, "words": golden.words}


# ------------------------------------------------------------ verdicts and history


def _newest(verdicts: tuple[VerdictRecord, ...], region: str) -> VerdictRecord | None:
    mine: Iterator[VerdictRecord] = (each for each in verdicts if each.region == region)
    return max(mine, key=lambda each: each.at, default=None)


def _verdict(verdict: VerdictRecord) -> Json:
    return {
        "outcome": verdict.outcome.value,
        "words": verdict.words,
        "metric": verdict.metric,
        "at": moment(verdict.at),
    }


def _passage(passage: Passage) -> Json:
    return {
        "at": moment(passage.at),
        "event": passage.event,
        "was": passage.was.value,
        "now": passage.now.value,
        "wave": passage.wave + 1,
        "step": passage.step + 1,
        "actor": passage.actor,
        "reason": passage.reason,
    }
