"""An engine that is only looked at: its models are reported, nothing is ever done."""

from edge_agent.policy.events import (
    AssignmentReceived,
    EngineListed,
    EngineLost,
    JobDone,
    KeepAssignment,
    Listed,
    Ticked,
)
from edge_agent.policy.readonly import ReadOnlyView
from edge_agent.policy.schedule import EngineView
from federation.contract.types import AssignedVersion, Assignment, ModelProtocol, VersionState

LISTED = EngineListed(
    identity="", loaded=(Listed(model="m", version=1, protocol=ModelProtocol.TEXT),), asked_s=0.0
)


def states(view: ReadOnlyView) -> dict[str, VersionState]:
    return {v.model: v.state for v in view.observed()}


def test_what_the_engine_serves_is_warm() -> None:
    view = ReadOnlyView()
    assert view.handle(LISTED, 1.0) == []
    (version,) = view.observed()
    assert (version.state, version.digest) == (VersionState.WARMED, "")
    assert version.protocol is ModelProtocol.TEXT


def test_a_long_silence_takes_the_models_away() -> None:
    view = ReadOnlyView()
    view.handle(LISTED, 0.0)
    view.handle(EngineLost(reason="x"), 10.0)
    view.handle(EngineLost(reason="x"), 12.0)
    assert states(view) == {"m": VersionState.WARMED}
    view.handle(EngineLost(reason="x"), 13.0)
    assert (states(view), view.engine) == ({}, EngineView.DOWN)
    view.handle(LISTED, 14.0)
    assert states(view) == {"m": VersionState.WARMED}


def test_an_assignment_is_kept_and_cannot_be_fulfilled() -> None:
    view = ReadOnlyView()
    wanted = AssignedVersion(model="w", version=2, digest="d")
    assignment = Assignment(cluster="c", generation=4, versions=(wanted,))
    received = AssignmentReceived(assignment=assignment)
    assert view.handle(received, 0.0) == [KeepAssignment(assignment=assignment)]
    assert view.handle(received, 1.0) == []
    view.handle(LISTED, 2.0)
    assert states(view) == {"m": VersionState.WARMED, "w": VersionState.FAILED}
    assert "someone else" in view.observed()[1].reason


def test_other_events_mean_nothing() -> None:
    view = ReadOnlyView()
    assert view.handle(Ticked(), 0.0) == []
    assert view.handle(JobDone(job=1, model="m", version=1), 0.0) == []
