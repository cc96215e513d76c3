"""Asks an engine how many requests wait inside it: Triton's page of metrics, Ray's pages.

Input: where the pages are. Output: requests by version; BackendError where they cannot be read.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from edge_agent.backends.base import BackendError
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.policy.events import Key
from edge_agent.policy.queues import queued_of_ray, queued_of_triton

MAX_BYTES = 8 << 20
_DEADLINE_S = 3.0
_NODES = 32  # pages of more nodes are not read
_PIECE = 1 << 16


class QueueSource(Protocol):
    """Where the queues of one engine can be read, and how often that is worth it."""

    every_s: float

    async def read(self) -> Mapping[Key, int]:
        """Return how many requests wait, by version; raises BackendError."""
        ...


class TritonQueues:
    """Triton's own page, which is of this moment."""

    every_s = 1.0

    def __init__(self, metrics_url: str) -> None:
        self._url = metrics_url

    def __repr__(self) -> str:
        return f"TritonQueues({self._url})"

    async def read(self) -> Mapping[Key, int]:
        """Return how many requests wait, by version; raises BackendError."""
        return queued_of_triton(await _page(self._url))


class RayQueues:
    """The pages of all nodes of a Ray cluster, which are some seconds old and take time to make."""

    every_s = 5.0

    def __init__(self, dashboard_url: str, *, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else None
        self._headers = headers
        self._dashboard = EngineHttp(dashboard_url, headers=headers, timeout_s=_DEADLINE_S)

    def __repr__(self) -> str:
        return f"RayQueues({self._dashboard.url})"

    async def read(self) -> Mapping[Key, int]:
        """Return how many requests wait, by version; raises BackendError."""
        try:
            answer = await self._dashboard.ask("GET", "/api/prometheus/sd")
        finally:
            await self._dashboard.close()
        if answer.status != 200:
            raise BackendError(f"Ray names no pages of metrics (status {answer.status})")
        addresses = _addresses(answer.json())
        if not addresses or len(addresses) > _NODES:
            raise BackendError(f"Ray names {len(addresses)} pages of metrics")
        pages = [_page(f"http://{address}/metrics", self._headers) for address in addresses]
        return queued_of_ray(await asyncio.gather(*pages))


def _addresses(told: object) -> list[str]:
    """Return HOST:PORT of each page, from what is meant for Prometheus."""
    groups = told if isinstance(told, list) else []
    lists = [group.get("targets") for group in groups if isinstance(group, dict)]
    found = {str(each) for targets in lists if isinstance(targets, list) for each in targets}
    return sorted(found)


async def _page(url: str, headers: Mapping[str, str] | None = None) -> str:
    http = EngineHttp(url, headers=headers, timeout_s=_DEADLINE_S)
    try:
        async with http.open("GET", "") as response:
            if response.status != 200:
                raise BackendError(f"{url} shows no metrics (status {response.status})")
            page = bytearray()
            async for piece in response.content.iter_chunked(_PIECE):
                page += piece
                if len(page) > MAX_BYTES:
                    raise BackendError(f"{url} shows more than {MAX_BYTES >> 20} MiB")
    finally:
        await http.close()
    return page.decode("utf-8", "replace")
