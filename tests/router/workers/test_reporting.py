import random

import msgspec

from federation.runtime.clock import SystemClock
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.state import RouterState
from router.workers import frames
from router.workers.reporting import Reporter
from tests.router.fakes import make_snapshot


class Ear:
    """The keeper's end: keeps what is said."""

    def __init__(self) -> None:
        self.heard: list[frames.Word] = []

    def send(self, word: frames.Word) -> None:
        self.heard.append(msgspec.msgpack.decode(frames.frame(word)[4:], type=frames.Word))


async def test_counts_are_told_when_they_changed_and_the_rest_each_time() -> None:
    state, ear = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0)), Ear()
    reporter = Reporter(state, Metrics(state), ear)  # type: ignore[arg-type]
    await reporter.report()
    assert ear.heard == [frames.Report()]
    table = tables.build(make_snapshot({"eu-1": "http://h:1", "us-1": "http://h:2"}))
    state.swap(table)
    state.signals.probed("eu-1", 30.0, "", 0.0)
    resolved = table.resolve("digits")
    option = type("Option", (), {"version": 2, "region": "eu", "cluster": "eu-1"})()
    state.counting.attempted(resolved, option, 200, 0.01)
    state.requests_total, state.demand = 1, lambda: {"poet": 2}
    await reporter.report()
    await reporter.report()
    first, second = (w for w in ear.heard[1:] if isinstance(w, frames.Report))
    assert [(c.model, sum(c.requests)) for c in first.counts] == [("digits", 1)]
    assert second.counts == []
    for report in (first, second):
        assert (report.requests, report.demand) == (1, {"poet": 2})
        assert {name: seen.rtt_ms for name, seen in report.seen.items()} == {"eu-1": 30.0}
    reporter.urge()
    assert ear.heard[-1] == second
    reporter.measure()
    figures = ear.heard[-1]
    assert isinstance(figures, frames.Figures)
    samples = {f[0]: f[3] for f in figures.families}
    assert samples["fed_router_snapshot_version"] == [("fed_router_snapshot_version", {}, 1.0)]
