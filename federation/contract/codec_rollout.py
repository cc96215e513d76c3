"""Rollouts on the wire; a part of `federation.contract.codec`.

Input: canaries for routers, counts of routers, golden results of agents. Output: their messages,
and back. Counts are bounded where they come in: what a peer says wrongly must not grow without end.
"""

from collections.abc import Iterable, Sequence

from federation.contract.errors import Invalid
from federation.contract.rollout import (
    USER_BUCKETS,
    CanaryRoute,
    GoldenResult,
    Losses,
    SlowAbove,
    VersionCounts,
)
from federation.contract.v1 import federation_pb2 as pb

MAX_COUNTED = 20_000  # versions by region in one message
MAX_WORDS = 256
_MAX_INDEX = 480  # 2^30 ms; no answer takes longer
_MIN_INDEX = -320  # a nanosecond


def canary_to_proto(canary: CanaryRoute | None) -> pb.CanaryRoute | None:
    """Encode a canary; None stays absent."""
    if canary is None:
        return None
    shares = []
    for region in sorted(canary.weights.keys() | canary.slow.keys()):
        slow = canary.slow.get(region, SlowAbove(stable_ms=0.0, canary_ms=0.0))
        shares.append(
            pb.CanaryShare(
                region=region,
                percent=canary.weights.get(region, 0.0),
                slow_stable_ms=slow.stable_ms,
                slow_canary_ms=slow.canary_ms,
            )
        )
    return pb.CanaryRoute(
        rollout=canary.rollout,
        version=canary.version,
        shares=shares,
        shadow_percent=canary.shadow_percent,
    )


def canary_from_proto(message: pb.CanaryRoute) -> CanaryRoute:
    """Decode a canary."""
    return CanaryRoute(
        rollout=message.rollout,
        version=message.version,
        weights={s.region: s.percent for s in message.shares if s.percent},
        slow={
            s.region: SlowAbove(stable_ms=s.slow_stable_ms, canary_ms=s.slow_canary_ms)
            for s in message.shares
            if s.slow_stable_ms and s.slow_canary_ms
        },
        shadow_percent=message.shadow_percent,
    )


def counts_to_proto(sequence: int, counts: Iterable[VersionCounts]) -> pb.Counts:
    """Encode what a router counted."""
    return pb.Counts(
        sequence=sequence,
        versions=[
            pb.VersionCounts(
                model=c.model,
                version=c.version,
                region=c.region,
                requests=c.requests,
                errors=c.errors,
                refused=c.refused,
                slow=c.slow,
                latency_index=list(c.latency),
                latency_count=list(c.latency.values()),
                compared=c.compared,
                disagreed=c.disagreed,
                undrawn=c.undrawn,
                diverted=c.diverted,
            )
            for c in counts
        ],
    )


def counts_from_proto(message: pb.Counts) -> tuple[VersionCounts, ...]:
    """Decode what a router counted; raises Invalid if it cannot be."""
    if len(message.versions) > MAX_COUNTED:
        raise Invalid(f"a router counts {len(message.versions)} versions; {MAX_COUNTED} at most.")
    return tuple(
        VersionCounts(
            model=c.model,
            version=c.version,
            region=c.region,
            requests=_buckets(c.requests),
            errors=_buckets(c.errors),
            refused=_buckets(c.refused),
            slow=_buckets(c.slow),
            latency=_latency(c.latency_index, c.latency_count),
            compared=c.compared,
            disagreed=min(c.disagreed, c.compared),
            undrawn=_buckets(c.undrawn),
            diverted=_buckets(c.diverted),
        )
        for c in message.versions
    )


def _buckets(column: Sequence[int]) -> tuple[int, ...]:
    if len(column) not in (0, USER_BUCKETS):
        raise Invalid(f"counts come in {USER_BUCKETS} user buckets, not {len(column)}.")
    return tuple(column)


def _latency(indexes: Sequence[int], counts: Sequence[int]) -> dict[int, int]:
    if len(indexes) != len(counts):
        raise Invalid(f"{len(indexes)} latency buckets have {len(counts)} counts.")
    if any(not _MIN_INDEX <= index <= _MAX_INDEX for index in indexes):
        raise Invalid("a latency bucket is out of range.")
    return dict(zip(indexes, counts, strict=True))


def golden_to_proto(golden: GoldenResult | None) -> pb.GoldenResult | None:
    """Encode how the golden inputs were answered; None stays absent."""
    if golden is None:
        return None
    return pb.GoldenResult(inputs=golden.inputs, wrong=golden.wrong, words=golden.words)


def golden_from_proto(message: pb.GoldenResult) -> GoldenResult:
    """Decode how the golden inputs were answered."""
    return GoldenResult(
        inputs=message.inputs,
        wrong=min(message.wrong, message.inputs),
        words=message.words[:MAX_WORDS],
    )


def losses_to_proto(losses: Losses | None) -> pb.Losses | None:
    """Encode how often a version was lost; None stays absent."""
    return None if losses is None else pb.Losses(times=losses.times, words=losses.words)


def losses_from_proto(message: pb.Losses) -> Losses:
    """Decode how often a version was lost."""
    return Losses(times=message.times, words=message.words[:MAX_WORDS])
