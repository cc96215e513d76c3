"""Care for the artifact store: collect garbage, verify a version.

Input: calls of admins and of model owners. Output: what was removed, or would be; what is damaged.
Both read much and may take minutes; one of each kind runs at a time. The audit log tells of them.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web
from blake3 import blake3

from federation.api.bodies import read_body, reply
from federation.api.origin import origin_now
from federation.api.route import Route, actor, flag, needs
from federation.api.storecare import GRACE, StoreCare
from federation.artifacts.base import ArtifactStore, Collected, Damage
from federation.contract.errors import Conflict, FederationError, Invalid, NotFound
from federation.contract.manifest import chunks_of, parse_manifest
from federation.contract.types import FileEntry
from federation.control_loop import ControlLoop
from federation.policy import lookup
from federation.policy.access.roles import Verb
from federation.policy.audit.events import VersionVerified

DEFAULT_GRACE_S = int(GRACE.total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect:
    """What nobody touched for so many seconds may go. It must be longer than a push takes."""

    graceSeconds: int = DEFAULT_GRACE_S  # noqa: N815  # as in the document


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A version whose every byte was read; it is whole if nothing is damaged."""

    model: str
    version: int
    digest: str
    size: int
    damage: tuple[Damage, ...]


class Storekeeping:
    """The handlers of gc and verify."""

    def __init__(self, loop: ControlLoop, store: ArtifactStore, care: StoreCare) -> None:
        self._loop = loop
        self._store = store
        self._care = care
        self._verifying = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        return [
            Route(
                method="POST",
                path="/api/v1/gc",
                summary="Remove chunks and documents that no version needs",
                handler=self._collect,
                needs=needs(Verb.WRITE, "Store", ""),
                body=Collect,
                answer=Collected,
                queries={"dryRun": "true = tell what would be removed, but remove nothing"},
                errors=(Invalid, Conflict),
            ),
            Route(
                method="POST",
                path="/api/v1/models/{name}/versions/{version}/verify",
                summary="Read and check every byte of a version in the store",
                handler=self._verify,
                needs=needs(Verb.VERIFY, "Model"),
                answer=Verified,
                errors=(NotFound,),
            ),
        ]

    async def _collect(self, request: web.Request) -> web.Response:
        asked = await read_body(request, Collect)
        if asked.graceSeconds < 0:
            raise Invalid("graceSeconds must not be negative.")
        grace, dry_run = timedelta(seconds=asked.graceSeconds), flag(request, "dryRun")
        return reply(await self._care.collect(actor(request), grace=grace, dry_run=dry_run))

    async def _verify(self, request: web.Request) -> web.Response:
        name, wanted = request.match_info["name"], request.match_info["version"]
        version = lookup.wanted_version(self._loop.state, name, wanted)
        async with self._verifying:
            damage = await self._store.verify([version.digest])
            if not damage:
                damage = await self._damaged_files(version.digest)
        told = VersionVerified(
            actor=actor(request), model=name, version=version.version, damaged=len(damage)
        )
        await self._loop.submit(told, origin=origin_now())
        verified = Verified(
            model=name,
            version=version.version,
            digest=version.digest,
            size=version.size,
            damage=tuple(damage),
        )
        return reply(verified)

    async def _damaged_files(self, digest: str) -> list[Damage]:
        """Return what is wrong with whole files, though each chunk is what it should be."""
        data = await self._store.document("manifest", digest)
        manifest = await asyncio.to_thread(parse_manifest, data)
        found = [(entry.path, await self._problem(entry)) for entry in manifest.files]
        return [Damage(key=path, problem=problem) for path, problem in found if problem]

    async def _problem(self, entry: FileEntry) -> str:
        whole, classic = blake3(), hashlib.sha256()
        for chunk in chunks_of(entry):
            try:
                data = await self._store.read_chunk(chunk.digest)
            except FederationError as error:
                return error.message
            if len(data) != chunk.length:
                return f"a chunk has {len(data)} bytes instead of {chunk.length}."
            await asyncio.to_thread(_update, (whole, classic), data)
        if (whole.hexdigest(), classic.hexdigest()) != (entry.blake3, entry.sha256):
            return "its bytes are not those that the manifest's digests were made of."
        return ""


def _update(hashes: "tuple[blake3, hashlib._Hash]", data: bytes) -> None:
    for one in hashes:
        one.update(data)
