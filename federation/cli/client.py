"""The CLI's own thin HTTP client for the operator API, on the standard library.

Input: an endpoint, a token, and calls from the commands. Output: decoded JSON, a stream of changes,
or a FederationError made from the problem+json answer. A call on a broken connection is sent once
more: reads are safe, and unsafe calls carry an Idempotency-Key that both tries share.
"""

import http.client
import json
import ssl
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from federation.cli.documents import Json
from federation.cli.output import note
from federation.cli.sse import SseEvent, parse_events
from federation.cli.tls import Roots, connection, is_loopback
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Exhausted,
    FederationError,
    Invalid,
    NotFound,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_BY_STATUS: dict[int, type[FederationError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    405: Invalid,
    408: DeadlineExceeded,
    409: Conflict,
    413: TooLarge,
    415: Invalid,
    422: Invalid,
    429: Exhausted,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}
_OCTETS = {"Content-Type": "application/octet-stream"}
_MAX_ANSWER_BYTES = 256 << 20
_STREAM_SILENCE_S = 45.0  # the server writes a heartbeat every 15 s
_LOGIN_HINT = (
    "Log in with: fed login URL --ca-pin PIN --token-file FILE "
    "(on the control plane's own machine: fed login --state-dir DIR)."
)


class LinkBroken(Unavailable):
    """The connection broke while a body was sent; what came whole is kept at the far end."""

    reason = "link-broken"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the server."""

    status: int
    kind: str  # its content type
    data: bytes


class ApiClient:
    """Calls of one command on one control plane; a context manager that closes its connection."""

    def __init__(
        self,
        endpoint: str,
        *,
        token: str = "",
        roots: Roots | None = None,
        timeout_s: float = 30.0,
        unverified: bool = False,
    ) -> None:
        """`unverified` proves nothing about the far end, and never sends a token."""
        self.endpoint = endpoint
        self._token = "" if unverified else token
        self._roots = roots
        self._timeout_s = timeout_s
        self._unverified = unverified
        self._connection: http.client.HTTPConnection | None = None
        parts = urlsplit(endpoint)
        if self._token and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            note(
                f"WARNING: {endpoint} is not encrypted: whoever sees the traffic has your token. "
                "Use https."
            )

    def __repr__(self) -> str:
        return f"ApiClient({self.endpoint}, token={'yes' if self._token else 'no'})"

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -------------------------------------------------------- calls

    def get(self, *path: str, **query: str) -> Json:
        """GET a JSON document; raises FederationError."""
        return self._json(self._call("GET", _target(path, query)))

    def send(
        self,
        method: str,
        *path: str,
        content: Json | None = None,
        idempotency_key: str = "",
        **query: str,
    ) -> Json:
        """PUT, POST or DELETE under an idempotency key, a fresh one unless it is given.

        Raises FederationError.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        data = None
        if content is not None:
            data = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        return self._json(self._call(method, _target(path, query), data, headers))

    def fetch(self, *path: str) -> bytes:
        """GET a document in its very bytes; raises FederationError."""
        return self._call("GET", _target(path, {})).data

    def ask(self, question: bytes, *path: str) -> bytes:
        """POST bytes that change nothing, return those of the answer; raises FederationError."""
        return self._call("POST", _target(path, {}), question, _OCTETS).data

    def stream(self, blocks: Iterator[bytes], *path: str) -> Json:
        """POST a body as it is made. Never sent twice: raises LinkBroken, or FederationError."""
        try:
            answer = self._exchange("POST", _target(path, {}), blocks, _OCTETS)
        except _Broken as error:
            raise LinkBroken(self._unreachable(error).message) from None
        except FederationError:  # perhaps of whoever makes the body: half of it is on its way
            self.close()
            raise
        if answer.status >= 400:
            self.close()  # the rest of the body may still be on its way
        return self._json(self._checked(answer))

    def changes(self, *path: str, last_id: str = "", **query: str) -> Iterator[SseEvent]:
        """Yield the events of one SSE stream until the server ends it or the connection breaks.

        Raises Unavailable when it breaks: the caller may watch again from the last id it saw.
        """
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        self.close()
        try:
            response = self._open("GET", _target(path, query), None, headers)
            if response.status != http.client.OK:
                self._checked(_whole(response))
            if self._connection is not None and self._connection.sock is not None:
                self._connection.sock.settimeout(_STREAM_SILENCE_S)
            yield from parse_events(response)
        except (OSError, http.client.HTTPException, _NeverConnected) as error:
            raise self._unreachable(error) from None
        finally:
            self.close()

    # -------------------------------------------------------- one exchange

    def _call(
        self,
        method: str,
        target: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        try:
            answer = self._exchange(method, target, data, headers or {})
        except _Broken:
            answer = self._finally(lambda: self._exchange(method, target, data, headers or {}))
        return self._checked(answer)

    def _finally(self, exchange: "_Exchange") -> Answer:
        """Do the second and last try."""
        try:
            return exchange()
        except _Broken as error:
            raise self._unreachable(error) from None

    def _exchange(
        self,
        method: str,
        target: str,
        data: bytes | Iterator[bytes] | None,
        headers: Mapping[str, str],
    ) -> Answer:
        """Send one request and read its whole answer; raises _Broken when a retry makes sense."""
        try:
            return _whole(self._open(method, target, data, headers))
        except TimeoutError:
            self.close()
            raise DeadlineExceeded(
                f"the control plane at {self.endpoint} gave no answer in {self._timeout_s:g} s.",
                hint="Try again, or look at its log.",
            ) from None
        except (ConnectionRefusedError, _NeverConnected) as error:
            self.close()
            raise self._unreachable(error) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _Broken(_words(error)) from None

    def _open(
        self,
        method: str,
        target: str,
        data: bytes | Iterator[bytes] | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        connection = self._connected()
        sent = {"Accept": "application/json", "User-Agent": "fed", **headers}
        if self._token:
            sent["Authorization"] = f"Bearer {self._token}"
        prefix = urlsplit(self.endpoint).path
        try:
            connection.request(method, prefix + target, body=data, headers=sent)
        except (BrokenPipeError, ConnectionResetError):
            if data is None:
                raise
            # A server that refuses a body answers before it has read all of it.
        return connection.getresponse()

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            made = connection(
                self.endpoint,
                roots=self._roots,
                timeout_s=self._timeout_s,
                unverified=self._unverified,
            )
            try:
                made.connect()
            except TimeoutError:
                raise _NeverConnected("it does not answer") from None
            except ssl.SSLCertVerificationError as error:
                made.close()
                raise self._unproven(error) from None
            except OSError as error:
                made.close()
                raise _NeverConnected(_words(error)) from None
            self._connection = made
        return self._connection

    def _unreachable(self, error: Exception) -> Unavailable:
        hint = "Start it with `fed-control-plane` or `fed demo up`, or set --endpoint."
        if self.endpoint.startswith("http:") and not isinstance(error, _NeverConnected):
            hint = "Control planes speak HTTPS: use an endpoint that starts with https://."
        return Unavailable(
            f"cannot reach the control plane at {self.endpoint}: {_words(error)}.", hint=hint
        )

    def _unproven(self, error: ssl.SSLCertVerificationError) -> PermissionDenied:
        """The far end is not who it should be: nothing was sent to it."""
        return PermissionDenied(
            f"{self.endpoint} cannot prove to be the control plane: {error.verify_message}.",
            hint="Learn its roots with: fed login URL --ca-pin PIN (`fed ca pin` prints it; on the "
            "control plane's own machine: fed login --state-dir DIR).",
            reason="untrusted-certificate",
        )

    # -------------------------------------------------------- answers

    def _checked(self, answer: Answer) -> Answer:
        """Return the answer of a success; raises the FederationError that any other one means."""
        if 200 <= answer.status < 300:
            return answer
        problem = _object(answer) if "json" in answer.kind else {}
        if not problem:
            raise Unavailable(
                f"{self.endpoint} answered {answer.status}, but not as a control plane does.",
                hint="Is the endpoint right? See `fed config view --show-origin`.",
            )
        reason = str(problem.get("reason") or "")
        cls = _BY_STATUS.get(answer.status, FederationError)
        if cls is Conflict and reason == AlreadyExists.reason:
            cls = AlreadyExists
        hint = str(problem.get("hint") or "") or (_LOGIN_HINT if cls is Unauthenticated else "")
        told = problem.get("detail") or problem.get("title") or f"status {answer.status}"
        raise cls(str(told), hint=hint, reason=reason)

    def _json(self, answer: Answer) -> Json:
        if not answer.data:
            return {}
        document = _object(answer)
        if not document:
            raise Unavailable(
                f"{self.endpoint} answered with something that is no JSON document.",
                hint="Is the endpoint right? See `fed config view --show-origin`.",
            )
        return document


class _Broken(Exception):
    """The connection broke during an exchange; the argument says how."""


class _NeverConnected(Exception):
    """No connection came about; the argument says why."""


class _Exchange(Protocol):
    def __call__(self) -> Answer: ...


def _target(path: tuple[str, ...], query: Mapping[str, str]) -> str:
    segments = "/".join(quote(part, safe="@") for part in path)
    return f"/{segments}?{urlencode(query)}" if query else f"/{segments}"


def _whole(response: http.client.HTTPResponse) -> Answer:
    data = response.read(_MAX_ANSWER_BYTES)
    return Answer(response.status, response.headers.get_content_type(), data)


def _object(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _words(error: Exception) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed, {(error.reason or 'for no stated reason').lower().replace('_', ' ')}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
