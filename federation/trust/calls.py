"""One call to the open routes of a control plane, made over TLS that we check ourselves.

Input: where the control plane is, and which roots its certificate must be below. Output: its
answer, or what went wrong as an error with a remedy. No proxy, no redirect, no cookie; answers are
bounded in size and time.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from federation.contract.errors import (
    Conflict,
    Exhausted,
    FederationError,
    Invalid,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from federation.trust.pins import check_pin

_MAX_ANSWER_BYTES = 4 << 20
_BY_STATUS: Mapping[int, type[FederationError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: Exhausted,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """How to find the control plane: https URL, pin (`sha256:<hex>`) and the join token's file.

    Pin and token are needed until this process has joined. `timeout_s` bounds each call.
    """

    url: str
    pin: str = ""
    token_file: Path | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        check_url(self.url)
        if self.pin:
            check_pin(self.pin)


def check_url(url: str) -> str:
    """Return `url` if it is an https URL of a control plane; raises Invalid."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise Invalid(
            f"--control-plane-url {url!r} is no URL of a control plane.",
            hint="Use https://HOST:PORT: control planes speak no plain HTTP.",
        )
    return url


class _Problem(msgspec.Struct):
    detail: str = ""
    hint: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request; the server must prove `server_name` unless the context asks for no proof."""

    method: str
    path: str
    context: ssl.SSLContext
    server_name: str | None = None
    document: object = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    data: bytes


async def call(contact: Contact, sent: Sent) -> Answer:
    """Return the answer of a success; raises the FederationError that any other one means."""
    timeout = aiohttp.ClientTimeout(total=contact.timeout_s)
    jar = aiohttp.DummyCookieJar()
    try:
        async with (
            aiohttp.ClientSession(
                timeout=timeout, cookie_jar=jar, auto_decompress=False
            ) as session,
            session.request(
                sent.method,
                contact.url.rstrip("/") + sent.path,
                data=None if sent.document is None else msgspec.json.encode(sent.document),
                headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
                ssl=sent.context,
                server_hostname=sent.server_name,
                allow_redirects=False,  # it could lead the token to someone else
            ) as response,
        ):
            answer = Answer(response.status, await _whole(contact, response))
    except aiohttp.ClientConnectorCertificateError as error:
        raise _unproven(contact, error) from None
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        told = _words(error)
        raise Unavailable(f"cannot reach the control plane at {contact.url}: {told}.") from None
    if answer.status in (200, 202):
        return answer
    raise _refusal(contact, answer)


async def _whole(contact: Contact, response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > _MAX_ANSWER_BYTES:
            raise no_control_plane(contact)
    return bytes(data)


def trusting_nobody() -> ssl.SSLContext:
    """Return the context of the one call before anything is known; nothing secret goes there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def demanding(roots: str) -> ssl.SSLContext:
    """Return the context of calls whose far end must be below one of these roots.

    No certificate of ours is shown: an expired one would end the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=roots)
    return context


def _unproven(contact: Contact, error: aiohttp.ClientConnectorCertificateError) -> Unauthenticated:
    cause = error.certificate_error
    told = getattr(cause, "verify_message", "") or str(cause)
    return Unauthenticated(
        f"{contact.url} does not prove to be our control plane: {told}.",
        hint="Something else answers there, its root was replaced, or this machine's clock is off.",
        reason="wrong-ca",
    )


def no_control_plane(contact: Contact, status: int = 200) -> Unavailable:
    """Return the error for an answer that no control plane gives."""
    return Unavailable(
        f"{contact.url} answered {status}, but not as a control plane does.",
        hint="Look at --control-plane-url.",
    )


def _refusal(contact: Contact, answer: Answer) -> FederationError:
    """Return what the control plane refused with, in its own words."""
    try:
        problem = msgspec.json.decode(answer.data, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem()
    if not problem.detail:
        return no_control_plane(contact, answer.status)
    cls = _BY_STATUS.get(answer.status, Unavailable)
    return cls(problem.detail, hint=problem.hint, reason=problem.reason)


def _words(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, TimeoutError):
        return "it does not answer in time"
    if isinstance(cause, OSError) and cause.errno and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    return str(cause) or type(cause).__name__
