"""Each change by people and members is one entry; no change, or one by the second, is none."""

from typing import get_args

import pytest

from federation.contract.errors import Conflict
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.types import Scheduling
from federation.policy.audit import chain
from federation.policy.audit.events import (
    AccessDenied,
    AppendAudit,
    Origin,
    StoreCollected,
    VersionVerified,
)
from federation.policy.audit.records import HEAD_NAME, AuditEntry, AuditOutcome
from federation.policy.audit.trail import UNTOLD
from federation.policy.decide import decide
from federation.policy.events import (
    Applied,
    ClusterSchedulingChanged,
    Event,
    Idempotency,
    ObjectRemoved,
)
from federation.policy.membership.events import PeerJoined
from tests.federation.policy.world import ACTOR, World

ORIGIN = Origin(source="192.0.2.9", request_id="q-1")


def entries(world: World) -> list[AuditEntry]:
    return [c.entry for c in world.commands if isinstance(c, AppendAudit)]


def test_a_change_is_one_entry_that_names_its_object() -> None:
    world = World()
    world.region("eu")
    [entry] = entries(world)
    assert (entry.id, entry.at, entry.actor) == (1, world.now, ACTOR)
    assert (entry.action, entry.kind, entry.name) == ("RegionApplied", "Region", "eu")
    assert (entry.outcome, entry.reason) == (AuditOutcome.DONE, "RegionCreated")
    assert "'eu' was created" in entry.message
    assert world.state.audit_head[HEAD_NAME].hash == entry.hash


def test_a_change_that_moves_others_is_one_entry_too() -> None:
    world = World()
    for name in ("c1", "c2"):
        world.cluster(name, gpus=1)
    world.push("m")
    before = len(entries(world))
    world.deploy(DeploymentSpec(model="m", version="1", cluster_labels={}))
    [entry] = entries(world)[before:]
    assert (entry.action, entry.kind) == ("DeploymentApplied", "Deployment")


def test_the_origin_is_told() -> None:
    world = World()
    world.cluster("c")
    event = ClusterSchedulingChanged(actor="user/ada", name="c", scheduling=Scheduling.DRAINING)
    outcome = decide(world.state, event, world.now, origin=ORIGIN)
    [entry] = [c.entry for c in outcome.commands if isinstance(c, AppendAudit)]
    assert (entry.actor, entry.source, entry.request_id) == ("user/ada", "192.0.2.9", "q-1")
    assert entry.reason == "ClusterDraining"


def test_what_changes_nothing_is_not_told() -> None:
    world = World()
    world.region("eu")
    world.region("eu")
    assert len(entries(world)) == 1


def test_a_repeated_request_is_told_once() -> None:
    world = World()
    world.region("eu")
    world.cluster("c")
    event = ClusterSchedulingChanged(actor=ACTOR, name="c", scheduling=Scheduling.CORDONED)
    key = Idempotency(key="k", fingerprint="f")
    first, again = (decide(world.state, event, world.now, key) for _ in range(2))
    assert first.result == again.result
    assert any(isinstance(c, AppendAudit) for c in first.commands)
    assert again.commands == ()


def test_a_refused_change_is_not_told_and_leaves_the_chain_alone() -> None:
    world = World()
    world.cluster("c")
    head = dict(world.state.audit_head)
    with pytest.raises(Conflict):
        world.do(ObjectRemoved(actor=ACTOR, kind="Region", name="eu"))
    assert world.state.audit_head == head


def test_reports_and_connections_are_not_told() -> None:
    world = World()
    world.cluster("c", gpus=1)
    before = len(entries(world))
    world.report("c")
    world.connect("c")
    world.advance(60)
    world.restart()
    assert len(entries(world)) == before


def test_a_join_is_told_once_by_the_one_who_joined() -> None:
    world = World()
    world.cluster("c", spec=None)
    joined = [entry for entry in entries(world) if entry.action == PeerJoined.__name__]
    assert [(e.actor, e.kind, e.name) for e in joined] == [("cluster/c", "Cluster", "c")]


def test_a_denial_is_an_entry_and_changes_nothing_else() -> None:
    world = World()
    world.region("eu")
    before = world.state.copy()
    event = AccessDenied(
        actor="anonymous",
        target="POST /api/v1/join",
        reason="join-token-used",
        message="this token was used.",
        count=7,
    )
    outcome = decide(world.state, event, world.now, origin=ORIGIN)
    [entry] = [c.entry for c in outcome.commands if isinstance(c, AppendAudit)]
    assert outcome.result is True
    assert (entry.outcome, entry.action) == (AuditOutcome.DENIED, "AccessDenied")
    assert (entry.kind, entry.name) == ("Call", "POST /api/v1/join")
    assert (entry.count, entry.reason, entry.source) == (7, "join-token-used", "192.0.2.9")
    before.audit_head = world.state.audit_head
    assert world.state == before


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            StoreCollected(actor="control-plane", freed_bytes=7, packs=2, documents=1),
            ("control-plane", "Store", "", "freed 7 bytes: 2 packs, 1 documents"),
        ),
        (
            VersionVerified(actor="user/ada", model="m", version=3, damaged=0),
            ("user/ada", "ModelVersion", "m/3", "found it whole"),
        ),
        (
            VersionVerified(actor="user/ada", model="m", version=3, damaged=2),
            ("user/ada", "ModelVersion", "m/3", "found 2 things damaged"),
        ),
    ],
)
def test_care_for_the_store_is_told_though_the_state_stays(
    event: Event, told: tuple[str, ...]
) -> None:
    world = World()
    before = world.state.copy()
    outcome = decide(world.state, event, world.now, origin=ORIGIN)
    [entry] = [c.entry for c in outcome.commands if isinstance(c, AppendAudit)]
    assert (entry.actor, entry.kind, entry.name, entry.message) == told
    assert (entry.outcome, entry.action) == (AuditOutcome.DONE, type(event).__name__)
    assert entry.source == ORIGIN.source
    before.audit_head = world.state.audit_head
    assert world.state == before


def test_all_entries_of_a_life_are_one_chain() -> None:
    world = World()
    world.cluster("c", spec=ClusterSpec(region="eu", allow_code=True))
    world.push("m")
    world.deploy(DeploymentSpec(model="m", version="1", cluster_labels={}))
    world.do(AccessDenied(actor="anonymous", target="GET /", reason="no", message="no."))
    world.serve("c")
    world.remove("Deployment", "d")
    world.restart()
    world.region("us")
    log = [chain.document(entry) for entry in entries(world)]
    assert chain.verify(log) == world.state.audit_head[HEAD_NAME]
    assert len(log) >= 6


def test_a_new_event_is_told_unless_it_is_left_out_on_purpose() -> None:
    told = {event.__name__ for event in get_args(Event)} - {e.__name__ for e in get_args(UNTOLD)}
    assert {"RegionApplied", "PeerRevoked", "KeyCreated", "TenantApplied", "AccessDenied"} <= told
    assert not {name for name in told if name.startswith("Agent") or "Reported" in name}


def test_a_dry_run_leaves_no_trace() -> None:
    world = World()
    world.region("eu")
    head = dict(world.state.audit_head)
    preview = world.state.copy()
    event = ObjectRemoved(actor=ACTOR, kind="Region", name="eu")
    assert isinstance(decide(preview, event, world.now).result, Applied)
    assert world.state.audit_head == head
