"""For tests of what follows an API server: a door that counts, patience of a twentieth."""

import asyncio
from collections.abc import Callable
from typing import Any

from federation.kube.access import KubeAccess
from federation.kube.api import KubeApi
from federation.kube.watching import WatchPatience
from federation.runtime.backoff import Backoff

# A twentieth of what the product waits, but for watches: the API counts these in whole seconds.
GAP_S = 0.05
SHORT = WatchPatience(
    gap_s=GAP_S,
    broken=Backoff(first_s=0.05, cap_s=0.75),
    refused_s=3.0,
    watch_s=1.0,
    spread=0.0,
)


class CountingApi(KubeApi):
    """Notes when it asked for what; also where nobody is there to be asked."""

    def __init__(self, access: KubeAccess) -> None:
        super().__init__(access)
        self.asked: list[tuple[float, str]] = []

    def _ask(self, method: str, path: str, **rest: Any) -> Any:
        kind = "watch" if (rest.get("query") or {}).get("watch") else "list"
        now = asyncio.get_running_loop().time()
        self.asked.append((now, f"{kind} {path.rpartition('/')[2]}"))
        return super()._ask(method, path, **rest)

    def times(self, plural: str, *, since: float = 0.0) -> list[float]:
        return [at for at, what in self.asked if what.endswith(f" {plural}") and at >= since]


def busiest(times: list[float], window_s: float) -> int:
    """The most requests that began within a window."""
    return max((sum(t <= other < t + window_s for other in times) for t in times), default=0)


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
