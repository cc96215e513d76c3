"""The gate before the disk: releases verified, and the floors that they set kept on disk.

Input: the documents of a version as the origin sent them, the keys that we trust. Output: a checked
Manifest, or Invalid. Nothing of a package is fetched before.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import msgspec
from blake3 import blake3

from edge_agent.policy.releases import Floors, Publishers, Signing, Wanted, admit
from federation.contract.errors import Invalid
from federation.contract.manifest import parse_manifest
from federation.contract.release import parse_envelope, release_of
from federation.contract.types import Manifest
from federation.runtime.files import write_atomic
from federation.trust.signing import signers

log = logging.getLogger(__name__)


class ReleaseGate:
    """Lets packages in. `trusted` returns the federation's release keys of now."""

    def __init__(
        self,
        state_dir: Path,
        *,
        trusted: Callable[[], tuple[str, ...]],
        publishers: Publishers,
        utc: Callable[[], datetime],
    ) -> None:
        self._path = state_dir / "release-floors.json"
        self._trusted = trusted
        self._publishers = publishers
        self._utc = utc
        self._floors = self._read()
        self._turn = asyncio.Lock()
        self.refused = 0

    def __repr__(self) -> str:
        return f"ReleaseGate({len(self._floors.by_key)} models with floors)"

    async def check(
        self, model: str, version: int, digest: str, manifest: bytes, release: bytes
    ) -> Manifest:
        """Return the manifest if both documents are what was asked for; raises Invalid."""
        try:
            return await self._check(model, version, digest, manifest, release)
        except Invalid:
            self.refused += 1
            raise

    async def _check(
        self, model: str, version: int, digest: str, manifest: bytes, release: bytes
    ) -> Manifest:
        if (found := blake3(manifest).hexdigest()) != digest:
            raise Invalid(f"the manifest of {model}@{version} has digest {found}, not {digest}.")
        parsed = await asyncio.to_thread(parse_manifest, manifest)
        if parsed.model != model:
            raise Invalid(f"the manifest of {model}@{version} is of model {parsed.model!r}.")
        envelope = parse_envelope(release)
        demanded = self._publishers.of(model)
        trusted = demanded.union(self._trusted())
        signing = Signing(signers=signers(envelope, trusted), trusted=trusted, demanded=demanded)
        async with self._turn:
            floors = admit(
                release_of(envelope),
                signing,
                Wanted(model=model, version=version, digest=digest, size=parsed.size),
                floors=self._floors,
                now=self._utc(),
            )
            if floors != self._floors:
                await asyncio.to_thread(
                    write_atomic, self._path, msgspec.json.encode(asdict(floors))
                )
                self._floors = floors
        return parsed

    def _read(self) -> Floors:
        """Return what was kept. An unreadable file is told loudly and not used: without floors a
        withdrawn version could come back, but without models nobody is served."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Floors)
        except FileNotFoundError:
            return Floors()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.error("%s cannot be read, floors begin anew: %s", self._path, error)  # noqa: TRY400  # the disk's fault
            return Floors()
