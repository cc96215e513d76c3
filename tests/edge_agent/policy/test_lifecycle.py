"""The table of transitions is complete, and a bad step tells the record's story."""

from collections import defaultdict
from dataclasses import replace

import pytest

from edge_agent.policy.lifecycle import STATES, TRANSITIONS, Record, Step, new_record
from federation.contract.errors import InvalidTransition
from federation.contract.rollout import Losses
from federation.contract.types import VersionState

S = VersionState


def test_every_state_is_described_and_reached_and_left() -> None:
    known = set(S) - {S.UNKNOWN}
    assert set(STATES) == known
    assert {to for to in TRANSITIONS.values() if to} == known
    assert {of for of, _ in TRANSITIONS if of} == known
    assert {step for _, step in TRANSITIONS} == set(Step)


def test_traffic_is_reached_only_through_a_warm_up() -> None:
    into_warmed = {(of, step) for (of, step), to in TRANSITIONS.items() if to is S.WARMED}
    assert into_warmed == {
        (S.LOADED, Step.WARMED),
        (S.WARMED, Step.WARMED),
        (S.WARMED, Step.RESIZED),  # which ends with a warm-up as well
    }


def test_every_state_leads_back_to_service_and_out() -> None:
    edges = defaultdict(set)
    for (of, _), to in TRANSITIONS.items():
        edges[of].add(to)
    for start in STATES:
        reached: set[VersionState | None] = set()
        new: set[VersionState | None] = {start}
        while new:
            reached |= new
            new = {to for of in new for to in edges[of]} - reached
        assert {S.WARMED, S.CACHED} <= reached


def test_a_bad_step_tells_the_story() -> None:
    record: Record | None = new_record(("m", 2), Step.ASSIGNED, "d", None)
    assert record is not None
    record = record.take(Step.STAGED)
    assert record is not None
    with pytest.raises(InvalidTransition) as caught:
        record.take(Step.WARMED)
    assert str(caught.value) == (
        "m@2 is staged and cannot take warmed. Its last transitions: "
        "unknown -assigned-> pending; pending -staged-> staged."
    )


def test_a_version_cannot_begin_in_the_middle() -> None:
    with pytest.raises(InvalidTransition):
        new_record(("m", 1), Step.LOADED, "d", None)


def test_a_dropped_version_is_forgotten_and_its_story_is_bounded() -> None:
    record = new_record(("m", 1), Step.ASSIGNED, "d", None)
    assert record.take(Step.DROPPED) is None
    for _ in range(30):
        again = record.take(Step.REPLACED)
        assert again is not None
        record = again
    assert len(record.story) == 8


def test_losses_are_counted_where_it_served_until_it_is_assigned_anew() -> None:
    warm = Record(model="m", version=1, digest="d", state=S.WARMED)
    lost = warm.take(Step.LOST, reason="the engine does not answer")
    assert lost is not None
    assert lost.losses == Losses(times=1, words="the engine does not answer")
    again = replace(lost, state=S.WARMED, reason="").take(Step.DISPROVED)
    assert again is not None
    assert again.losses == Losses(times=2, words="the engine lost it")
    loaded = replace(again, state=S.LOADED).take(Step.LOST)
    assert loaded is not None
    assert loaded.losses == again.losses  # it did not serve
    told = replace(again, state=S.WARMED).take(Step.RETIRED)
    assert told is not None
    assert told.losses == again.losses  # it was told to
    anew = told.take(Step.ASSIGNED)
    assert anew is not None
    assert anew.losses is None
