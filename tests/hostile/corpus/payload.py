"""One hostile payload, and the helpers that write them.

`may` lists every request that an engine may be asked on behalf of the payload: none for most. A
lenient proxy in front may repair a payload into one of these; more than one request, or any other,
is a hole. `gateway_may` is what a gateway makes of it, which believes a router's headers. `must`
says that without a proxy the first of `may` does arrive: strictness that breaks honest clients is a
fault too.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

INFER = "/v2/models/m/versions/1/infer"
CHAT = "/v1/chat/completions"
BODY = b'{"inputs": []}'
TAG = "x-session-id"  # passes to the engine: whose request is it?
HIDDEN = "-hidden"  # appended to the tag of a request that is smuggled inside another


class Asked(NamedTuple):
    """A request as an engine sees it; the body without the name of the model."""

    verb: str
    model: str
    body: bytes = b""


MEANT = Asked("infer", "m", BODY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Bytes for one connection."""

    name: str
    why: str
    raw: bytes = field(repr=False)
    may: tuple[Asked, ...] = ()
    must: bool = False
    gateway_may: tuple[Asked, ...] = ()


def request(
    name: str,
    *headers: bytes,
    method: bytes = b"POST",
    target: str | bytes = INFER,
    version: bytes = b"HTTP/1.1",
    body: bytes = b"",
    sized: bool = False,
) -> bytes:
    """Return a request with the payload's tag; `sized` adds the true Content-Length."""
    aim = target if isinstance(target, bytes) else target.encode()
    lines = [b"%s %s %s" % (method, aim, version), b"Host: x", f"{TAG}: {name}".encode()]
    if sized:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, *headers, b"", body))


def hidden(name: str, body: bytes = b'{"inputs": ["hidden"]}') -> bytes:
    """Return a request that a payload tries to smuggle past whoever is in front."""
    return request(name + HIDDEN, body=body, sized=True)


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    """Return a sound chunked body."""
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return sent + b"0\r\n" + trailer + b"\r\n"
