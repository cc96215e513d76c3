"""The private side of a router: health, metrics, the table, explanations.

Input: GET requests of operators and of Prometheus on the admin address. Output: text and JSON;
nothing here changes anything.
"""

import msgspec

from federation.contract.errors import Invalid, NotFound
from federation.contract.types import Snapshot
from federation.relay.application import Application, make_application
from federation.relay.http1.messages import Request, Response, StreamResponse
from router.answering import Answering, Document
from router.request.responses import json_response
from router.state import RouterState

_GIVEN = {"address": "from", "tenant": "tenant", "client_key": "client"}


class Admin:
    """Answers on the admin address."""

    def __init__(self, *, state: RouterState, answering: Answering) -> None:
        self._state = state
        self._answering = answering

    def __repr__(self) -> str:
        return f"Admin({self._state.name})"

    def application(self) -> Application:
        """Return an application that hands every request to `handle`."""
        return make_application(self.handle)

    async def handle(self, request: Request) -> StreamResponse:
        """Answer a request; raises FederationError."""
        match request.path:
            case "/healthz":
                return Response(text="ok")
            case "/readyz":
                self._state.require_ready()
                self._answering.require_ready()
                return Response(text=_readiness(self._state))
            case "/metrics":
                return Response(
                    body=await self._answering.metrics(),
                    headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
                )
            case "/table":
                return json_response(await self._table())
            case "/explain":
                return json_response(await self._explain(request))
            case _:
                raise NotFound(
                    "There is nothing at this path.",
                    hint="See /healthz, /readyz, /metrics, /table, /explain?model=M&from=ADDRESS, "
                    "/explain?request=ID.",
                )

    async def _table(self) -> Document:
        table = self._state.require_table()
        in_flight = await self._answering.in_flight()
        clusters = {
            cluster: {
                "rtt_ms": rtt_ms,
                "healthy": healthy,
                "reason": table.unusable.get(cluster) or reason,
                "in_flight": in_flight.get(cluster, 0),
            }
            for cluster, (rtt_ms, healthy, reason) in self._state.health().items()
        }
        age_s = self._state.clock.monotonic_s() - self._state.table_at_s
        return {
            "router": self._state.name,
            "age_s": round(age_s, 1),
            "clusters": clusters,
            "snapshot": _public(table.snapshot),
        }

    async def _explain(self, request: Request) -> Document:
        if request_id := request.query.get("request", ""):
            return await self._answering.record(request_id)
        model = request.query.get("model", "")
        if not model:
            raise Invalid("Which model?", hint="Ask /explain?model=NAME&from=ADDRESS.")
        given = {n: request.query.get(a, "") for n, a in _GIVEN.items()}
        return await self._answering.explain({"reference": model, **given})


def _readiness(state: RouterState) -> str:
    if state.allow_anonymous:
        return "ready; requests without a key are served (--allow-anonymous)"
    return "ready"


def _public(snapshot: Snapshot) -> Document:
    """Return all of a snapshot but who has access: keys' digests and their pepper are secret."""
    document: Document = msgspec.to_builtins(snapshot)
    del document["access"]
    return document
