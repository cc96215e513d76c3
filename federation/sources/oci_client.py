"""A small client for registries of containers and artifacts (OCI distribution specification 1.1).

Input: a registry, a repository, digests and tags. Output: manifests and blobs as bytes; nothing
here believes them. Tokens and passwords go to the registry and to the token server that it names,
by https (plain http only on this machine); a redirect to another host carries neither.
"""

import http.client
import json
import re
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from federation.contract.errors import (
    Exhausted,
    FederationError,
    Invalid,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from federation.sources.docker_login import Login

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MAX_MANIFEST_BYTES = 4 << 20  # the specification asks registries for at least that much
_MAX_TOKEN_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_TIMEOUT_S = 30.0
_MAX_REDIRECTS = 5
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Repository:
    """Where an artifact lives: `registry` is host[:port], `name` the path below it."""

    registry: str
    name: str

    @property
    def url(self) -> str:
        """The address of its API."""
        host = "registry-1.docker.io" if self.registry == "docker.io" else self.registry
        return f"{_scheme(host)}://{host}/v2/{self.name}"


class OciClient:
    """Reads one repository."""

    def __init__(self, repository: Repository, login: Login | None = None) -> None:
        self.repository = repository
        self._login = login
        self._authorization = ""
        self._opener = urllib.request.build_opener(_NoRedirects)

    def __repr__(self) -> str:
        return f"OciClient({self.repository.registry}/{self.repository.name})"

    def manifest(self, reference: str) -> bytes:
        """Return the bytes of a manifest, by tag or digest; raises NotFound, PermissionDenied,
        Unavailable, Invalid if it is too long."""
        url = f"{self.repository.url}/manifests/{reference}"
        with self._get(url, {"Accept": ", ".join(MANIFEST_TYPES)}) as answer:
            data: bytes = answer.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise Invalid(f"the manifest {reference} has more than {MAX_MANIFEST_BYTES} bytes.")
        return data

    def blob(self, digest: str, start: int) -> Iterator[bytes]:
        """Yield the bytes of a blob from `start` on; raises as `manifest` does."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._get(f"{self.repository.url}/blobs/{digest}", headers) as answer:
            skip = start if answer.status == 200 else 0  # then it does not know ranges
            if answer.status == 206 and not _begins_at(answer, start):
                raise Unavailable(f"the registry answered with another range of {digest}.")
            while block := answer.read(_BLOCK_BYTES):
                if kept := block[skip:]:
                    yield kept
                skip = max(0, skip - len(block))

    @contextmanager
    def _get(self, url: str, headers: dict[str, str]) -> Iterator[Any]:
        """Yield an answer of 200 or 206; gets a token if one is asked for."""
        what = f"oci://{self.repository.registry}/{self.repository.name}"
        try:
            try:
                answer = self._follow(url, headers)
            except urllib.error.HTTPError as refused:
                if refused.code != 401:
                    raise
                with refused:
                    challenge = refused.headers.get("WWW-Authenticate", "")
                self._authorization = self._authorize(challenge)
                answer = self._follow(url, headers)
            with answer:
                yield answer
        except urllib.error.HTTPError as error:
            raise _meaning(error, what) from None
        except (OSError, http.client.HTTPException) as error:
            words = str(getattr(error, "reason", "") or error) or type(error).__name__
            raise Unavailable(f"cannot read {what}: {words[:200]}.") from None

    def _follow(self, url: str, headers: dict[str, str]) -> Any:
        home = urlsplit(url)[:2]
        for _ in range(_MAX_REDIRECTS):
            _check_url(url)
            request = urllib.request.Request(url, headers=headers)  # noqa: S310  # checked above
            if self._authorization and urlsplit(url)[:2] == home:
                request.add_unredirected_header("Authorization", self._authorization)
            try:
                return self._opener.open(request, timeout=_TIMEOUT_S)
            except urllib.error.HTTPError as error:
                if error.code not in (301, 302, 303, 307, 308) or "Location" not in error.headers:
                    raise
                with error:
                    url = urljoin(url, error.headers["Location"])
        raise Unavailable("the registry redirects without end.")

    def _authorize(self, challenge: str) -> str:
        """Return the Authorization header that a challenge asks for."""
        kind = challenge.split(" ", 1)[0].lower()
        basic = ""
        if self._login:
            basic = b64encode(f"{self._login.user}:{self._login.password}".encode()).decode()
        if kind == "basic" and basic:
            return f"Basic {basic}"
        if kind != "bearer":
            raise self._no_login()
        told = dict(_PARAMETER.findall(challenge))
        scope = told.get("scope") or f"repository:{self.repository.name}:pull"
        query = {"scope": scope} | ({"service": told["service"]} if "service" in told else {})
        realm = told.get("realm", "")
        _check_url(realm)
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"
        request = urllib.request.Request(url)  # noqa: S310  # checked above
        if basic:
            request.add_unredirected_header("Authorization", f"Basic {basic}")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                token = json.loads(answer.read(_MAX_TOKEN_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                raise self._no_login() from None
        except ValueError:
            raise Unavailable("the registry's token server does not answer in JSON.") from None
        value = token.get("token") or token.get("access_token") if isinstance(token, dict) else ""
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise self._no_login()
        return f"Bearer {value}"

    def _no_login(self) -> PermissionDenied:
        registry = self.repository.registry
        return PermissionDenied(
            f"the registry {registry} wants a login for {self.repository.name}.",
            hint=f"Log in with `docker login {registry}` or `oras login {registry}`.",
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by hand: the login must not travel to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""


def _scheme(host: str) -> str:
    return "http" if urlsplit(f"//{host}").hostname in _LOOPBACK else "https"


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Invalid("the registry leads to a malformed address.") from None
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if parts.scheme != "https" and not plain:
        raise Invalid(
            f"the registry leads to an address that is not https: {parts.scheme}://{parts.hostname}."
        )


def _begins_at(answer: Any, start: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {start}-")


def _meaning(error: urllib.error.HTTPError, what: str) -> FederationError:
    with error:
        status = error.code
    if status == 404:
        return NotFound(f"there is no {what} of that tag or digest.")
    if status in (401, 403):
        return PermissionDenied(f"the registry refuses {what}.", hint="Log in with `docker login`.")
    if status == 429:
        return Exhausted(f"the registry has had enough requests for {what}: try later.")
    return Unavailable(f"cannot read {what}: the registry answers with {status}.")
