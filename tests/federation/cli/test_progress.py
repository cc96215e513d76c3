import io

import pytest

from federation.cli.progress import Progress
from federation.runtime.clock import ManualClock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_amount_share_rate_and_time_left_are_told() -> None:
    clock = ManualClock()
    progress = Progress("sending", 10_000_000, clock)
    assert progress.line() == "sending 0 B of 10.0 MB  0%"
    clock.advance(0.5)
    progress.add(1_000_000)
    assert progress.line() == "sending 1.0 MB of 10.0 MB  10%"  # too early for a rate
    clock.advance(1.5)
    progress.add(1_000_000)
    assert progress.line() == "sending 2.0 MB of 10.0 MB  20%  1.0 MB/s  8s left"
    progress.add(8_000_000)
    assert progress.line().endswith("100%  5.0 MB/s  0s left")
    assert "sending" in repr(progress)


def test_it_is_for_terminals_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr("sys.stderr", stream)
        with Progress("sending", 100) as progress:
            progress.add(50)
        assert ("50 B of 100 B" in stream.getvalue()) is shown
        assert "\n" not in stream.getvalue()
        if shown:
            assert stream.getvalue().endswith("\r\x1b[K")


def test_it_is_written_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, clock = Terminal(), ManualClock()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = Progress("x", 1000, clock)
    for _ in range(100):
        progress.add(1)
        clock.advance(0.01)
    assert 9 <= terminal.getvalue().count("\r") <= 11


def test_nothing_to_do_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("x", 0) as progress:
        assert progress.line() == "x 0 B of 0 B  100%"
    assert terminal.getvalue() == ""
