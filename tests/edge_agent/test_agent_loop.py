"""The agent end to end: packages from a real server, the fake engine, requests at the gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.agent_loop import AssignmentFile
from edge_agent.backends.base import LoadedVersion
from edge_agent.backends.fake import FakeEngine
from federation.contract.types import AssignedVersion, Assignment, VersionState
from tests.edge_agent.agent_rig import AgentRig, until
from tests.edge_agent.package_server import PackageServer

S = VersionState
Digests = dict[int, str]


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def packages() -> AsyncIterator[PackageServer]:
    server = PackageServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def digests(packages: PackageServer, tmp_path: Path) -> Digests:
    """Two versions of model m."""
    return {v: packages.add(tmp_path, "m", v, {"model.py": b"#%d" % v}) for v in (1, 2)}


@pytest.fixture
async def rig(
    engine: FakeEngine, packages: PackageServer, tmp_path: Path
) -> AsyncIterator[AgentRig]:
    rig = AgentRig(engine, packages, tmp_path / "state")
    await rig.start()
    yield rig
    await rig.stop()


async def test_from_assignment_to_answer(rig: AgentRig, digests: Digests) -> None:
    assert await rig.infer("m", 1) == 404
    rig.assign(1, ("m", 1, digests[1]))
    await until(lambda: rig.warm(("m", 1)))
    assert await rig.infer("m", 1) == 200
    assert rig.board.generation == 1
    (version,) = rig.board.observed(lambda _m, _v: 4).versions
    assert (version.digest, version.in_flight, version.replicas) == (digests[1], 4, 1)


async def test_a_version_change_loses_no_request(rig: AgentRig, digests: Digests) -> None:
    rig.assign(1, ("m", 1, digests[1]))
    await until(lambda: rig.warm(("m", 1)))
    rig.assign(2, ("m", 1, digests[1]), ("m", 2, digests[2]))
    while not rig.warm(("m", 2)):
        assert await rig.infer("m", 1) == 200
    rig.assign(3, ("m", 2, digests[2]))
    while rig.state("m", 1) is S.DRAINING:
        assert await rig.infer("m", 2) == 200
    await until(lambda: rig.state("m", 1) is S.CACHED)
    assert set(rig.engine.models) == {("m", 2)}


@pytest.mark.parametrize("fails", [False, True])
async def test_a_change_of_replicas_loses_no_request(
    rig: AgentRig, digests: Digests, *, fails: bool
) -> None:
    def replicas() -> int:
        return rig.board.observed(lambda _m, _v: 0).versions[0].replicas

    rig.assign(1, ("m", 1, digests[1]))
    await until(lambda: rig.warm(("m", 1)))
    rig.engine.load_s = 0.1
    if fails:
        rig.engine.fail_load["m", 1] = "no memory for another one"
    rig.assign(2, ("m", 1, digests[1]), replicas=3)
    while replicas() != 3 and not rig.board.versions[0].reason:
        assert await rig.infer("m", 1) == 200
    assert replicas() == (1 if fails else 3)
    rig.engine.fail_load.clear()
    while replicas() != 3:
        assert await rig.infer("m", 1) == 200
    assert rig.warm(("m", 1))


async def test_the_agent_serves_after_its_restart_without_a_control_plane(
    engine: FakeEngine, packages: PackageServer, tmp_path: Path, digests: Digests
) -> None:
    first = AgentRig(engine, packages, tmp_path / "state")
    await first.start()
    first.assign(1, ("m", 1, digests[1]))
    await until(lambda: first.warm(("m", 1)))
    await first.stop()
    assert set(engine.models) == {("m", 1)}, "stopping the agent unloads nothing"
    await packages.stop()
    second = AgentRig(engine, packages, tmp_path / "state")
    await second.start()
    await until(lambda: second.warm(("m", 1)))
    assert await second.infer("m", 1) == 200
    assert engine.loads == {("m", 1): 1}, "what is loaded is not loaded again"
    await engine.stop()
    await until(lambda: not second.warm(("m", 1)))
    await engine.start()
    await until(lambda: second.warm(("m", 1)))
    assert engine.loads == {("m", 1): 2}
    await second.stop()


async def test_an_engine_that_was_killed_is_filled_again(rig: AgentRig, digests: Digests) -> None:
    rig.assign(1, ("m", 1, digests[1]), ("m", 2, digests[2]))
    await until(lambda: rig.warm(("m", 1), ("m", 2)))
    await rig.engine.stop()
    assert await rig.infer("m", 1) == 503
    await until(lambda: not rig.board.engine.ready)
    await rig.engine.start()
    await until(lambda: rig.warm(("m", 1), ("m", 2)) and rig.engine.loads["m", 2] == 2)
    assert await rig.infer("m", 1) == 200


async def test_a_crashed_worker_is_healed_on_the_gateways_word(
    rig: AgentRig, digests: Digests
) -> None:
    rig.assign(1, ("m", 1, digests[1]))
    await until(lambda: rig.warm(("m", 1)))
    rig.engine.crashed.add(("m", 1))
    assert await rig.infer("m", 1) >= 500
    await until(lambda: rig.engine.unloads["m", 1] == 1 and rig.warm(("m", 1)))
    assert await rig.infer("m", 1) == 200
    assert rig.engine.loads["m", 1] == 2


async def test_failures_tell_why_and_are_tried_again(
    rig: AgentRig, packages: PackageServer, digests: Digests
) -> None:
    rig.engine.fail_load["m", 1] = "no room on the GPU"
    rig.assign(1, ("m", 1, digests[1]), ("gone", 1, "0" * 64))
    await until(lambda: rig.state("m", 1) is S.FAILED and rig.state("gone", 1) is S.FAILED)
    reasons = {v.model: v.reason for v in rig.board.versions}
    assert reasons["m"] == "no room on the GPU"
    assert "404" in reasons["gone"]
    rig.engine.fail_load.clear()
    await until(lambda: rig.warm(("m", 1)))


async def test_a_frozen_engine_is_noticed_and_nothing_is_reloaded(
    rig: AgentRig, digests: Digests
) -> None:
    rig.assign(1, ("m", 1, digests[1]))
    await until(lambda: rig.warm(("m", 1)))
    rig.engine.hang()
    await until(lambda: not rig.board.engine.ready)
    assert "did not answer within" in rig.board.engine.reason
    rig.engine.resume()
    await until(lambda: rig.board.engine.ready and rig.warm(("m", 1)))
    assert rig.engine.loads == {("m", 1): 1}


async def test_with_nothing_on_disk_and_nobody_there_nothing_is_touched(
    engine: FakeEngine, packages: PackageServer, tmp_path: Path
) -> None:
    await engine.load(LoadedVersion(model="someone", version=1))
    rig = AgentRig(engine, packages, tmp_path / "state")
    await rig.start()
    await until(lambda: rig.board.engine.ready)
    await asyncio.sleep(0.3)
    assert engine.unloads == {}
    rig.assign(1)
    await until(lambda: engine.unloads == {("someone", 1): 1})
    await rig.stop()


async def test_listeners_hear_of_every_event(rig: AgentRig) -> None:
    heard: list[int] = []
    rig.loop.subscribe(lambda: heard.append(rig.board.generation))
    rig.assign(7)
    await until(lambda: 7 in heard)


def test_the_assignment_comes_back_from_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = AssignmentFile(tmp_path, cluster="c")
    assert file.read() is None
    version = AssignedVersion(model="m", version=1, digest="d", replicas=2)
    assignment = Assignment(cluster="c", generation=9, versions=(version,))
    file.keep(assignment)
    assert file.read() == assignment
    assert AssignmentFile(tmp_path, cluster="other").read() is None
    assert "of cluster 'c'" in caplog.text
    (tmp_path / "assignment.json").write_text('{"cluster": "c"')
    assert file.read() is None
    assert "cannot be used" in caplog.text


def test_a_disk_that_is_full_costs_only_the_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blocked").write_text("")
    AssignmentFile(tmp_path / "blocked", cluster="c").keep(Assignment(cluster="c", generation=1))
    assert "could not be kept" in caplog.text
