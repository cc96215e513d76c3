"""Model packages on the agent's disk: fetched, verified, and never visible before they are whole.

Input: manifests and blobs from the control plane, over TLS that shows our certificate. Output:
directories that hold exactly what a manifest says. Layout below the root:

    packages/<model>/<version>-<digest[:16]>/            a whole package; appears by one rename
    packages/<model>/<version>-<digest[:16]>.manifest    its manifest, written before
    staging/<model>/<version>-<digest[:16]>/             a package that is being fetched: it stays
                                                         after a failure, its whole files are kept
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
from blake3 import blake3

from edge_agent import packages_disk as disk
from federation.contract.errors import Invalid, Unavailable
from federation.contract.manifest import parse_manifest
from federation.contract.names import check_model_name
from federation.contract.spiffe import control_plane_dns_name
from federation.contract.types import FileEntry
from federation.trust.credentials import Credentials

MAX_MANIFEST_BYTES = 16 << 20
_MAX_PROBLEM_BYTES = 64 << 10
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)


class _Problem(msgspec.Struct):
    """The part of an application/problem+json document that is told on."""

    detail: str = ""
    hint: str = ""


class Artifacts:
    """The packages of one agent. All methods may run side by side for different versions."""

    def __init__(self, root: Path, *, url: str, credentials: Credentials) -> None:
        self._packages = root / "packages"
        self._staging = root / "staging"
        self._url = url.rstrip("/")
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self.fetched_bytes = 0
        self.reused_bytes = 0

    def __repr__(self) -> str:
        told = f"fetched={self.fetched_bytes}, reused={self.reused_bytes}"
        return f"Artifacts({self._packages}, {told})"

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def stage(self, model: str, version: int, digest: str) -> Path:
        """Return the directory of a whole package, fetched now if it is not there yet.

        Raises Invalid if what came is not what was asked for, Unavailable if nothing came,
        Exhausted if the disk is full.
        """
        final = _place(self._packages, model, version, digest)
        if final.is_dir():  # it appeared by a rename: it is whole
            return final
        data = await self._get_manifest(model, version)
        if (found := blake3(data).hexdigest()) != digest:
            raise Invalid(f"the manifest of {model}@{version} has digest {found}, not {digest}.")
        manifest = parse_manifest(data)
        if manifest.model != model:
            raise Invalid(f"the manifest of {model}@{version} is of model {manifest.model!r}.")
        staging = _place(self._staging, model, version, digest)
        await asyncio.to_thread(disk.make_room, staging, manifest)
        known = await asyncio.to_thread(disk.known_files, self._packages)
        for entry in manifest.files:
            path = await self._bring(entry, staging, known.get(entry.blake3, []))
            known.setdefault(entry.blake3, []).append(path)
        await asyncio.to_thread(disk.publish, staging / "files", final, data)
        return final

    async def verify(self, model: str, version: int, digest: str) -> None:
        """Hash every byte of a staged package again.

        Raises Invalid if it is not what the digest says; the package is then gone, and the next
        `stage` fetches it anew.
        """
        final = _place(self._packages, model, version, digest)
        try:
            await asyncio.to_thread(disk.check, final, digest)
        except (Invalid, OSError) as error:
            await asyncio.to_thread(disk.discard, final)
            raise Invalid(f"the package on disk is damaged: {error}") from None

    # ------------------------------------------------------------ one file

    async def _bring(self, entry: FileEntry, staging: Path, known: list[Path]) -> Path:
        """Return the staged file of an entry: kept, reused from this disk, or fetched."""
        target = await asyncio.to_thread(disk.place, staging / "files", entry)
        if await asyncio.to_thread(disk.is_whole, target, entry):
            return target
        for source in known:
            if await asyncio.to_thread(disk.reuse, source, target, entry):
                self.reused_bytes += entry.size
                return target
        new = await asyncio.to_thread(disk.NewFile, staging / "parts" / entry.blake3, entry)
        try:
            async with self._get(f"/api/v1/blobs/{entry.blake3}") as response:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    await asyncio.to_thread(new.write, chunk)
                    self.fetched_bytes += len(chunk)
            await asyncio.to_thread(new.finish, target)
        finally:
            new.abandon()
        return target

    # ------------------------------------------------------------ from the control plane

    @contextlib.asynccontextmanager
    async def _get(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
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
                if response.status != 200:
                    raise Unavailable(await _refusal(path, response))
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            told = str(error) or type(error).__name__
            raise Unavailable(f"GET {url} failed: {told}.") from None

    async def _get_manifest(self, model: str, version: int) -> bytes:
        path = f"/api/v1/models/{check_model_name(model)}/versions/{version}/manifest"
        data = bytearray()
        async with self._get(path) as response:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_MANIFEST_BYTES:
                    raise Invalid(f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes.")
        return bytes(data)


def _place(root: Path, model: str, version: int, digest: str) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise Invalid(f"{digest!r} is not the digest of a package.")
    return root / check_model_name(model) / f"{version}-{digest[:16]}"


async def _refusal(path: str, response: aiohttp.ClientResponse) -> str:
    """Return what the control plane said, as one sentence."""
    body = await response.content.read(_MAX_PROBLEM_BYTES)
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem()
    told = f" {problem.detail}" if problem.detail else ""
    return f"GET {path} was answered with {response.status} {response.reason}.{told}"
