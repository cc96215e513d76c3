"""What both ends of a reversed connection agree on.

A cluster behind NAT dials its routers, shows its certificate, and is then the HTTP server on the
connection that it made; the router is the client. Input and output: the words below, and a socket
option. Beside HTTP/1.1 there are two words:

- GOODBYE, from an agent on an idle connection: "do not use this one again, and close it". It is an
  interim response, which a client that has just sent a request ignores: such a request is served
  like any other. So an agent can give up a connection at any time without losing a request.
- WAITING_HEADER, from a router with a request: so many more wait for a connection.
"""

import asyncio
import socket
from collections.abc import Mapping

ALPN = "fed-reverse/1"
GOODBYE = b"HTTP/1.1 102 Processing\r\n\r\n"
WAITING_HEADER = "x-fed-waiting"
_MOST_WAITING = 10_000

# A NAT's entry for an idle connection lives for minutes, on cheap ones for 30 s: the first probe
# comes before, and a peer that vanished without a word is noticed after 35 s.
_KEEPALIVE = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


def keep_open(transport: asyncio.BaseTransport) -> None:
    """Let the kernel probe an idle connection, so that NATs remember it and dead peers show."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # not every system has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def agreed(transport: asyncio.BaseTransport) -> bool:
    """Return whether the TLS handshake agreed on ALPN: the far end knows what this is."""
    tls = transport.get_extra_info("ssl_object")
    return tls is not None and tls.selected_alpn_protocol() == ALPN


def waiting(headers: Mapping[str, str]) -> int:
    """Return how many requests wait for a connection, as a router told; 0 if it told nothing."""
    text = headers.get(WAITING_HEADER, "")
    return min(int(text), _MOST_WAITING) if text.isascii() and text.isdigit() else 0
