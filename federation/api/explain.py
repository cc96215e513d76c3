"""Why would a request go where? Asked of every connected router, over its own stream.

Input: a model and a client's address, or the id of a request that was answered. Output: what each
router says.
"""

import ipaddress
from dataclasses import dataclass

from aiohttp import web

from federation.api.bodies import reply
from federation.api.route import Route, needs
from federation.api.routers import RouterExplanation, RouterHub
from federation.contract.errors import Invalid
from federation.policy.access.roles import Verb

_LONGEST_ID = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanations:
    """What each connected router says; the list is empty when none is connected."""

    routers: tuple[RouterExplanation, ...]


class Explain:
    """The handler of /api/v1/routes/explain."""

    def __init__(self, hub: RouterHub) -> None:
        self._hub = hub

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="GET",
                path="/api/v1/routes/explain",
                summary="Ask the routers where a request would go or went, and why",
                handler=self._explain,
                needs=needs(Verb.READ, "Route", ""),
                answer=Explanations,
                queries={
                    "model": "the model, as name, name@version or name@alias",
                    "from": "the client's IP address",
                    "client": "its session, user or sequence: the same one gets the same version",
                    "request": "instead of both: the x-request-id of a request that was answered",
                },
                errors=(Invalid,),
            )
        ]

    async def _explain(self, request: web.Request) -> web.Response:
        if request_id := request.query.get("request", ""):
            if len(request_id) > _LONGEST_ID or len(request.query) > 1:
                raise Invalid(
                    "a request id stands alone, and is 128 characters long at most.",
                    hint="Ask ?request=X-REQUEST-ID.",
                )
            told = await self._hub.explain("", "", request_id=request_id)
            return reply(Explanations(routers=tuple(told)))
        model, address = request.query.get("model", ""), request.query.get("from", "")
        if not model or len(model) > 256:
            raise Invalid(
                "which model?", hint="Add ?model=NAME&from=ADDRESS, or ?request=X-REQUEST-ID."
            )
        try:
            client = ipaddress.ip_address(address)
        except ValueError:
            raise Invalid(
                f"{address[:64]!r} is no IP address.", hint="Add &from=ADDRESS, like 203.0.113.7."
            ) from None
        key = request.query.get("client", "")[:256]
        told = await self._hub.explain(model, str(client), client_key=key)
        return reply(Explanations(routers=tuple(told)))
