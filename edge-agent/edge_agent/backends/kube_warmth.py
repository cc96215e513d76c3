"""Which replicas of a version have answered a warm-up inference, pod by pod.

Input: pods as Kubernetes lists them. Output: how many of a version's replicas are warm; a pod that
took another's place (its node went, its engine ended) is warmed up before it counts. Kubernetes
sends it requests as soon as it is ready: what is counted here is what we tell others.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from edge_agent.backends.base import BackendError, StagedVersion

log = logging.getLogger(__name__)

RETRY_S = 5.0  # until a pod that failed its warm-up is asked again
Warm = Callable[[str, StagedVersion], Awaitable[None]]  # one inference at a pod's address


class PodWarmth:
    """The warm pods of all versions. A pod is known by its uid."""

    def __init__(self, warm: Warm) -> None:
        self._warm_up = warm
        self._warm: dict[str, set[str]] = {}  # by workload
        self._staged: dict[str, StagedVersion] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        counts = {name: len(pods) for name, pods in self._warm.items()}
        return f"PodWarmth({counts}, {len(self._tasks)} being warmed)"

    @property
    def knows_any(self) -> bool:
        """Whether anything was warmed up in this life of the agent."""
        return bool(self._staged)

    def warmed(self, name: str, staged: StagedVersion, pods: Mapping[str, str]) -> None:
        """Note that all these pods (addresses by uid) have answered."""
        self._staged[name], self._warm[name] = staged, set(pods)

    def forget(self, name: str) -> None:
        """Forget a workload that is gone."""
        self._staged.pop(name, None)
        self._warm.pop(name, None)

    def count(self, name: str, ready: Mapping[str, str]) -> int | None:
        """Return how many of the ready pods are warm, and begin to warm up the others; None if
        nothing is known: whoever loads the version warms it up."""
        staged = self._staged.get(name)
        if staged is None:
            return None
        warm = self._warm[name]
        warm &= ready.keys()
        for uid, address in ready.items():
            if uid not in warm and uid not in self._tasks:
                loop = asyncio.get_running_loop()
                self._tasks[uid] = loop.create_task(self._again(name, staged, uid, address))
        return len(warm)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self, name: str, staged: StagedVersion, uid: str, address: str) -> None:
        try:
            await self._warm_up(address, staged)
        except BackendError as error:
            log.warning("a new pod of %s at %s is not warm: %s", name, address, error)
            await asyncio.sleep(RETRY_S)
        else:
            log.info("a new pod of %s at %s is warm", name, address)
            if self._staged.get(name) is staged:
                self._warm[name].add(uid)
        finally:
            del self._tasks[uid]
