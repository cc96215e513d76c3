"""What a router can be asked about its requests: metrics, decisions, what is in flight.

Input: questions of `admin`. Output: answers. `Here` is a router that is one process; one that is
several asks its workers (`workers.gathering`).
"""

from collections.abc import Mapping
from typing import Protocol

from federation.contract.errors import Unavailable
from router.explain import Document, explain
from router.geo import Locator
from router.metrics.requests import Metrics
from router.state import RouterState

__all__ = ["Answering", "Document", "Here"]


class Answering(Protocol):
    """Whatever knows of all requests of one router."""

    def require_ready(self) -> None:
        """Raise Unavailable, with the reason, unless all that should serve do."""
        ...

    async def metrics(self) -> bytes:
        """Return the text of /metrics."""
        ...

    async def in_flight(self) -> Mapping[str, int]:
        """Return the requests on their way, by cluster."""
        ...

    async def record(self, request_id: str) -> Document:
        """Tell what became of a request; raises NotFound."""
        ...

    async def explain(self, given: Mapping[str, str]) -> Document:
        """Tell where a request would go: `given` are arguments of `router.explain.explain`; raises
        as that does."""
        ...


class Here:
    """A router that is one process."""

    def __init__(self, state: RouterState, metrics: Metrics, locator: Locator) -> None:
        self._state = state
        self._metrics = metrics
        self._locator = locator
        self.listening = False

    def __repr__(self) -> str:
        return f"Here({self._state.name})"

    def require_ready(self) -> None:
        """Raise Unavailable before clients can connect: a router that comes back with a snapshot
        from disk knows where to route before it listens."""
        if not self.listening:
            raise Unavailable(
                f"Router {self._state.name!r} starts: it does not listen for requests yet.",
                hint="Try again in a moment.",
                reason="starting",
            )

    async def metrics(self) -> bytes:
        """Return the text of /metrics."""
        return self._metrics.page()

    async def in_flight(self) -> Mapping[str, int]:
        """Return the requests on their way, by cluster."""
        table = self._state.table
        names = table.endpoints if table is not None else {}
        return {name: self._state.signals.in_flight(name) for name in names}

    async def record(self, request_id: str) -> Document:
        """Tell what became of a request; raises NotFound."""
        return self._state.records.tell(request_id, self._state.name, self._state.clock)

    async def explain(self, given: Mapping[str, str]) -> Document:
        """Tell where a request would go; raises as `router.explain.explain`."""
        return explain(self._state, self._locator, **given)
