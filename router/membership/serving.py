"""What a router's stream to the control plane speaks for: this process, or the workers of one.

Input: snapshots, questions, the wish for counts, all from `watch`. Output: snapshots in use,
answers, counts. `Alone` is a router that is one process; `workers.gathering` the other kind.
"""

from collections.abc import Iterable
from typing import Protocol

from federation.contract.rollout import VersionCounts
from federation.contract.types import Snapshot
from federation.contract.v1 import federation_pb2 as pb
from router.membership.applying import Applier
from router.state import RouterState

Document = dict[str, object]


class Explainer(Protocol):
    """Explains a decision of this router."""

    def __call__(self, model: str, address: str, /, *, client_key: str) -> Document:
        """Say where a request for a model would go that comes from an address."""
        ...


class Serving(Protocol):
    """Whatever answers the requests of one router."""

    async def apply(self, data: bytes) -> Snapshot:
        """Route by the snapshot in these bytes everywhere, and return it; raises Invalid."""
        ...

    async def counts(self) -> tuple[int, Iterable[tuple[VersionCounts, ...]]]:
        """Return the number of this report, which rises, and all counts, model by model."""
        ...

    async def answer(self, request: pb.ExplainRequest) -> Document:
        """Answer a question about a decision; raises FederationError."""
        ...


class Alone:
    """A router that is one process."""

    def __init__(self, state: RouterState, explainer: Explainer) -> None:
        self._state = state
        self._explainer = explainer
        self._applier = Applier(state)

    def __repr__(self) -> str:
        return f"Alone({self._state.name})"

    async def apply(self, data: bytes) -> Snapshot:
        """Route by the snapshot in these bytes, and return it; raises Invalid."""
        return await self._applier.apply(data)

    async def counts(self) -> tuple[int, Iterable[tuple[VersionCounts, ...]]]:
        """Return what was counted since this router started."""
        return self._state.counting.report()

    async def answer(self, request: pb.ExplainRequest) -> Document:
        """Answer a question about a decision; raises FederationError."""
        state = self._state
        if request.request_id:
            return state.records.tell(request.request_id, state.name, state.clock)
        return self._explainer(request.model, request.client_address, client_key=request.client_key)
