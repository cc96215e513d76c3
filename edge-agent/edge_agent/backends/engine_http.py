"""HTTP to an engine: one session, and errors in the words of the backend protocol.

Input: method, path and body. Output: an Answer, whatever its status; EngineUnreachable when there
was none. Engines are never asked through a proxy of the environment.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from edge_agent.backends.base import BackendError, EngineUnreachable

_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read whole."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body's JSON; raises BackendError if it is none."""
        try:
            return json.loads(self.body or b"null")
        except ValueError:
            raise BackendError(f"the engine answered no JSON: {one_line(self.text)}") from None


@dataclass(frozen=True, slots=True)
class Binary:
    """A body that is not JSON."""

    data: bytes
    headers: Mapping[str, str]


class EngineHttp:
    """Requests to one base URL."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"EngineHttp({self.url})"

    async def ask(
        self, method: str, path: str, *, body: Any = None, timeout_s: float | None = None
    ) -> Answer:
        """Send a request and read the whole answer; raises EngineUnreachable."""
        async with self.open(method, path, body=body, timeout_s=timeout_s) as response:
            return Answer(response.status, await response.read())

    @asynccontextmanager
    async def open(
        self, method: str, path: str, *, body: Any = None, timeout_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer for reading piece by piece; raises EngineUnreachable.

        A body is sent as JSON, or as it is if it is Binary.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, trust_env=False)
        limit = timeout_s or self._timeout_s
        sent: dict[str, Any] = {"json": body}
        if isinstance(body, Binary):
            sent = {"data": body.data, "headers": dict(body.headers)}
        timeout = aiohttp.ClientTimeout(total=limit, sock_connect=_CONNECT_S)
        try:
            async with self._session.request(
                method, self.url + path, timeout=timeout, **sent
            ) as response:
                yield response
        except TimeoutError:
            raise EngineUnreachable(f"{self.url} did not answer within {limit:g} s") from None
        except aiohttp.ClientError as error:
            reason = one_line(str(error)) or type(error).__name__
            raise EngineUnreachable(f"{self.url} does not answer: {reason}") from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


def one_line(text: str, *, limit: int = 400) -> str:
    """Return text without line breaks, cut to a length that a table can show."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."
