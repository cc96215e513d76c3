from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract import codec_rollout as codec
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

words = st.text(max_size=8)
numbers = st.integers(0, 2**63)
columns = st.one_of(
    st.just(()), st.lists(numbers, min_size=USER_BUCKETS, max_size=USER_BUCKETS).map(tuple)
)
bounds = st.floats(0.001, 1e9)
canaries = st.builds(
    CanaryRoute,
    rollout=words,
    version=numbers,
    weights=st.dictionaries(words, st.floats(0.01, 100), max_size=3),
    slow=st.dictionaries(
        words, st.builds(SlowAbove, stable_ms=bounds, canary_ms=bounds), max_size=3
    ),
    shadow_percent=st.floats(0, 100),
)
counts = st.builds(
    VersionCounts,
    model=words,
    version=numbers,
    region=words,
    requests=columns,
    errors=columns,
    refused=columns,
    slow=columns,
    latency=st.dictionaries(st.integers(-320, 480), numbers, max_size=5),
    compared=st.just(9),
    disagreed=st.integers(0, 9),
    undrawn=columns,
    diverted=columns,
)
goldens = st.builds(GoldenResult, inputs=st.just(9), wrong=st.integers(0, 9), words=words)


def _over_the_wire(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


@given(canaries, st.lists(counts, max_size=3).map(tuple), goldens)
def test_everything_comes_back_as_it_went(
    canary: CanaryRoute, seen: tuple[VersionCounts, ...], golden: GoldenResult
) -> None:
    assert codec.canary_from_proto(_over_the_wire(codec.canary_to_proto(canary))) == canary
    assert codec.counts_from_proto(_over_the_wire(codec.counts_to_proto(7, seen))) == seen
    assert codec.golden_from_proto(_over_the_wire(codec.golden_to_proto(golden))) == golden


def test_what_is_absent_stays_absent() -> None:
    assert codec.canary_to_proto(None) is None
    assert codec.golden_to_proto(None) is None
    assert codec.losses_to_proto(None) is None


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (pb.VersionCounts(requests=[1, 2]), "32 user buckets, not 2"),
        (pb.VersionCounts(diverted=[1]), "32 user buckets, not 1"),
        (pb.VersionCounts(latency_index=[1], latency_count=[]), "have 0 counts"),
        (pb.VersionCounts(latency_index=[10_000], latency_count=[1]), "out of range"),
    ],
)
def test_counts_that_make_no_sense_are_refused(message: pb.VersionCounts, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        codec.counts_from_proto(pb.Counts(versions=[message]))


def test_more_counts_than_one_router_can_have_are_refused() -> None:
    many = pb.Counts(versions=[pb.VersionCounts()] * (codec.MAX_COUNTED + 1))
    with pytest.raises(Invalid, match="at most"):
        codec.counts_from_proto(many)


def test_more_wrong_than_there_are_is_bounded() -> None:
    told = codec.golden_from_proto(pb.GoldenResult(inputs=2, wrong=5, words="x" * 999))
    assert (told.wrong, len(told.words)) == (2, codec.MAX_WORDS)


def test_losses_come_back_as_they_went_with_bounded_words() -> None:
    losses = Losses(times=3, words="the engine was lost")
    assert codec.losses_from_proto(_over_the_wire(codec.losses_to_proto(losses))) == losses
    assert len(codec.losses_from_proto(pb.Losses(words="x" * 999)).words) == codec.MAX_WORDS


def test_a_router_of_before_the_draw_was_told_drew_everything_and_diverted_nothing() -> None:
    """An older message has neither column; its bytes say the same as empty ones."""
    (seen,) = codec.counts_from_proto(pb.Counts(versions=[pb.VersionCounts(model="m")]))
    assert (seen.undrawn, seen.diverted) == ((), ())
