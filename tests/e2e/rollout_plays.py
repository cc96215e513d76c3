"""Rollouts that together take every transition of the table that can be driven from outside.

Input: the operator API of a control plane that is killed again and again, agents and a router.
Output: plays, each with a model of its own, whose name it returns in the end, after assertions of
how it all ended.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.e2e.rollout_journal import Told
from tests.e2e.rollout_peers import FakeAgent, FakeRouter, World
from tests.fakes.control_plane import LOCATION, Answer, Operator

PATIENCE_S = 120.0  # for what takes a second or two, with some kills in between
WAVES = [{"regions": ["eu"]}, {"regions": ["*"]}]
GATED = [{"regions": ["eu"], "approval": True}, {"regions": ["*"], "approval": True}]
ALWAYS = [{"start": "00:00", "end": "12:00"}, {"start": "12:00", "end": "00:00"}]
FOREVER_S = 3600.0


@dataclass
class Stage:
    """What all plays have in common."""

    world: World
    api: Operator
    agents: list[FakeAgent]
    router: FakeRouter
    models: "itertools.count[int]"
    keys: "itertools.count[int]"
    pushing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def call(self, method: str, path: str, body: object = None) -> Answer:
        """Call the API, again after each kill, under one key: it acts once."""
        key = {"Idempotency-Key": f"k{next(self.keys)}"}
        answer = await self.insist(lambda: self.api.call(method, path, body, headers=key))
        assert answer.status in (200, 201), (method, path, answer.body)
        return answer

    async def insist(self, act: Callable[[], Awaitable[Answer]]) -> Answer:
        while True:
            await self.world.alive.wait()
            try:
                answer = await act()
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            if answer.status != 503:
                return answer

    async def freeze(self, *windows: dict[str, str]) -> None:
        spec = {"location": LOCATION, "freeze": [*windows]}
        document = {"apiVersion": "federation/v1", "kind": "Region"}
        document |= {"metadata": {"name": "frost"}, "spec": spec}  # type: ignore[dict-item]
        await self.call("PUT", "/api/v1/regions/frost", document)


class Play:
    """A model, its deployment, and rollouts of it."""

    def __init__(self, stage: Stage, *regions: str) -> None:
        self.stage, self.temper = stage, stage.world.temper
        self.regions = regions or ("eu", "us")
        self.model = f"m{next(stage.models)}"

    async def begin(self, **more: object) -> "Play":
        """Have version 1 of the model served, with three more pushed."""
        for version in range(1, 5):
            pushed = await self.stage.insist(lambda v=version: self._push(v))  # type: ignore[misc]
            assert pushed.status in (200, 201), pushed.body
        await self.deploy(1, **more)
        await self.eventually(lambda: self.served() == {1}, "version 1 is assigned")
        return self

    async def _push(self, version: int) -> Answer:
        key = {"Idempotency-Key": f"{self.model}-{version}"}
        async with self.stage.pushing:  # uploads at once are bounded
            return await self.stage.api.push(self.model, f"weights {version}".encode(), headers=key)

    async def deploy(self, version: int, **more: object) -> None:
        spec = {"model": self.model, "version": version, "regions": list(self.regions), **more}
        document = {"apiVersion": "federation/v1", "kind": "Deployment"}
        document |= {"metadata": {"name": self.model}, "spec": spec}  # type: ignore[dict-item]
        await self.stage.call("PUT", f"/api/v1/deployments/{self.model}", document)

    async def start(self, version: int = 2, **strategy: object) -> None:
        first: dict[str, object] = {"waves": WAVES, "steps": [50, 100], "bake_s": 0}
        first |= {"analysis": {"enabled": False}} | strategy
        if "frost" in self.regions:
            first["waves"] = []
        spec = {"model": self.model, "version": version, "strategy": first}
        await self.stage.call("POST", "/api/v1/rollouts", {"spec": spec})

    async def steer(self, verb: str, **more: object) -> None:
        await self.stage.call("POST", f"/api/v1/rollouts/{self.model}/{verb}", more)

    async def delete(self) -> None:
        self.temper.deleted.add(self.model)
        await self.stage.call("DELETE", f"/api/v1/deployments/{self.model}")

    def put(self, kind: set[tuple[str, int]], version: int = 2, *, to: bool = True) -> None:
        """Change what a version does at all clusters."""
        (kind.add if to else kind.discard)((self.model, version))
        self.stage.world.nudge()

    def rollout(self, number: int = -1) -> Told:
        return self.stage.world.journal.of_model(self.model)[number]

    async def until(self, phase: str, number: int = -1) -> None:
        """Wait until a rollout of the model was committed in a phase."""

        def there() -> bool:
            told = self.stage.world.journal.of_model(self.model)
            return len(told) > max(number, -number - 1) and told[number].phase == phase

        await self.eventually(there, f"rollout {number} is {phase}")

    def served(self) -> set[int]:
        """Return the versions of the model that any cluster is to serve."""
        return {v for agent in self.stage.agents for v in agent.serving(self.model)}

    async def eventually(self, holds: Callable[[], bool], words: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            told = self.stage.world.journal.of_model(self.model)
            raise AssertionError(f"never: {self.model}: {words}; {told}") from None

    async def ends_with(self, version: int) -> None:
        """Check that all clusters serve one version, and routers know of no other."""
        mine = [a for a in self.stage.agents if a.serving(self.model)]
        assert mine or not version

        def there() -> bool:
            alone = all(a.serving(self.model) == {version} for a in mine)
            return alone and self.stage.router.route(self.model) == (version, 0)

        await self.eventually(there, f"it ends with version {version}")

    async def forget(self) -> None:
        """Delete the rollout that was asked for first."""
        await self.stage.call("DELETE", f"/api/v1/rollouts/{self.model}-1")

    async def is_gone(self) -> None:
        await self.eventually(lambda: not self.served(), "nothing is served")
        assert all(told.phase == "failed" for told in self.stage.world.journal.of_model(self.model))


# ------------------------------------------------------------ what is done to a rollout


async def hurry(play: Play, _phase: str) -> None:
    await play.steer("promote", full=True)
    release(play)
    await play.until("promoted")
    await play.ends_with(2)


async def rest(play: Play, _phase: str) -> None:
    await play.steer("pause")
    await play.steer("resume")
    await abort(play, _phase)


async def abort(play: Play, _phase: str) -> None:
    await play.steer("abort")
    release(play)
    await play.until("rolled-back")
    await play.ends_with(1)
    await play.forget()


async def fail(play: Play, _phase: str) -> None:
    play.put(play.temper.broken)
    await play.eventually(lambda: "judged bad" in play.rollout().events, "it is judged bad")
    release(play)
    await play.until("rolled-back")
    await play.ends_with(1)


async def supersede(play: Play, _phase: str) -> None:
    await play.start(3)
    release(play)
    await play.until("rolled-back", 0)
    await play.until("promoted", 1)
    await play.ends_with(3)


async def orphan(play: Play, _phase: str) -> None:
    await play.delete()
    release(play)
    await play.until("failed")
    await play.is_gone()


def release(play: Play) -> None:
    """Let go on what was held back."""
    play.put(play.temper.slow, to=False)
    play.stage.router.acknowledges.set()


Act = Callable[[Play, str], Awaitable[None]]
Performance = Callable[["Stage"], Coroutine[Any, Any, str]]
ACTS: tuple[Act, ...] = (hurry, rest, abort, fail, supersede, orphan)


def during(phase: str, act: Act) -> Performance:
    """Return a play that brings a rollout to a phase, keeps it there, and acts."""

    async def perform(stage: Stage) -> str:
        play = await Play(stage).begin()
        if phase == "staging":
            play.put(play.temper.slow)
        if phase == "progressing":
            stage.router.acknowledges.clear()
        await play.start(bake_s=FOREVER_S)
        if phase == "paused":
            await play.until("baking")
            await play.steer("pause")
        await play.until(phase)
        await act(play, phase)
        return play.model

    perform.__name__ = f"{act.__name__}_while_{phase}"
    return perform


# ------------------------------------------------------------ plays of their own


async def straight(stage: Stage) -> str:
    play = await Play(stage).begin()
    await play.start()
    await play.until("promoted")
    await play.ends_with(2)
    play.put(play.temper.may_return, 1)
    await stage.call("POST", f"/api/v1/models/{play.model}/undo", {})
    await play.until("promoted", 1)
    await play.ends_with(1)
    await play.forget()
    return play.model


async def gated(stage: Stage) -> str:
    play = await Play(stage).begin()
    await play.start(waves=GATED)
    await play.until("paused")
    await play.steer("approve")
    await play.eventually(lambda: play.rollout().events.count("held") == 2, "the second gate")
    await play.steer("pause")
    await play.steer("resume")
    await play.eventually(lambda: play.rollout().events.count("held") == 3, "the gate again")
    await play.steer("approve")
    await play.until("promoted")
    await play.ends_with(2)
    return play.model


async def refused(stage: Stage) -> str:
    """The strategy leaves a region out: nothing begins, and nobody is moved."""
    strategy: dict[str, Any] = {"waves": [{"regions": ["eu"]}], "analysis": {"enabled": False}}
    play = await Play(stage).begin(rollout=strategy)
    await play.deploy(2, rollout=strategy)
    await play.until("failed")
    await play.ends_with(1)
    await play.forget()
    return play.model


async def frozen(stage: Stage) -> str:
    play = await Play(stage, "frost").begin()
    play.put(play.temper.slow)
    await play.start()
    await play.until("staging")
    await stage.freeze(*ALWAYS)
    release(play)
    await play.until("paused")
    await stage.freeze()
    await play.until("promoted")
    await play.ends_with(2)
    return play.model


async def judged(stage: Stage) -> str:
    """Routers tell of errors: what was counted before a kill counts after it, once."""
    play = await Play(stage).begin()
    play.put(play.temper.faulty)
    await play.start(bake_s=1, analysis={"min_requests": 20})
    await play.until("rolled-back")
    play.put(play.temper.faulty, to=False)
    await play.ends_with(1)
    return play.model


def queued(act: Callable[[Play], Awaitable[None]]) -> Performance:
    """Return a play in which a rollout waits for another that cannot end."""

    async def perform(stage: Stage) -> str:
        play = await Play(stage).begin()
        play.put(play.temper.stuck)
        await play.start(bake_s=FOREVER_S)
        await play.until("baking")
        await play.start(3)
        await play.until("rolling-back", 0)
        assert play.rollout(1).phase == "pending"
        await act(play)
        return play.model

    perform.__name__ = f"{act.__name__}_while_queued"
    return perform


async def abort_queued(play: Play) -> None:
    await play.steer("pause")
    await play.steer("resume")
    await play.steer("abort")
    await play.until("rolled-back", 1)
    play.put(play.temper.stuck, to=False)
    await play.until("rolled-back", 0)
    await play.ends_with(1)


async def supersede_queued(play: Play) -> None:
    await play.start(4)
    await play.until("rolled-back", 1)
    play.put(play.temper.stuck, to=False)
    await play.until("promoted", 2)
    await play.ends_with(4)


async def orphan_queued(play: Play) -> None:
    await play.delete()
    await play.until("failed", 1)
    play.put(play.temper.stuck, to=False)
    await play.is_gone()


TOGETHER: tuple[Performance, ...] = (
    straight,
    gated,
    refused,
    frozen,
    judged,
    *map(queued, (abort_queued, supersede_queued, orphan_queued)),
    *(during(phase, act) for phase in ("staging", "baking") for act in ACTS),
    *(during("paused", act) for act in ACTS if act is not rest),
)
# The router keeps silent meanwhile.
ALONE: tuple[Performance, ...] = tuple(during("progressing", act) for act in ACTS)
