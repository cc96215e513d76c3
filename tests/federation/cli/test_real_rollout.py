"""A model owner's five minutes with `fed` and a real control plane; agents and a router are played
here: they do at once what they are told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from federation.app import ControlPlane
from federation.cli import rollout_follow
from federation.contract import codec
from federation.contract.spiffe import PeerRole
from federation.contract.types import Assignment, ObservedVersion, VersionState
from federation.contract.v1 import federation_pb2 as pb
from tests.fakes.control_plane import (
    Operator,
    Peer,
    agent_hello,
    agent_report,
    operator,
    router_hello,
    running,
    stream,
)
from tests.federation.cli.conftest import Fed, Result

WAVES = ("--waves", "eu; *", "--steps", "10,100", "--bake", "0", "--no-analysis")


async def obey(cluster: str, agent: Peer) -> None:
    """Have everything warm as soon as it is assigned, and never for longer."""
    epoch = sequence = 0
    assigned = Assignment(cluster=cluster, generation=0)
    await agent.send(agent_hello(cluster))
    while True:
        message = await agent.call.read()
        match message.WhichOneof("body"):
            case "welcome":
                epoch = message.welcome.epoch
            case "assignment":
                assigned = codec.assignment_from_proto(message.assignment)
            case _:
                continue
        versions = tuple(
            ObservedVersion(
                model=v.model,
                version=v.version,
                digest=v.digest,
                replicas=v.replicas,
                state=VersionState.VERIFIED if v.stage_only else VersionState.WARMED,
            )
            for v in assigned.versions
        )
        sequence += 1
        generation = assigned.generation
        told = agent_report(cluster, epoch, sequence, generation=generation, versions=versions)
        await agent.send(told)


async def acknowledge(router: Peer) -> None:
    """Take every snapshot."""
    await router.send(router_hello("r"))
    while True:
        snapshot = await router.expect("snapshot")
        await router.send(pb.RouterMessage(ack=pb.SnapshotAck(version=snapshot.version)))


@asynccontextmanager
async def federation(plane: ControlPlane, api: Operator) -> AsyncIterator[None]:
    """Two regions with a cluster each, and a router."""
    async with AsyncExitStack() as stack:
        tasks = []
        for cluster, region in (("eu-1", "eu"), ("us-1", "us")):
            held = await api.join(await api.register(cluster, region))
            peer = await stack.enter_async_context(stream(plane, "agent", held))
            tasks.append(asyncio.ensure_future(obey(cluster, peer)))
        held = await api.member("r", PeerRole.ROUTER)
        router = await stack.enter_async_context(stream(plane, "router", held))
        tasks.append(asyncio.ensure_future(acknowledge(router)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def here(fed: Fed, plane: ControlPlane, state: Path) -> Callable[..., Any]:
    """Return `fed` against this control plane, run beside its loop."""

    async def call(*words: str) -> Result:
        known = ("--endpoint", f"https://{plane.http_address}")
        files = ("--ca-file", str(state / "ca.pem"), "--token-file", str(state / "admin.token"))
        return await asyncio.to_thread(fed, *words, *known, *files)

    return call


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_first_five_minutes(
    fed_alone: Fed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_follow, "EVERY_S", 0.05)
    async with running(tmp_path, lease_seconds=60) as plane, operator(plane) as api:
        fed, state = here(fed_alone, plane, tmp_path), plane.loop.state
        async with federation(plane, api):
            for content in (b"one", b"two"):
                assert (await api.push("m", content)).status == 201
            assert (await fed("deploy", "m@1", "--wait", "--timeout", "20s")).code == 0

            dry = await fed("rollout", "start", "m", "--to", "2", *WAVES, "--dry-run")
            assert "rollout/m-1 (not started): model m, version 1 -> 2" in dry.out
            assert [line.split()[:4] for line in dry.out.splitlines()[2:4]] == [
                ["1", "eu-1", "eu", "beside"],
                ["2", "us-1", "us", "beside"],
            ]

            # A gate before the second wave: it stands there, with the new version in one region.
            made = await fed("rollout", "start", "m", "--to", "2", *WAVES, "--gate", "2")
            assert made.out == "rollout/m-1 started\n"
            await until(lambda: state.rollouts["m-1"].pause)
            tree = await fed("rollout", "get", "m")
            assert "paused (gate), wave 1 of 2" in tree.out
            assert "eu-1" in tree.out
            assert "fed rollout approve m-1" in tree.out
            assert (await fed("rollout", "status", "m")).code == 7
            assert "eu=100%" in (await fed("get", "rollouts")).out

            done = await fed("rollout", "abort", "m", "--why", "it is worse")
            assert done.code == 0, done.err
            over = await fed("rollout", "status", "m", "--wait", "--timeout", "20s")
            assert over.code == 1
            assert "was rolled back: admin/local aborted it: it is worse" in over.err
            assert state.deployments["m"].target == 1

            words = ("rollout", "start", "m", "--to", "2", *WAVES, "--wait", "--timeout", "20s")
            again = await fed(*words)
            assert again.code == 0, again.err
            assert state.deployments["m"].target == 2
            back = await fed("rollout", "undo", "m", "--wait", "--timeout", "20s")
            assert back.code == 0, back.err
            assert state.deployments["m"].target == 1

            history = await fed("rollout", "history", "m")
            assert [line.split()[:5] for line in history.out.splitlines()[1:]] == [
                ["m-3", "m", "2", "1", "promoted"],
                ["m-2", "m", "1", "2", "promoted"],
                ["m-1", "m", "1", "2", "rolled-back"],
            ]
            told = json.loads((await fed("rollout", "get", "m-1", "-o", "json")).out)
            assert told["status"]["history"][-1]["now"] == "rolled-back"
            assert "RolloutAborted" in (await fed("events")).out
