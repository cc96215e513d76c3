from dataclasses import replace

import pytest

from federation.contract.errors import Conflict, NotFound, Unauthenticated
from federation.contract.resources import ClusterSpec, DeploymentSpec, PrefetchSpec
from federation.contract.sync import Disk, SyncProgress
from federation.contract.types import Connectivity, EngineKind, VersionState
from federation.policy.events import AgentReported, CloseAgent, ClusterApplied, Put, Touch, WakeAt
from tests.federation.policy.world import ACTOR, World


def registered() -> World:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"))
    return world


def served() -> World:
    world = World()
    world.cluster("c")
    world.push("m")
    world.deploy(DeploymentSpec(model="m"))
    world.serve("c")
    return world


def test_connecting_gives_an_epoch_and_a_lease() -> None:
    world = registered()
    before = world.state.clusters["c"].epoch
    world.join("c")
    welcomed = world.connect("c")
    assert welcomed.epoch == before + 1
    assert welcomed.lease_seconds == 10
    assert not welcomed.allow_code
    assert world.state.presences["c"].connected


def test_only_the_certificate_of_the_newest_join_connects() -> None:
    world = registered()
    with pytest.raises(Unauthenticated, match="earlier join") as refusal:
        world.connect("c")
    old = world.join("c").generation
    world.register("c", ClusterSpec(region="eu"), token="second", rejoin=True)
    world.connect("c", generation=old)
    new = world.join("c", token="second", key="other").generation
    with pytest.raises(Unauthenticated, match="earlier join") as refusal:
        world.connect("c", generation=old)
    assert refusal.value.reason == "certificate-replaced"
    assert "--rejoin" in refusal.value.hint
    world.connect("c", generation=new)
    with pytest.raises(NotFound):
        world.connect("x")


def test_who_waits_for_acceptance_or_is_revoked_does_not_connect() -> None:
    world = World()
    world.region("eu")
    world.register("c", ClusterSpec(region="eu"), require_accept=True)
    world.join("c")
    with pytest.raises(Conflict, match="waits for an operator") as waiting:
        world.connect("c")
    assert waiting.value.reason == "awaiting-acceptance"
    world.accept("c")
    world.connect("c")
    world.revoke("c")
    with pytest.raises(Unauthenticated, match="was revoked") as refusal:
        world.connect("c")
    assert refusal.value.reason == "certificate-revoked"


def test_an_agent_is_reached_the_way_that_was_registered() -> None:
    world = registered()
    world.join("c")
    with pytest.raises(Conflict, match="connectivity 'dial'") as refusal:
        world.connect("c", connectivity=Connectivity.REVERSE)
    assert refusal.value.reason == "wrong-connectivity"
    assert "--connectivity dial" in refusal.value.hint


def test_a_changed_connectivity_has_the_agent_connect_anew() -> None:
    world = registered()
    world.join("c")
    epoch = world.connect("c").epoch
    spec = ClusterSpec(region="eu", connectivity=Connectivity.REVERSE)
    world.do(ClusterApplied(actor=ACTOR, name="c", spec=spec))
    assert [c.epoch for c in world.commands if isinstance(c, CloseAgent)][-1] == epoch
    with pytest.raises(Conflict):
        world.connect("c")
    world.connect("c", connectivity=Connectivity.REVERSE)


def test_the_newest_stream_wins() -> None:
    world = registered()
    world.join("c")
    old = world.connect("c")
    new = world.connect("c")
    closed = [c for c in world.commands if isinstance(c, CloseAgent)]
    assert (closed[-1].cluster, closed[-1].epoch) == ("c", old.epoch)
    assert new.epoch == old.epoch + 1
    world.engines["c"] = EngineKind.TRITON
    late = replace(world.make_report("c"), epoch=old.epoch, sequence=99)
    before = world.state.copy()
    assert world.do(AgentReported(report=late)) is False
    assert world.state.ignored_reports == before.ignored_reports + 1
    assert world.state.reports == before.reports


def test_reports_out_of_order_change_nothing() -> None:
    world = served()
    newest = world.make_report("c", world.seen("c"))
    older = replace(world.make_report("c"), sequence=newest.sequence - 1)
    assert world.do(AgentReported(report=newest)) is True
    before = world.state.copy()
    for report in (newest, older):
        assert world.do(AgentReported(report=report)) is False
    assert world.state.clusters == before.clusters
    assert world.state.presences == before.presences


def test_a_report_of_an_unknown_cluster_is_ignored() -> None:
    world = served()
    report = replace(world.make_report("c"), cluster="x")
    assert world.do(AgentReported(report=report)) is False


def test_a_report_that_says_the_same_writes_nothing() -> None:
    world = served()
    world.commands.clear()
    busy = [replace(v, in_flight=7, reason="busy") for v in world.seen("c")]
    assert world.report("c", busy)
    assert [type(c) for c in world.commands] == [WakeAt]
    assert world.state.reports["c"].observed.versions[0].in_flight == 7


def test_a_report_in_another_order_writes_nothing() -> None:
    world = served()
    world.push("n")
    world.deploy(DeploymentSpec(model="n"), "e")
    world.serve("c")
    world.commands.clear()
    world.report("c", world.seen("c")[::-1])
    assert [c for c in world.commands if isinstance(c, Put)] == []


def test_progress_is_told_once_with_its_reason() -> None:
    world = served()
    failed = [replace(v, reason="out of memory") for v in world.seen("c", VersionState.FAILED)]
    world.report("c", failed)
    world.report("c", failed)
    told = [r for r in world.state.audit.values() if r.reason == "ModelFailed"]
    assert [r.message for r in told] == ["model 'm' version 1 failed at 'c': out of memory"]
    assert world.told().count("ModelWarmed") == 1


def test_silence_moves_traffic_and_unloads_nothing() -> None:
    world = served()
    assigned = world.state.clusters["c"].assignment
    world.advance(9)
    assert world.snapshot().endpoints[0].present
    world.advance(2)
    assert not world.snapshot().endpoints[0].present
    assert world.snapshot().replicas != ()
    assert world.state.clusters["c"].assignment == assigned
    assert world.told()[-1] == "ContactLost"
    assert world.report("c", world.seen("c"))
    assert world.snapshot().endpoints[0].present
    assert "ContactRestored" in world.told()
    assert world.state.clusters["c"].assignment == assigned


def test_time_asks_to_be_woken_at_the_next_end_of_a_lease() -> None:
    world = served()
    world.commands.clear()
    world.advance(3)
    expires_at = world.state.presences["c"].expires_at
    assert [c.at for c in world.commands if isinstance(c, WakeAt)] == [expires_at]
    world.advance(60)
    world.commands.clear()
    world.advance(60)
    assert world.commands == []


def test_a_stream_that_ends_leaves_the_lease_and_its_reports_no_longer_count() -> None:
    world = served()
    straggler = world.make_report("c")
    world.disconnect("c")
    assert world.state.presences["c"].present
    assert not world.state.presences["c"].connected
    assert world.do(AgentReported(report=straggler)) is False


def test_after_a_restart_everyone_has_one_lease_of_grace_and_the_snapshot_is_equal() -> None:
    world = served()
    before = world.snapshot()
    world.restart()
    assert world.snapshot() == before
    world.advance(11)
    assert [e.present for e in world.snapshot().endpoints] == [False]
    assert world.snapshot().replicas == before.replicas


def test_after_a_restart_a_cluster_that_never_joined_has_no_lease() -> None:
    world = registered()
    world.register("waits", ClusterSpec(region="eu"), require_accept=True)
    world.join("waits")
    world.restart()
    assert world.state.presences == {}


def test_the_progress_of_a_transfer_writes_nothing_and_is_in_no_record() -> None:
    world = served()
    world.push("m", "2")
    pending = [replace(v, state=VersionState.PENDING) for v in world.seen("c", only=2)]
    world.report("c", [*world.seen("c", only=1), *pending])
    world.commands.clear()
    for done in range(1, 200):
        moving = [
            replace(v, sync=SyncProgress(total_bytes=200, done_bytes=done, eta_s=200.0 - done))
            for v in pending
        ]
        disk = Disk(used_bytes=done, free_bytes=10_000 - done)
        world.disks["c"] = disk
        world.report("c", [*world.seen("c", only=1), *moving], disk=disk)
    writes = [c for c in world.commands if isinstance(c, Put)]
    assert len(writes) == 1, "the disk was told for the first time"
    last = world.state.clusters["c"].last
    assert last is not None
    assert all(v.sync is None for v in last.observed.versions)
    shown = world.state.reports["c"]
    assert [v.sync.done_bytes for v in shown.observed.versions if v.sync] == [199]
    assert shown.disk.used_bytes == 199


@pytest.mark.parametrize(
    ("disk", "news"),
    [
        (Disk(used_bytes=900, free_bytes=100), False),
        (Disk(used_bytes=0, free_bytes=1040), False),
        (Disk(used_bytes=0, free_bytes=960), False),
        (Disk(used_bytes=0, free_bytes=2000), True),
        (Disk(used_bytes=500, free_bytes=100), True),
        (Disk(used_bytes=0, free_bytes=1000, budget_bytes=1), True),
        (Disk(), True),
    ],
)
def test_a_disk_of_another_size_is_news(disk: Disk, *, news: bool) -> None:
    world = served()
    world.report("c", world.seen("c"), disk=Disk(used_bytes=0, free_bytes=1000))
    world.commands.clear()
    world.report("c", world.seen("c"), disk=disk)
    assert any(isinstance(c, Put) for c in world.commands) is news


def test_a_disk_that_grew_gets_what_did_not_fit() -> None:
    world = World()
    world.cluster("c")
    world.disks["c"] = Disk(free_bytes=1 << 30)
    world.report("c")
    world.push("m", size=2 << 30)
    world.deploy(DeploymentSpec(model="m"))
    assert world.assigned("c") == []
    world.disks["c"] = Disk(free_bytes=3 << 30)
    world.report("c")
    assert world.assigned("c") == [("m", 1)]


def test_watchers_of_a_prefetch_hear_of_each_state_of_it_and_of_nothing_else() -> None:
    world = served()
    world.push("n")
    world.push("o")
    world.prefetch(PrefetchSpec(model="n", version=1), "pn")
    world.prefetch(PrefetchSpec(model="o", version=1), "po")
    world.report("c", world.seen("c", VersionState.PENDING))
    staged = [v for v in world.seen("c") if v.model == "n"]
    others = [v for v in world.seen("c", VersionState.PENDING) if v.model != "n"]
    world.commands.clear()
    for _ in range(2):
        world.report("c", [*others, *staged])
    assert [c.name for c in world.commands if isinstance(c, Touch)] == ["pn"]
