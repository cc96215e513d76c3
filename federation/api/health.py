"""Open to everyone: liveness, readiness, metrics, and the OpenAPI document.

Input: probes and scrapes. Output: small answers that need no token and tell no secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from federation.api.bodies import reply
from federation.api.metrics import ControlPlaneMetrics
from federation.api.openapi import openapi_document
from federation.api.route import OPEN, Route
from federation.contract.errors import Unavailable
from federation.control_loop import ControlLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The answer of a probe."""

    status: str


class Open:
    """The handlers that need no token."""

    def __init__(self, loop: ControlLoop, metrics: ControlPlaneMetrics, *, version: str) -> None:
        self._loop = loop
        self._metrics = metrics
        self._version = version
        self._document = b""

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="GET",
                path="/healthz",
                summary="The process lives",
                handler=self._live,
                needs=OPEN,
                answer=Health,
            ),
            Route(
                method="GET",
                path="/readyz",
                summary="The state is loaded and a snapshot is published",
                handler=self._ready,
                needs=OPEN,
                answer=Health,
                errors=(Unavailable,),
            ),
            Route(
                method="GET",
                path="/metrics",
                summary="Numbers for Prometheus",
                handler=self._numbers,
                needs=OPEN,
                answer="text/plain",
            ),
            Route(
                method="GET",
                path="/openapi.json",
                summary="This document",
                handler=self._openapi,
                needs=OPEN,
                answer="application/json",
            ),
        ]

    def describe(self, routes: Sequence[Route]) -> dict[str, Any]:
        """Make the OpenAPI document of the whole table, once, and return it."""
        document = openapi_document(routes, version=self._version)
        self._document = msgspec.json.encode(document)
        return document

    async def _live(self, _: web.Request) -> web.Response:
        return reply(Health(status="ok"))

    async def _ready(self, _: web.Request) -> web.Response:
        if not self._loop.is_ready:
            raise Unavailable("the control plane is starting.", hint="Try again soon.")
        return reply(Health(status="ready"))

    async def _numbers(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")
