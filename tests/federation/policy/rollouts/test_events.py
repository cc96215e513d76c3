from dataclasses import FrozenInstanceError

import pytest

from federation.contract.rollout import RolloutSpec
from federation.policy.rollouts.events import (
    RolloutApplied,
    RolloutSteered,
    RolloutUndone,
    Verb,
)


def test_verbs_are_the_words_of_the_command_line() -> None:
    assert [verb.value for verb in Verb] == ["pause", "resume", "promote", "approve", "abort"]


def test_without_a_word_nothing_is_hurried_or_named() -> None:
    assert not RolloutSteered(actor="a", name="r", verb=Verb.PROMOTE).full
    assert RolloutUndone(actor="a", model="m").version == 0
    applied = RolloutApplied(actor="a", name="", spec=RolloutSpec(model="m", version=2))
    assert (applied.why, applied.expected) == ("", None)
    with pytest.raises(FrozenInstanceError):
        applied.name = "x"  # type: ignore[misc]
