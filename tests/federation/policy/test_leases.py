from dataclasses import replace
from datetime import timedelta

import pytest

from federation.contract.errors import AlreadyExists, NotFound, Unauthenticated
from federation.contract.resources import ClusterSpec, DeploymentSpec
from federation.contract.types import EngineKind, VersionState
from federation.policy.events import AgentReported, CloseAgent, Put, WakeAt
from tests.federation.policy.world import World


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


def test_joining_gives_an_epoch_a_lease_and_uses_the_token_up() -> None:
    world = registered()
    before = world.state.clusters["c"].epoch
    welcomed = world.connect("c", secret="token")
    assert welcomed.joined
    assert welcomed.epoch == before + 1
    assert welcomed.lease_seconds == 10
    assert not welcomed.allow_code
    assert world.state.clusters["c"].credential_sha256 == "credential of c"
    assert not world.connect("c").joined
    with pytest.raises(AlreadyExists, match="has already joined") as refusal:
        world.connect("c", secret="token", instance="i2")
    assert "fed cluster register c --rejoin" in refusal.value.hint


def test_an_agent_that_lost_its_welcome_may_repeat_its_hello() -> None:
    world = registered()
    world.connect("c", secret="token")
    assert world.connect("c", secret="token").joined
    with pytest.raises(AlreadyExists, match="with this token"):
        world.connect("c", secret="token", instance="i2")


def test_a_second_agent_on_a_taken_name_is_told_the_remedy() -> None:
    world = registered()
    world.connect("c", secret="token")
    with pytest.raises(AlreadyExists, match="another credential") as refusal:
        world.connect("c", secret="stolen")
    assert refusal.value.reason == "cluster-taken"
    assert "--rejoin" in refusal.value.hint


def test_a_wrong_or_expired_token_is_refused() -> None:
    world = registered()
    with pytest.raises(Unauthenticated, match="not the join token"):
        world.connect("c", secret="wrong")
    world.now += timedelta(hours=2)
    with pytest.raises(Unauthenticated, match="expired at 2026-01-01 01:00:00 UTC"):
        world.connect("c", secret="token")
    with pytest.raises(NotFound):
        world.connect("x", secret="token")


def test_after_rejoin_the_old_credential_works_until_the_new_token_is_used() -> None:
    world = registered()
    world.connect("c", secret="token")
    world.register("c", ClusterSpec(region="eu"), token="second", rejoin=True)
    assert not world.connect("c").joined
    assert world.connect("c", secret="second", instance="i2").joined


def test_the_newest_stream_wins() -> None:
    world = registered()
    old = world.connect("c", secret="token")
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
    world.restart()
    assert world.state.presences == {}
