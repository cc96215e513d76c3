"""How far model versions are at the clusters, as one list.

Input: the State. Output: a row for each model version and cluster. It is read anew as often as
somebody wants to see the numbers move: progress is no change of an object, so nobody can watch it.
"""

from aiohttp import web

from federation.api.bodies import reply
from federation.api.documents_sync import Transfers
from federation.api.route import Route, needs
from federation.control_loop import ControlLoop
from federation.policy.access.roles import Verb
from federation.policy.sync.sync_view import sync_document, sync_rows


class Sync:
    """The handler of /api/v1/sync."""

    def __init__(self, loop: ControlLoop) -> None:
        self._loop = loop

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="GET",
                path="/api/v1/sync",
                summary="List how far each model version is at each cluster",
                handler=self._list,
                needs=needs(Verb.READ, "Transfer", ""),
                answer=Transfers,
                queries={
                    "model": "only of this model",
                    "cluster": "only at this cluster",
                    "region": "only in this region",
                },
            )
        ]

    async def _list(self, request: web.Request) -> web.Response:
        wanted = {k: request.query[k] for k in ("model", "cluster", "region") if k in request.query}
        rows = (sync_document(row) for row in sync_rows(self._loop.state))
        return reply(
            {"items": [row for row in rows if all(row[k] == v for k, v in wanted.items())]}
        )
