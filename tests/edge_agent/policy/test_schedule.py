"""Which job is due in each situation, and how many run side by side."""

from dataclasses import replace

import pytest

from edge_agent.policy.events import Job, Task
from edge_agent.policy.lifecycle import Record
from edge_agent.policy.schedule import (
    BOUNDS,
    LANES,
    EngineView,
    Patience,
    Situation,
    due_job,
    next_jobs,
)
from federation.contract.types import AssignedVersion, Urgency, VersionState

S = VersionState


def record(state: VersionState, *, version: int = 1, **changes: object) -> Record:
    made = Record(model="m", version=version, digest="d", state=state)
    return replace(made, **changes)  # type: ignore[arg-type]


def situation(
    engine: EngineView = EngineView.UP,
    *,
    replicas: int = 1,
    now: float = 0.0,
    stage_only: bool = False,
) -> Situation:
    wanted = AssignedVersion(
        model="m", version=1, digest="d", replicas=replicas, stage_only=stage_only
    )
    return Situation(wanted={("m", 1): wanted}, engine=engine, patience=Patience(), now=now)


@pytest.mark.parametrize(
    ("state", "up", "down", "unknown"),
    [
        (S.PENDING, Task.STAGE, Task.STAGE, Task.STAGE),
        (S.STAGED, Task.VERIFY, Task.VERIFY, None),
        (S.VERIFIED, Task.LOAD, None, None),
        (S.LOADED, Task.WARM_UP, None, None),
        (S.WARMED, None, None, None),
        (S.DRAINING, Task.DRAIN, Task.DRAIN, Task.DRAIN),
        (S.CACHED, None, None, None),
        (S.FAILED, None, None, None),
    ],
)
def test_the_job_of_each_state(
    state: VersionState, up: Task | None, down: Task | None, unknown: Task | None
) -> None:
    views = (EngineView.UP, EngineView.DOWN, EngineView.UNKNOWN)
    assert [due_job(record(state), situation(v)) for v in views] == [up, down, unknown]


@pytest.mark.parametrize("engine", EngineView)
def test_what_shall_only_lie_ready_needs_no_engine(engine: EngineView) -> None:
    given = situation(engine, stage_only=True)
    assert due_job(record(S.PENDING), given) is Task.STAGE
    assert due_job(record(S.STAGED), given) is Task.VERIFY
    assert due_job(record(S.VERIFIED), given) is None


def test_more_urgent_versions_go_first() -> None:
    wanted = {
        ("m", number): AssignedVersion(model="m", version=number, digest="d", urgency=urgency)
        for number, urgency in enumerate((Urgency.PREFETCH, Urgency.NORMAL, Urgency.ROLLBACK), 1)
    }
    given = Situation(wanted=wanted, engine=EngineView.UP, patience=Patience(), now=0.0)
    waiting = [record(S.PENDING, version=number) for number in (1, 2, 3)]
    assert [r.version for _, r in next_jobs(waiting, given)] == [3, 2, 1]


@pytest.mark.parametrize(
    ("at_engine", "heal", "task"),
    [(None, False, Task.LOAD), ("other", False, Task.HEAL), (None, True, Task.HEAL)],
)
def test_whatever_is_broken_at_the_engine_is_unloaded_first(
    at_engine: str | None, heal: bool, task: Task
) -> None:
    verified = record(S.VERIFIED, at_engine=at_engine, heal=heal)
    assert due_job(verified, situation()) is task


def test_a_failed_unload_waits() -> None:
    drained = record(S.DRAINING, drained=True, retry_s=10.0)
    assert due_job(drained, situation(now=9.9)) is None
    assert due_job(drained, situation(now=10.0)) is Task.UNLOAD


def test_more_replicas_are_a_change_while_it_serves() -> None:
    assert due_job(record(S.WARMED), situation(replicas=2)) is Task.RESIZE
    assert due_job(record(S.WARMED, retry_s=5.0), situation(replicas=2)) is None


def test_one_engine_job_at_a_time_and_unloads_first() -> None:
    assert BOUNDS["engine"] == 1
    drained = record(S.DRAINING, version=9, drained=True)
    verified = record(S.VERIFIED)
    assert next_jobs([verified, drained], situation()) == [(Task.UNLOAD, drained)]
    busy = replace(drained, job=Job(id=1, task=Task.UNLOAD, model="m", version=9))
    assert next_jobs([verified, busy], situation()) == []


def test_every_task_has_a_lane_and_every_lane_a_bound() -> None:
    assert set(LANES) == set(Task)
    assert set(LANES.values()) == set(BOUNDS)
