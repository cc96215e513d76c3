from dataclasses import replace
from datetime import timedelta

from federation.policy.rollouts.records import Phase, going_by_model
from tests.federation.policy.rollouts.test_next_words import AT, RECORD, at


def test_what_has_not_begun_is_queued_and_does_not_move() -> None:
    assert at(Phase.PENDING).queued
    assert at(Phase.PAUSED, resume_to=Phase.PENDING).queued
    assert not at(Phase.PENDING).moving
    assert at(Phase.BAKING).moving
    assert at(Phase.ROLLING_BACK).moving
    for phase in (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.FAILED):
        assert at(phase).over
        assert not at(phase).moving


def test_a_canary_weighs_where_a_wave_has_a_weight() -> None:
    weighed = (replace(RECORD.waves[0], weight=5.0), RECORD.waves[1])
    assert at(Phase.BAKING, waves=weighed).weighs
    assert not at(Phase.STAGING).weighs
    assert not at(Phase.PROMOTED, waves=weighed).weighs
    assert at(Phase.BAKING, waves=weighed).entered == weighed[:1]


def test_what_goes_on_is_known_by_its_model_the_older_first() -> None:
    later = replace(RECORD.meta, created_at=AT + timedelta(seconds=1))
    rollouts = {
        "b": at(Phase.PENDING, meta=later),
        "c": at(Phase.BAKING),
        "d": at(Phase.PROMOTED),
    }
    assert going_by_model(rollouts) == {"m": ("c", "b")}
