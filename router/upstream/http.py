"""HTTP to the clusters' gateways: addresses, and giving up on a cluster that stopped answering.

Input: requests from `proxy` and `probe`. Output: answers as streams, or ForwardErrors. The mapping
of addresses (`--connect-to`) is applied here and nowhere else.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

from federation.contract.errors import Invalid
from federation.relay.forward import Deadlines, Forwarder, ForwardError, Outgoing, Upstream


class GivenUp(ForwardError):
    """The cluster was ejected while the request waited for its answer."""


class Upstreams:
    """The gateways of all clusters."""

    def __init__(self, forwarder: Forwarder, connect_to: Sequence[str] = ()) -> None:
        self._forwarder = forwarder
        self._mapping = dict(_parse_mapping(entry) for entry in connect_to)
        self._waiting: dict[str, set[asyncio.Timeout]] = {}

    def __repr__(self) -> str:
        waiting = {name: len(scopes) for name, scopes in self._waiting.items() if scopes}
        return f"Upstreams(mapping={self._mapping}, waiting={waiting})"

    def dialled(self, url: str) -> str:
        """Return the URL that is really dialled for an advertised one."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        other = self._mapping.get(f"{parts.hostname}:{port}")
        path = parts.path.rstrip("/")
        return urlunsplit((parts.scheme, other or parts.netloc.rpartition("@")[2], path, "", ""))

    @asynccontextmanager
    async def send(
        self, cluster: str, outgoing: Outgoing, *, deadlines: Deadlines
    ) -> AsyncIterator[Upstream]:
        """Send a request to a cluster and hold its answer; raises ForwardError."""
        async with AsyncExitStack() as stack:
            waiting = self._waiting.setdefault(cluster, set())
            scope = asyncio.timeout(None)
            try:
                async with scope:
                    waiting.add(scope)
                    try:
                        sending = self._forwarder.send(outgoing, deadlines=deadlines)
                        upstream = await stack.enter_async_context(sending)
                    finally:
                        waiting.discard(scope)
            except TimeoutError:
                raise GivenUp("it stopped answering probes") from None
            yield upstream

    def give_up(self, cluster: str) -> int:
        """End all requests that wait for a first byte of this cluster; return how many."""
        scopes = self._waiting.pop(cluster, set())
        now = asyncio.get_running_loop().time()
        for scope in scopes:
            scope.reschedule(now)
        return len(scopes)

    async def close(self) -> None:
        """Close all connections."""
        await self._forwarder.close()


def _parse_mapping(entry: str) -> tuple[str, str]:
    advertised, separator, other = entry.partition("=")
    if not (separator and _is_address(advertised) and _is_address(other)):
        raise Invalid(
            f"--connect-to {entry!r} is not understood.",
            hint="Use HOST:PORT=HOST:PORT: what is advertised, then what to dial instead.",
        )
    return advertised.lower(), other


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536
