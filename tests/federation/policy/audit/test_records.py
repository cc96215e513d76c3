from dataclasses import FrozenInstanceError

import pytest

from federation.policy.audit.records import START, AuditOutcome, Head


def test_the_chain_starts_with_zeros() -> None:
    assert Head(id=0, hash=64 * "0") == START


def test_a_head_is_not_changed_but_replaced() -> None:
    with pytest.raises(FrozenInstanceError):
        START.id = 1  # type: ignore[misc]


def test_the_two_outcomes_are_the_words_of_the_log() -> None:
    assert [outcome.value for outcome in AuditOutcome] == ["done", "denied"]
