"""Cancelling wakes everybody who waits, once, and those who come later at once."""

import threading
import time

import pytest

from edge_agent.sync.cancel import Cancel, Cancelled


def test_a_sleep_ends_when_it_is_cancelled() -> None:
    cancel = Cancel()
    threading.Timer(0.05, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        cancel.sleep(10)
    assert time.monotonic() - started < 5


def test_who_waits_elsewhere_is_woken_only_inside() -> None:
    cancel, woken = Cancel(), []
    with cancel.waking(lambda: woken.append("early")):
        cancel.check()
    with cancel.waking(lambda: woken.append("inside")):
        cancel.set()
    assert woken == ["inside"]
    assert cancel.is_set


def test_after_that_nothing_is_begun() -> None:
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled), cancel.waking(lambda: None):
        pytest.fail("it was entered")
    with pytest.raises(Cancelled):
        cancel.check()
