"""A pytest plugin: what a module leaves open fails that module, and no innocent one after it.

Input: the modules as they run, and the connections of asyncio's loops. Output: after each module
(with FED_TEST_COLLECT=each after each test) its garbage is collected, so that a socket or file in
it is reported there; a failure may be followed up with that variable and PYTHONTRACEMALLOC=20.
What asyncio leaves open when a loop ends in the midst of something is closed: no test can help it.
"""

import asyncio.selector_events
import asyncio.sslproto
import gc
import os
import socket
import weakref
from collections.abc import Coroutine, Generator, Iterator
from typing import Any

import pytest
from aiohttp import connector, web_app

EACH = os.environ.get("FED_TEST_COLLECT") == "each"
CONNECTIONS: "weakref.WeakSet[connector.Connection]" = weakref.WeakSet()


class Accepting(Coroutine[Any, Any, Any]):
    """The second half of asyncio's accept, which owns the socket only once it has begun.

    A loop makes the transport one turn after it accepted. If the server is closed within this turn,
    or the loop ends, then the socket has no owner: a client that connects as a server stops is
    enough (https://github.com/python/cpython/issues/109564).
    """

    def __init__(self, sock: socket.socket, server: Any, accept: Coroutine[Any, Any, Any]) -> None:
        self._sock, self._server, self._accept = sock, server, accept
        self._begun = False

    def send(self, value: Any) -> Any:
        """Go on, unless the server was closed before the beginning."""
        if not self._begun and self._server is not None and self._server.sockets == ():
            self.close()
            raise StopIteration
        self._begun = True
        return self._accept.send(value)

    def throw(self, *error: Any) -> Any:
        """End it; a task that is cancelled before its first step comes here."""
        self._end()
        return self._accept.throw(*error)

    def close(self) -> None:
        """End it; that of a loop that is closed comes here."""
        self._end()
        self._accept.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._accept.__await__()

    def _end(self) -> None:
        if not self._begun:
            self._sock.close()
            self._begun = True


def let_go(loop: Any) -> None:
    """Abort what a loop that is about to be closed would otherwise leave behind."""
    open_ones = [each for each in loop._transports.values() if each._sock is not None]
    going = [transport for transport in open_ones if _nobodys(transport)]
    if not going or asyncio._get_running_loop() is not None:
        return
    for transport in going:
        transport.abort()
    for _ in range(2):  # the connection is lost, then what spoke TLS over it
        loop.call_soon(loop.stop)
        loop.run_forever()


def forget_closed() -> None:
    """Have connections of closed sessions not complain.

    An answer that nobody reads is released when it has come whole. Where its session is closed
    before that (tritonclient reads no answers to "ready?"), it is garbage in a circle with its
    connection, and which of them goes first is a matter of luck.
    """
    for connection in CONNECTIONS:
        if connection._connector.closed:
            connection._protocol = None


def _nobodys(transport: Any) -> bool:
    """Whether all that tests can do to close a connection was done.

    They closed it, and the far end has not said farewell; or they closed the server that accepted
    it, perhaps before its handshake was done and anybody was told of it.
    """
    server, protocol = transport._server, transport.get_protocol()
    if transport.is_closing() or (server is not None and not server.sockets):
        return True
    over_tls = isinstance(protocol, asyncio.sslproto.SSLProtocol) and protocol._app_transport
    return bool(over_tls and over_tls.is_closing())


def pytest_configure() -> None:
    """See to all connections at their beginning and end, for as long as the process lives."""
    loop: Any = asyncio.selector_events.BaseSelectorEventLoop
    accept, close = loop._accept_connection2, loop.close

    def let_go_and_close(self: Any) -> None:
        if not (self.is_closed() or self.is_running()):
            let_go(self)
            forget_closed()
        close(self)

    loop.close = let_go_and_close

    def accept_owned(self: Any, factory: Any, sock: Any, *others: Any, **named: Any) -> Accepting:
        # extra, sslcontext, server
        server = named.get("server", others[2] if len(others) > 2 else None)
        return Accepting(sock, server, accept(self, factory, sock, *others, **named))

    loop._accept_connection2 = accept_owned
    connection: Any = connector.Connection
    connect = connection.__init__

    def connect_noted(self: connector.Connection, *args: Any) -> None:
        connect(self, *args)
        CONNECTIONS.add(self)

    connection.__init__ = connect_noted


def forget_applications() -> None:
    """Empty aiohttp's table of applications: what is behind them would be another module's garbage,
    and collections take long by hundreds of control planes."""
    web_app._cached_build_middleware.cache_clear()


def pytest_runtest_logfinish() -> None:
    """Let no test leave its applications to the next."""
    forget_applications()


def pytest_collection_finish() -> None:
    """Leave what the imports made out of all collections: it makes them fast."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def module_leaves_nothing_open() -> Iterator[None]:
    """Collect the module's garbage: pytest reports it in the module's last test."""
    yield
    forget_applications()
    gc.collect()


@pytest.fixture(autouse=True)
def test_leaves_nothing_open() -> Iterator[None]:
    """The same for each test, where that was asked for."""
    yield
    if EACH:
        gc.collect()
