"""What the demo asks of the control plane, over the public operator API.

Input: the base URL, the files of the roots and of the admin token. Output: decoded documents, or
Unavailable and the like with the control plane's own sentence. Packages are pushed chunk by chunk,
as `fed model push` does.
"""

import asyncio
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import msgspec

from federation.chunking.package import PackageReader
from federation.chunking.scan import scan_directory
from federation.contract.errors import BY_REASON, FederationError, Unavailable
from federation.contract.locations import Frame
from federation.contract.manifest import distinct_chunks
from federation.contract.package import PACKAGE_FILE, parse_package
from federation.contract.types import Manifest
from federation.runtime.clock import SystemClock

Json = dict[str, Any]


class OperatorApi:
    """A client of the operator API; an async context manager."""

    def __init__(self, base_url: str, *, ca_file: Path, token_file: Path) -> None:
        self._base = f"{base_url}/api/v1"
        self._root = base_url
        self._ca_file = ca_file
        self._token_file = token_file
        self._tls: ssl.SSLContext | None = None
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))

    async def __aenter__(self) -> "OperatorApi":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"OperatorApi({self._base})"

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def ready(self) -> bool:
        """Return whether the control plane says that it is ready."""
        try:
            async with self._session.get(f"{self._root}/readyz", ssl=self._trust()) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False  # the roots are written soon after the start

    def _trust(self) -> ssl.SSLContext:
        """Return what verifies the control plane; raises OSError before it wrote its roots."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self._ca_file))
        return self._tls

    async def items(self, plural: str) -> list[Json]:
        """Return all documents of a kind."""
        listed: Json = await self._call("GET", plural)
        items: list[Json] = listed["items"]
        return items

    async def one(self, plural: str, name: str) -> Json:
        """Return one document."""
        return await self._call("GET", f"{plural}/{name}")

    async def start_rollout(self, spec: Mapping[str, object]) -> Json:
        """Start a rollout and return its document."""
        return await self._call("POST", "rollouts", json={"spec": spec, "why": "the demo"})

    async def abort_rollout(self, name: str) -> None:
        """Send all traffic back to the stable version."""
        await self._call("POST", f"rollouts/{name}/abort", json={"why": "the demo"})

    async def put(self, kind: str, plural: str, name: str, spec: Mapping[str, object]) -> Json:
        """Create or change a resource."""
        document = {
            "apiVersion": "federation/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        return await self._call("PUT", f"{plural}/{name}", json=document)

    async def register(self, plural: str, name: str, spec: Mapping[str, object]) -> str:
        """Register a cluster or router and return its one-time join token."""
        body = {"spec": spec, "rejoin": False, "tokenTtlSeconds": 900}
        answer = await self._call("POST", f"{plural}/{name}/register", json=body)
        return str(answer["joinToken"])

    async def create_key(self, name: str, tenant: str) -> str:
        """Create a key for inference that is valid for 30 days and return its text."""
        until = SystemClock().utc() + timedelta(days=30)
        body = {"tenant": tenant, "expiresAt": until.isoformat()}
        answer = await self._call("POST", f"keys/{name}", json=body)
        return str(answer["text"])

    async def push(self, directory: Path, source: str) -> int:
        """Push a package directory and return the version that it became."""
        text = await asyncio.to_thread((directory / PACKAGE_FILE).read_text, "utf-8")
        model = parse_package(text).name
        manifest = await asyncio.to_thread(scan_directory, directory, model)
        digests = list(distinct_chunks(manifest))
        told = await self._exchange("POST", "chunks/missing", data=b"".join(digests))
        missing = [digest for digest, is_missing in zip(digests, told, strict=True) if is_missing]
        if missing:
            await self._call("POST", "chunks", data=_frames(directory, manifest, missing))
        body = {"package": text, "manifest": msgspec.to_builtins(manifest), "source": source}
        answer = await self._call("POST", f"models/{model}/versions", json=body)
        return int(answer["version"])

    async def _call(self, method: str, path: str, **body: Any) -> Json:
        answer: Json = json.loads(await self._exchange(method, path, **body) or b"{}")
        return answer

    async def _exchange(self, method: str, path: str, **body: Any) -> bytes:
        token = (await asyncio.to_thread(self._token_file.read_text, "utf-8")).strip()
        headers = {"authorization": f"Bearer {token}"}
        if method != "GET":
            headers["idempotency-key"] = uuid.uuid4().hex
        try:
            async with self._session.request(
                method, f"{self._base}/{path}", headers=headers, ssl=self._trust(), **body
            ) as answer:
                if answer.status < 400:
                    return await answer.read()
                problem = await answer.json(content_type=None)
                raise _error_of(problem, answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the control plane does not answer: {error}.") from None


async def _frames(
    directory: Path, manifest: Manifest, digests: list[bytes]
) -> AsyncIterator[bytes]:
    with PackageReader(directory, manifest) as reader:
        for digest in digests:
            data = await asyncio.to_thread(reader.chunk, digest)
            yield Frame(digest=digest, length=len(data), stored=len(data)).pack() + data


def _error_of(problem: object, status: int) -> FederationError:
    told = problem if isinstance(problem, dict) else {}
    reason = str(told.get("reason", ""))
    message = str(told.get("detail") or told.get("title") or f"HTTP {status}")
    error = BY_REASON.get(reason, FederationError)
    return error(message, hint=str(told.get("hint", "")), reason=reason)
