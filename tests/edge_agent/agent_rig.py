"""An agent without a link, over the fake engine and a server of packages, for tests of its loop."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import aiohttp

from edge_agent.agent_loop import AgentLoop, AssignmentFile, Inbox
from edge_agent.backends.base import Backend
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.board import Board
from edge_agent.engine_poll import EnginePoll
from edge_agent.gateway.gateway import Gateway
from edge_agent.policy.events import AssignmentReceived, Key, ServingDoubted
from edge_agent.policy.reconcile import Reconciler
from edge_agent.policy.schedule import Patience
from edge_agent.worker import Deadlines, Worker
from federation.contract.types import AssignedVersion, Assignment, VersionState
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.backoff import Backoff
from federation.runtime.clock import SystemClock
from tests.edge_agent.package_server import PackageServer, sync_side

QUICK = Patience(retry=Backoff(first_s=0.05, cap_s=0.2), engine_lost_s=0.3, recheck_s=0.1)
DEADLINES = Deadlines(drain_s=1.0, drain_least_s=0.05, warm_up_s=1.0, load_s=2.0)


async def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Wait until a condition holds, for a limited time."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


class AgentRig:
    """One life of an agent; `engine`, `packages` and `folder` outlive it."""

    def __init__(
        self,
        engine: FakeEngine,
        packages: PackageServer,
        folder: Path,
        *,
        backend: Backend | None = None,
        deadlines: Deadlines = DEADLINES,
    ) -> None:
        self.engine = engine
        self.folder = folder
        self.inbox = Inbox()
        self.backend = backend or FakeBackend(engine)
        self.board = Board(self.backend.kind)
        self.gateway = Gateway(
            self.backend,
            served=lambda: self.board.served,
            on_doubt=lambda m, v, reason: self.inbox.put_nowait(
                ServingDoubted(model=m, version=v, reason=reason)
            ),
        )
        self.sync = sync_side(packages, folder)
        self.worker = Worker(
            backend=self.backend,
            syncer=self.sync.syncer,
            in_flight=self.gateway.in_flight,
            emit=self.inbox.put_nowait,
            deadlines=deadlines,
        )
        self.reconciler = Reconciler(dice=random.Random(1), patience=QUICK)
        self.loop = AgentLoop(
            decider=self.reconciler,
            worker=self.worker,
            inbox=self.inbox,
            board=self.board,
            file=AssignmentFile(folder, cluster="c"),
            clock=SystemClock(),
        )
        self.loop.on_assignment.append(self.sync.syncer.assignment_changed)
        self.poll = EnginePoll(
            backend=self.backend,
            board=self.board,
            emit=self.inbox.put_nowait,
            clock=SystemClock(),
            interval_s=0.05,
        )
        self.url = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._runner = make_runner(self.gateway.application(), ServerLimits(shutdown_s=0.1))

    async def start(self) -> None:
        _, port = await listen(self._runner, "127.0.0.1:0")
        self.url = f"http://127.0.0.1:{port}"
        self.loop.restore()
        running = asyncio.get_running_loop()
        self._tasks = [running.create_task(self.loop.run()), running.create_task(self.poll.run())]

    async def stop(self) -> None:
        """End it; a task that had failed raises here."""
        failed = [task for task in self._tasks if task.done()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.worker.stop()
        await self._runner.cleanup()
        await self.sync.syncer.close()
        await self.backend.close()
        for task in failed:
            task.result()

    def assign(self, generation: int, *versions: tuple[str, int, str], replicas: int = 1) -> None:
        """Send (model, version, digest) as the desired state."""
        assigned = tuple(
            AssignedVersion(model=m, version=v, digest=d, replicas=replicas) for m, v, d in versions
        )
        assignment = Assignment(cluster="c", generation=generation, versions=assigned)
        self.inbox.put_nowait(AssignmentReceived(assignment=assignment))

    def state(self, model: str, version: int) -> VersionState | None:
        """How far a version has come, as the board shows."""
        found = [v.state for v in self.board.versions if (v.model, v.version) == (model, version)]
        return found[0] if found else None

    def warm(self, *keys: Key) -> bool:
        return all(self.state(*key) is VersionState.WARMED for key in keys)

    async def infer(self, model: str, version: int) -> int:
        """Ask through the gateway; return the status."""
        url = f"{self.url}/v2/models/{model}/versions/{version}/infer"
        tensor = {"name": "X", "datatype": "FP32", "shape": [1], "data": [1.5]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"inputs": [tensor]}) as response,
        ):
            await response.read()
            return response.status
