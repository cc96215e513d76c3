"""The small documents of a version: manifest, release, locations; from the control plane.

Input: GETs over TLS that shows our certificate, under the same cap and windows as chunks. Output:
bytes of bounded length that nobody has checked yet, parsed locations, or an error in a sentence.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import aiohttp
import msgspec

from edge_agent.sync.offers import Offer
from edge_agent.sync.throttle import Throttle
from federation.contract.errors import (
    FederationError,
    Invalid,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from federation.contract.locations import Locations, parse_locations
from federation.contract.manifest import MAX_MANIFEST_BYTES
from federation.contract.names import check_model_name
from federation.contract.release import MAX_ENVELOPE_BYTES
from federation.contract.spiffe import control_plane_dns_name
from federation.contract.types import Manifest, Urgency
from federation.runtime.clock import Clock, SystemClock
from federation.trust.credentials import Credentials

MAX_LOCATIONS_BYTES = 256 << 20
MIN_BYTES_PER_S = 1024.0
PACE_WINDOW_S = 20.0
_READ_BYTES = 64 << 10
_MAX_PROBLEM_BYTES = 64 << 10
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)


class _Problem(msgspec.Struct):
    """The part of an application/problem+json document that is told on."""

    detail: str = ""
    hint: str = ""


class Origin:
    """The control plane as the source of documents. Its methods may run side by side."""

    def __init__(
        self,
        *,
        url: str,
        credentials: Credentials,
        throttle: Throttle,
        clock: Clock | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._credentials, self._throttle = credentials, throttle
        self._clock = clock or SystemClock()
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Origin({self._url})"

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def manifest(self, model: str, version: int, urgency: Urgency = Urgency.NORMAL) -> bytes:
        """Return the bytes of a version's manifest.

        Raises NotFound, PermissionDenied, Unavailable, Invalid if it is too long.
        """
        return await self._get(model, version, "manifest", MAX_MANIFEST_BYTES, urgency)

    async def release(self, model: str, version: int, urgency: Urgency = Urgency.NORMAL) -> bytes:
        """Return the bytes of a version's signed release. Raises as `manifest`."""
        return await self._get(model, version, "release", MAX_ENVELOPE_BYTES, urgency)

    async def locations(
        self, model: str, version: int, urgency: Urgency = Urgency.NORMAL
    ) -> Locations:
        """Return where the chunks of a version lie now. Raises as `manifest`."""
        data = await self._get(model, version, "locations", MAX_LOCATIONS_BYTES, urgency)
        return parse_locations(data)

    async def offer(
        self,
        manifest: Manifest,
        version: int,
        urgency: Urgency = Urgency.NORMAL,
        *,
        base_of: Callable[[bytes], bytes | None] = lambda _digest: None,
    ) -> Offer:
        """Return what the origin has of a package; it is refreshed from here. Raises as
        `manifest`, and Invalid if the locations do not fit the manifest."""

        async def load() -> Locations:
            return await self.locations(manifest.model, version, urgency)

        return Offer(manifest, await load(), load, base_of=base_of, clock=self._clock)

    async def _get(
        self, model: str, version: int, document: str, limit: int, urgency: Urgency
    ) -> bytes:
        path = f"/api/v1/models/{check_model_name(model)}/versions/{version:d}/{document}"
        await self._throttle.origin.admit(0, urgency)
        data = bytearray()
        async with self._answer(path) as response:
            waited_s = 0.0
            while True:
                started = self._clock.monotonic_s()
                part = await response.content.read(_READ_BYTES)
                waited_s += self._clock.monotonic_s() - started
                if not part:
                    return bytes(data)
                data += part
                if len(data) > limit:
                    raise Invalid(
                        f"the {document} of {model}@{version} is longer than {limit} bytes."
                    )
                if waited_s > PACE_WINDOW_S and len(data) < waited_s * MIN_BYTES_PER_S:
                    told = f"{len(data)} bytes came in {waited_s:.0f} s, which is too slow"
                    raise Unavailable(f"GET {path}: {told}.")
                await self._throttle.origin.admit(len(part), urgency)

    @contextlib.asynccontextmanager
    async def _answer(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        if not self._credentials.complete:
            raise Unavailable("this agent has not joined yet: it cannot fetch anything.")
        _, trust = self._credentials.require()
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False)
        url = self._url + path
        try:
            async with self._session.get(
                url,
                headers={"Accept-Encoding": "identity"},
                allow_redirects=False,
                ssl=self._credentials.client_context(),
                server_hostname=control_plane_dns_name(trust.trust_domain),
            ) as response:
                with _dropping(response):
                    if response.status != 200:
                        raise await _refusal(path, response)
                    if response.headers.get("Content-Encoding", "identity") != "identity":
                        raise Invalid(f"GET {path}: the answer is encoded, unasked.")
                    yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            told = str(error) or type(error).__name__
            where = urlsplit(self._url).netloc
            raise Unavailable(f"GET {path} from {where} failed: {told}.") from None


@contextlib.contextmanager
def _dropping(response: aiohttp.ClientResponse) -> Iterator[None]:
    """Drop the connection on errors. The usual end of TLS would go on reading what is sent."""
    try:
        yield
    except BaseException:
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()
        raise


async def _refusal(path: str, response: aiohttp.ClientResponse) -> FederationError:
    """Return what the control plane said, as one sentence."""
    body = await response.content.read(_MAX_PROBLEM_BYTES)
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem()
    told = f" {problem.detail}" if problem.detail else ""
    kind = {404: NotFound, 401: PermissionDenied, 403: PermissionDenied}
    sentence = f"GET {path} was answered with {response.status} {response.reason}.{told}"
    return kind.get(response.status, Unavailable)(sentence, hint=problem.hint)
