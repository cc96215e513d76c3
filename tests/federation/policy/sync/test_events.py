from typing import get_args

from federation.policy import events
from federation.policy.decide import HANDLERS
from federation.policy.sync.events import PrefetchApplied


def test_it_is_an_event_that_somebody_handles() -> None:
    assert PrefetchApplied in get_args(events.Event)
    assert PrefetchApplied in HANDLERS
