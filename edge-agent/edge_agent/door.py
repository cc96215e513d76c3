"""How routers reach the gateway: they dial it, or the agent dials them.

Input: the gateway's application, the credentials. Output: the application served over mutual TLS,
to routers and, for packages, to clusters, as soon as there is a certificate. Before that nobody
gets as far as a handshake.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from edge_agent.reverse import ReverseDialler
from federation.contract.trust import RouterAddress
from federation.relay.application import Application
from federation.relay.server import ServerLimits, listen, make_runner, reserve
from federation.trust.credentials import Credentials

log = logging.getLogger(__name__)

Address = tuple[str, int]
SHUTDOWN_S = 1.0


class Door(Protocol):
    """One of the two ways."""

    async def open(self) -> Address | None:
        """Get ready; return where routers can connect to. Raises as `listen` does."""
        ...

    async def run(self) -> None:
        """Serve; returns when there is nothing left to look after."""
        ...

    async def close(self) -> None:
        """Stop serving."""
        ...


class ListeningDoor:
    """Routers dial. The port is taken at once and refuses everybody until there is a certificate:
    that it is in use is known before this cluster joins."""

    def __init__(
        self,
        application: Application,
        address: str,
        *,
        credentials: Credentials,
        joined: Callable[[], Awaitable[None]],
    ) -> None:
        self._runner = make_runner(application, ServerLimits(shutdown_s=SHUTDOWN_S))
        self._address = address
        self._credentials = credentials
        self._joined = joined
        self._socket: socket.socket | None = None

    async def open(self) -> Address | None:
        """Take the port; serve at once with the certificate of an earlier run."""
        if self._credentials.complete:
            return await listen(self._runner, self._address, self._credentials.server_context())
        self._socket = await asyncio.to_thread(reserve, self._address)
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    async def run(self) -> None:
        """Serve as soon as there is a certificate."""
        if self._socket is None:
            return
        await self._joined()
        address = await listen(self._runner, self._socket, self._credentials.server_context())
        self._socket = None  # it is the runner's now
        log.info("the gateway serves routers on %s:%d", *address)

    async def close(self) -> None:
        """Close the port; requests in flight get a moment."""
        if self._socket is not None:
            self._socket.close()
        await self._runner.cleanup()


class ReverseDoor:
    """The agent dials. Nothing listens."""

    def __init__(
        self,
        dialler: ReverseDialler,
        *,
        routers: Callable[[], tuple[RouterAddress, ...]],
        joined: Callable[[], Awaitable[None]],
    ) -> None:
        self.dialler = dialler
        self._routers = routers
        self._joined = joined

    async def open(self) -> Address | None:
        """Get ready; the routers of the last run are dialled as soon as this runs."""
        await self.dialler.start()
        return None

    async def run(self) -> None:
        """Keep up connections to the routers, once there is a certificate to show."""
        await self._joined()
        self.dialler.use(self._routers())
        await self.dialler.run()

    def routers_changed(self) -> None:
        """Dial the routers that are known now."""
        self.dialler.use(self._routers())

    async def close(self) -> None:
        """Give up the connections."""
        await self.dialler.close(SHUTDOWN_S)
