"""Whether others than this agent can reach the engine: it has no lock of its own.

Input: the engine's URL. Output: a sentence of warning for the log, or none. The gateway's mutual
TLS protects nothing if the engine beside it answers everybody.
"""

import asyncio
import contextlib
import logging
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

_PROBE_S = 1.0
_ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))  # RFC 5737, 3849


async def warn_if_exposed(url: str) -> None:
    """Log if the engine, which runs, can be reached from other machines."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if not is_loopback(host):
        log.info("the engine is at %s: let only this agent reach it", host)
        return
    for address in await asyncio.to_thread(own_addresses):
        if await _answers(address, port):
            log.warning(
                "the engine also answers at %s:%d: whoever reaches it there needs no certificate. "
                "Let it listen on loopback, or close the port to others.",
                address,
                port,
            )
            return


def is_loopback(host: str) -> bool:
    """Return whether a host can only be this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_addresses() -> tuple[str, ...]:
    """Return addresses under which other machines may know this one; nothing is sent."""
    found = []
    for elsewhere, family in _ELSEWHERE:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((elsewhere, 9))
            found.append(str(sock.getsockname()[0]))
    return tuple(address for address in found if not is_loopback(address))


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
