"""The table: every phase is reached, left unless it is over, and every other event refused."""

from dataclasses import replace

import pytest

from federation.contract.errors import InvalidTransition
from federation.policy.rollouts.records import Pause, Phase, RolloutRecord
from federation.policy.rollouts.table import (
    HISTORY,
    RESUMES,
    TRANSITIONS,
    Turn,
    allows,
    first,
    story,
    taken,
)
from tests.federation.policy.rollouts.rollout_world import RolloutWorld
from tests.federation.policy.world import START

OVER = {Phase.PROMOTED, Phase.ROLLED_BACK, Phase.FAILED}


@pytest.fixture(scope="module")
def record() -> RolloutRecord:
    return RolloutWorld().begin().start()


def test_every_phase_is_reached_and_left_unless_it_is_over() -> None:
    assert set(TRANSITIONS.values()) == {*Phase, None}
    assert {phase for phase, _ in TRANSITIONS if phase} == set(Phase)
    over = {phase for (phase, _), target in TRANSITIONS.items() if target is None}
    assert over == OVER


def test_a_new_one_begins_or_is_refused(record: RolloutRecord) -> None:
    for turn in (Turn.ACCEPTED, Turn.REFUSED):
        made = first(record, turn, START, "ada")
        assert made.phase is TRANSITIONS[None, turn]
        assert made.over == (made.ended_at is not None)


def test_every_turn_is_taken_somewhere() -> None:
    assert {turn for _, turn in TRANSITIONS} == set(Turn)


@pytest.mark.parametrize("phase", Phase)
def test_every_event_is_either_in_the_table_or_refused(record: RolloutRecord, phase: Phase) -> None:
    here = replace(record, phase=phase)
    for turn in Turn:
        if turn is Turn.FORGOTTEN:
            assert allows(here, turn) == here.over
        elif allows(here, turn):
            assert taken(here, turn, START, "ada").phase is TRANSITIONS[phase, turn]
        else:
            with pytest.raises(InvalidTransition, match="pending -accepted-> pending"):
                taken(here, turn, START, "ada")


@pytest.mark.parametrize("phase", sorted(set(Phase) - OVER - {Phase.PENDING, Phase.ROLLING_BACK}))
def test_what_fails_or_is_aborted_goes_back_from_everywhere(
    record: RolloutRecord, phase: Phase
) -> None:
    for turn in (Turn.ABORTED, Turn.JUDGED_BAD, Turn.SUPERSEDED):
        assert taken(replace(record, phase=phase), turn, START, "ada").phase is Phase.ROLLING_BACK


def test_a_pause_is_forgotten_when_it_goes_on(record: RolloutRecord) -> None:
    here = replace(record, phase=Phase.BAKING)
    held = taken(here, Turn.HELD, START, "x", pause=Pause.GATE, resume_to=Phase.BAKING)
    assert held.pause is Pause.GATE
    assert RESUMES[Phase.BAKING] is Turn.RESUMED_BAKING
    on = taken(held, Turn.RESUMED_BAKING, START, "x")
    assert (on.phase, on.pause, on.resume_to) == (Phase.BAKING, None, None)


def test_the_history_keeps_its_beginning_and_its_end(record: RolloutRecord) -> None:
    here = replace(record, phase=Phase.PAUSED)
    for number in range(HISTORY + 5):
        here = taken(here, Turn.PAUSED, START, "ada", f"{number}")
    assert len(here.history) == HISTORY
    assert here.history[0].event == "accepted"
    assert story(here)[-1] == f"paused -paused-> paused ({HISTORY + 4})"
