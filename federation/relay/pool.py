"""Pools of connections that look at the certificate of a connection whenever they hand it out.

Input: requests of an aiohttp session. Output: connections, made or kept from before; or Refused,
in which case nothing was sent. TLS checks a certificate in the handshake only: that it has expired
or was revoked since is found here. How connections come about is for subclasses to say.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

_ALERT = re.compile(
    r"\b(?:SSLV3|TLSV1|TLSV13)_ALERT_(\w*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)\w*)"
)

# Takes what `getpeercert` told of a connection; returns why it may not be used, "" if it may.
Vet = Callable[[Mapping[str, Any]], str]


class Refused(aiohttp.ClientConnectionError):
    """No connection that may be used; the argument says why, in words. Nothing was sent."""


class VettedConnector(aiohttp.BaseConnector):
    """A pool that asks `vet` about each TLS connection when a request gets it."""

    vet: Vet | None = None

    def __init__(self, **settings: Any) -> None:  # Any: whatever the other base takes
        super().__init__(**settings)
        self._known: WeakSet[ResponseHandler] = WeakSet()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._known)} connections)"

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's signature
    ) -> Connection:
        """Return a connection for a request; raises Refused, or as aiohttp does."""
        while True:
            connection = await self._take(super().connect(req, traces, timeout))
            protocol = connection.protocol
            new = protocol not in self._known
            if protocol is not None:
                self._known.add(protocol)
            if not (problem := self._problem(connection)):
                return connection
            connection.close()
            if new:  # another new one would show the same certificate
                raise Refused(problem)

    async def _take(self, connecting: Awaitable[Connection]) -> Connection:
        try:
            return await connecting
        except (aiohttp.ClientConnectorError, TimeoutError):
            raise
        except aiohttp.ClientConnectionError as error:  # this pool was closed meanwhile
            raise Refused(str(error)) from None

    def _problem(self, connection: Connection) -> str:
        if self.vet is None or connection.transport is None:
            return ""
        certificate = connection.transport.get_extra_info("peercert")
        return self.vet(certificate) if certificate else ""

    def sever(self, why: Vet) -> int:
        """Break the TLS connections about which `why` has something to say, also those in use: what
        runs on them fails. Return how many."""
        broken = 0
        for protocol in list(self._known):
            transport = protocol.transport
            certificate = transport.get_extra_info("peercert") if transport else None
            if transport and certificate and why(certificate):
                transport.abort()
                broken += 1
        return broken


class DiallingConnector(VettedConnector, aiohttp.TCPConnector):
    """The usual pool, whose connections are dialled."""


def words(error: Exception) -> str:
    """Return in one line what went wrong with a connection."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause: Exception = error.certificate_error
        why = getattr(cause, "verify_message", "") or str(cause)
        return f"its certificate is not accepted: {why.rstrip('.')}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        why = getattr(error.os_error, "reason", "") or str(error.os_error)
        return f"no secure connection to {error.host}:{error.port}: {_plain(why)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}"
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:200]


def refused_by_peer(error: Exception) -> str:
    """Return why the peer refused our certificate, "" if that is not what happened.

    In TLS 1.3 a client learns it after its own handshake is done and the request is sent; but the
    server's handshake has failed, so that nothing of the request was read.
    """
    found = _ALERT.search(str(error)) if isinstance(error, OSError) else None
    return f"it refused our certificate: {_plain(found[1])}" if found else ""


def _plain(reason: str) -> str:
    return reason.lower().replace("_", " ")
