import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from federation.api.rollout_journal import RolloutJournal
from federation.app import ControlPlane
from federation.policy.analysis.verdict import Outcome
from federation.policy.rollouts.records import Phase, RolloutRecord, VerdictRecord
from federation.policy.rollouts.table import Turn, first, taken
from federation.policy.state import State
from federation.publisher import Publisher
from federation.runtime.otlp import Span
from tests.fakes.control_plane import Operator, operator, running
from tests.federation.api.test_rollouts import deployed, start
from tests.federation.policy.rollouts.test_next_words import AT, RECORD
from tests.federation.runtime.test_otlp import Collector, collecting


class Rig:
    """A journal over a State that a test changes."""

    def __init__(self) -> None:
        self.state = State()
        self.spans: list[Span] = []
        loop: Any = SimpleNamespace(state=self.state)
        self.journal = RolloutJournal(loop, Publisher(), self.spans.append)
        self.now = AT

    def put(self, record: RolloutRecord) -> RolloutRecord:
        self.state.rollouts["m-2"] = record
        self.journal.look("m-2")
        return record

    def turn(self, record: RolloutRecord, turn: Turn, reason: str = "") -> RolloutRecord:
        self.now += timedelta(seconds=10)
        return taken(record, turn, self.now, "ada", reason)


def test_each_passage_is_counted_once_and_ends_a_span() -> None:
    rig = Rig()
    record = rig.put(first(RECORD, Turn.ACCEPTED, AT, "ada"))
    record = rig.turn(record, Turn.BEGUN)
    record = rig.put(rig.turn(record, Turn.STAGED))  # two at once
    rig.journal.look("m-2")
    assert [span.name for span in rig.spans] == ["rollout pending", "rollout staging"]
    assert {span.end - span.start for span in rig.spans} == {timedelta(seconds=10)}
    record = rig.put(rig.turn(record, Turn.JUDGED_BAD, "p95 +38 %"))
    record = rig.put(rig.turn(record, Turn.RESTORED, "p95 +38 %"))
    counts = rig.journal.transitions
    assert counts["judged bad", "rolling-back"] == 1
    assert sum(counts.values()) == 5
    whole = rig.spans[-1]
    assert (whole.name, whole.parent, whole.error) == ("rollout m", "", "p95 +38 %")
    assert whole.end - whole.start == timedelta(seconds=40)
    assert whole.attributes["fed.rollout.outcome"] == "rolled-back"
    assert all(span.parent == whole.id and span.trace == whole.trace for span in rig.spans[:-1])
    assert len({span.id for span in rig.spans}) == len(rig.spans)
    assert rig.spans[2].error == "p95 +38 %"


def test_verdicts_are_counted_when_they_change() -> None:
    rig = Rig()
    verdict = VerdictRecord(outcome=Outcome.INCONCLUSIVE, words="few", region="eu", at=AT)
    record = replace(RECORD, phase=Phase.BAKING, verdicts=(verdict,))
    rig.put(record)
    rig.put(replace(record, reason="other"))
    rig.put(replace(record, verdicts=(verdict, replace(verdict, outcome=Outcome.PASSED))))
    assert rig.journal.verdicts == {"pass": 1, "inconclusive": 1, "fail": 0}


def test_what_is_gone_is_forgotten() -> None:
    rig = Rig()
    rig.put(first(RECORD, Turn.ACCEPTED, AT, "ada"))
    rig.state.rollouts.clear()
    rig.journal.look("m-2")
    assert repr(rig.journal) == "RolloutJournal(0 rollouts)"


async def test_it_follows_a_control_plane(plane: ControlPlane, api: Operator) -> None:
    await deployed(plane, api)
    journal = RolloutJournal(plane.loop, plane.publisher)
    task = asyncio.get_running_loop().create_task(journal.run())
    await asyncio.sleep(0)
    assert (await start(api)).status == 201
    async with asyncio.timeout(10):
        while not journal.transitions["accepted", "pending"]:
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_collector_is_told_of_a_rollout(tmp_path: Path) -> None:
    collector = Collector(200)
    async with (
        collecting(collector) as other,
        running(tmp_path, traces_url=other.endpoint) as plane,
        operator(plane) as api,
    ):
        await deployed(plane, api)
        assert (await start(api)).status == 201
        assert (await api.call("POST", "/api/v1/rollouts/m/abort", {})).status == 200
        async with asyncio.timeout(10):
            while "rollout m" not in collector.names():
                await asyncio.sleep(0.005)
    assert "rollout pending" in collector.names()
