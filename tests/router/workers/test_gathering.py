import random
from collections.abc import Mapping

import msgspec
import pytest

from federation.contract.codec_snapshots import SnapshotWriter
from federation.contract.errors import FederationError, Invalid, NotFound, Unavailable
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from federation.runtime.clock import SystemClock
from router.policy import table as tables
from router.state import RouterState
from router.workers import frames
from router.workers.crew import Crew
from router.workers.gathering import Gathering
from tests.router.fakes import make_snapshot


class Staff(Crew):
    """Workers that answer what the test says; `told` is what all of them were told."""

    def __init__(self) -> None:
        super().__init__(2, opening=lambda _: [], dice=random.Random(0))
        self.told: list[frames.Order] = []
        self.waited: list[int] = []
        self.answers: list[frames.Answer | FederationError] = []
        self.asked: list[str] = []

    def tell(self, order: frames.Order) -> None:
        self.told.append(order)

    async def settled(self, number: int) -> None:
        self.waited.append(number)

    async def ask(
        self, what: str, arguments: Mapping[str, str] | None = None
    ) -> list[frames.Answer | FederationError]:
        self.asked.append(what)
        return self.answers


def wire(snapshot: Snapshot) -> bytes:
    whole = SnapshotWriter().instruction(snapshot)
    return pb.RouterInstructionParts.FromString(whole).snapshot


def gathering() -> tuple[RouterState, Staff, Gathering]:
    state, staff = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0)), Staff()
    return state, staff, Gathering(state, staff)


async def test_a_snapshot_is_in_use_when_all_workers_say_so() -> None:
    state, staff, one = gathering()
    data = wire(make_snapshot({"eu-1": "http://h:1"}, version=5))
    assert (await one.apply(data)).version == 5
    assert staff.told == [frames.Table(1, data)]  # the same bytes
    assert staff.waited == [1]
    with pytest.raises(Invalid, match="older than 5"):
        await one.apply(wire(make_snapshot({}, version=4)))
    assert len(staff.told) == 1
    state.swap(tables.build(make_snapshot({"us-1": "http://h:2"}, version=6)))  # from a file
    assert one.newest is not None
    assert (one.newest.number, len(staff.told)) == (2, 2)
    assert pb.Snapshot.FromString(one.newest.data).endpoints[0].cluster == "us-1"


async def test_totals_and_demand_are_those_of_all() -> None:
    state, staff, one = gathering()
    urged: list[bool] = []
    state.on_demand.append(lambda: urged.append(True))
    for worker in (0, 1):
        staff.hear(staff.posts[worker], frames.Report(requests=3, errors=1, demand={"poet": 2}))
    assert (state.requests_total, state.errors_total) == (6, 2)
    assert state.demand() == {"poet": 4}
    assert urged == [True]  # once: it is known
    sequence, models = await one.counts()
    assert (staff.asked, sequence, list(models)) == (["report"], 1, [])


async def test_the_first_worker_that_knows_answers() -> None:
    _, staff, one = gathering()
    staff.answers = [NotFound("not here."), frames.Answer(1, msgspec.json.encode({"why": "x"}))]
    assert await one.record("a") == {"why": "x"}
    assert await one.answer(pb.ExplainRequest(id="1", model="m")) == {"why": "x"}
    assert await one.answer(pb.ExplainRequest(id="1", request_id="a")) == {"why": "x"}
    assert staff.asked == ["record", "explain", "record"]
    staff.answers = [NotFound("not here."), NotFound("nor here.")]
    with pytest.raises(NotFound, match="not here"):
        await one.explain({"reference": "m"})
    staff.answers = []
    with pytest.raises(Unavailable, match="No worker"):
        await one.record("a")
    with pytest.raises(Unavailable, match="2 of 2 workers do not serve"):
        one.require_ready()


async def test_numbers_and_metrics_of_all() -> None:
    _, staff, one = gathering()
    staff.answers = [frames.Answer(1, msgspec.msgpack.encode({"a": 2})) for _ in range(2)]
    assert await one.in_flight() == {"a": 4}
    family: frames.Family = ("fed_x", "Help.", "counter", [("fed_x_total", {"a": "b"}, 2.0)])
    for worker in (0, 1):
        staff.hear(staff.posts[worker], frames.Figures([family]))
    page = (await one.metrics()).decode()
    assert "# HELP fed_x_total Help.\n# TYPE fed_x_total counter\n" in page
    assert 'fed_x_total{a="b"} 4.0' in page
    assert "fed_router_workers 0.0" in page
    assert "fed_router_worker_restarts_total 0.0" in page
