"""A server of ours: listening sockets, and the connections that are made to them.

Input: an application, limits, where to listen. Output: connections that are served; at the end a
graceful stop: idle ones are closed, requests in flight get a moment, the rest is broken.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable
from typing import Any, Protocol

from federation.relay.connections import Connections
from federation.relay.http1.house import House, Respond
from federation.relay.http1.server import ServerConnection


class Served(Respond, Protocol):
    """An application as the runner sees it."""

    def clean_up(self) -> Awaitable[None]:
        """Release what it holds, once nothing is served any more."""
        ...


class Times(Protocol):
    """What a server grants its clients; `ServerLimits` is one."""

    @property
    def keepalive_s(self) -> float:
        """For idle connections and heads."""
        ...

    @property
    def lingering_s(self) -> float:
        """For what is left of a request after its answer."""
        ...

    @property
    def shutdown_s(self) -> float:
        """For what runs when the server stops."""
        ...


class RelayRunner:
    """Serves one application. `server` makes the protocol of a connection, also of one that was
    dialled, not accepted; it is None before `setup`."""

    def __init__(self, app: Served, *, limits: Times, connections: Connections) -> None:
        self.app = app
        self.open = connections
        self.server: House | None = None
        self.addresses: list[Any] = []
        self._limits = limits
        self._listeners: list[asyncio.Server] = []

    def __repr__(self) -> str:
        return f"RelayRunner({self.addresses}, {self.open})"

    async def setup(self) -> None:
        """Get ready to serve; a second call changes nothing."""
        if self.server is None:
            self.server = House(
                self.app,
                self.open,
                ServerConnection,
                keepalive_s=self._limits.keepalive_s,
                lingering_s=self._limits.lingering_s,
            )

    async def listen(
        self,
        where: tuple[str, int] | socket.socket,
        context: ssl.SSLContext | None,
        *,
        backlog: int,
        handshake_s: float,
        farewell_s: float,
    ) -> None:
        """Accept connections; raises OSError."""
        if self.server is None:
            raise RuntimeError("setup() was not called")
        place: dict[str, Any] = {"sock": where}
        if isinstance(where, tuple):
            place = {"host": where[0], "port": where[1], "reuse_address": True}
        listener = await asyncio.get_running_loop().create_server(
            self.server,
            ssl=context,
            backlog=backlog,
            ssl_handshake_timeout=handshake_s if context else None,
            ssl_shutdown_timeout=farewell_s if context else None,
            **place,
        )
        self._listeners.append(listener)
        self.addresses += [sock.getsockname() for sock in listener.sockets]

    async def cleanup(self) -> None:
        """Stop: no new connections, then as the limits allow."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        house = self.server
        if house is not None:
            house.draining = True
            for connection in list(house.connections):
                connection.drain()
            await _emptied(house, self._limits.shutdown_s)
            for connection in list(house.connections):
                connection.transport.abort()
            await _emptied(house, 1.0)
            self.server = None
            await self.app.clean_up()
        self.open.detach()


async def _emptied(house: House, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while house.connections:
                house.emptied.clear()
                await house.emptied.wait()
