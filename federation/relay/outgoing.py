"""A request as it goes out, and its head as it is written.

Input: what is to be sent, and where to. Output: the bytes of a head; or ConnectFailed for what
cannot be sent.
"""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from federation.relay.failures import ConnectFailed
from federation.relay.http1.exchange import Upstream
from federation.relay.http1.heads import BadMessage, write_head

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!-~]*)?"
)
_BODYLESS = frozenset({"GET", "HEAD"})


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for each attempt
class Outgoing:
    """A request as it goes out; whoever gives `fields` has made sure of them. A whole body may be
    in pieces; a streamed one has its length in `length`, or is sent chunked."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: bytes = b""  # more headers, as lines
    body: bytes | tuple[bytes, ...] | AsyncIterator[bytes] = b""
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A URL, taken apart."""

    secure: bool
    host: str
    port: int
    path: str
    authority: str


@lru_cache(maxsize=4096)
def place_of(url: str) -> Place:
    """Take a URL apart; raises ConnectFailed."""
    found = _URL.fullmatch(url)
    port = int(found["port"] or (443 if found["scheme"] == "https" else 80)) if found else 0
    if found is None or not 0 < port < 65536:
        raise ConnectFailed(f"its URL {url[:200]!r} cannot be dialled")
    authority = found["host"] + (f":{found['port']}" if found["port"] else "")
    host = found["host"].strip("[]")
    return Place(found["scheme"] == "https", host, port, found["path"] or "/", authority)


def send(
    upstream: Upstream, outgoing: Outgoing, place: Place, told: tuple[str, str] | None
) -> None:
    """Send a request on its way; raises ConnectFailed if its head cannot be written."""
    body, method = outgoing.body, outgoing.method
    fields = [("Host", place.authority), *outgoing.headers.items()]
    if told is not None:
        fields.append(told)
    pieces = (body,) if isinstance(body, bytes) else body if isinstance(body, tuple) else None
    length = outgoing.length if pieces is None else sum(map(len, pieces))
    if length is None:
        fields.append(("Transfer-Encoding", "chunked"))
    elif length or method not in _BODYLESS:
        fields.append(("Content-Length", str(length)))
    try:
        head = write_head(f"{method} {place.path} HTTP/1.1", fields)
    except BadMessage as error:
        raise ConnectFailed(str(error)) from None
    if outgoing.fields:
        head = head[:-2] + outgoing.fields + head[-2:]
    if isinstance(body, bytes | tuple):
        upstream.send(head, *(pieces or ()))
    else:
        upstream.send_pieces(head, body, chunked=length is None)
