"""What clusters have, as two lists: devices and pools.

Input: the State. Output: a row for each device or pool. They are read anew as often as somebody
wants to see the numbers move: use is no change of an object, so nobody can watch it.
"""

from collections.abc import Callable, Iterator

from aiohttp import web

from federation.api.bodies import reply
from federation.api.documents_capacity import Devices, Pools
from federation.api.errors import Handler
from federation.api.route import Route, needs
from federation.control_loop import ControlLoop
from federation.policy.access.roles import Verb
from federation.policy.capacity_view import device_rows, only, pool_rows
from federation.policy.plain import Json
from federation.policy.state import State

_QUERIES = {"cluster": "only of this cluster", "region": "only in this region"}


class CapacityLists:
    """The handlers of /api/v1/devices and /api/v1/pools."""

    def __init__(self, loop: ControlLoop) -> None:
        self._loop = loop

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="GET",
                path=f"/api/v1/{what}",
                summary=f"List the {what} of all clusters",
                handler=self._listing(rows),
                needs=needs(Verb.READ, kind, ""),
                answer=shape,
                queries=_QUERIES,
            )
            for what, kind, rows, shape in (
                ("devices", "Device", device_rows, Devices),
                ("pools", "Pool", pool_rows, Pools),
            )
        ]

    def _listing(self, rows: Callable[[State], Iterator[Json]]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            wanted = {key: request.query[key] for key in _QUERIES if key in request.query}
            return reply({"items": only(rows(self._loop.state), wanted)})

        return handle
