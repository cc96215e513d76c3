"""Releases: the signed statements without which no agent loads a version.

Input: what an owner's push says of its package, and its signatures; the release key. Output: an
envelope that the federation has signed too, or why not. The rules are TUF's: `contract.release`.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from federation.artifacts.base import ArtifactStore
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.release import (
    Envelope,
    Release,
    envelope_bytes,
    parse_envelope,
    release_of,
    seal,
)
from federation.identity.release_key import ReleaseKey
from federation.runtime.clock import Clock
from federation.trust.signing import signers

KIND = "release"
MAX_SKEW_S = 600  # how far the clock of an owner may be ahead of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a release must speak of: a model, the digest and size of a manifest, its source."""

    model: str
    digest: str
    size: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """A release that may be stored. `signed_by` are the owner's keys, hex."""

    envelope: Envelope
    signed_by: tuple[str, ...]


class Releases:
    """Makes, countersigns and reads releases."""

    def __init__(self, store: ArtifactStore, key: ReleaseKey, clock: Clock) -> None:
        self._store = store
        self._key = key
        self._clock = clock

    def __repr__(self) -> str:
        return f"Releases({self._key.id[:16]})"

    async def read(self, digest: str) -> Envelope:
        """Return the release of a manifest, signed by the present key; raises NotFound."""
        held = parse_envelope(await self._store.document(KIND, digest))
        renewed = self._key.renewed(held)
        if renewed is not held:
            await self.keep(digest, renewed)
        return renewed

    async def keep(self, digest: str, envelope: Envelope) -> None:
        """Store the release of a manifest instead of the one before."""
        await self._store.put_document(KIND, digest, envelope_bytes(envelope))

    async def agree(
        self,
        content: Content,
        offered: Envelope | None,
        *,
        publishers: Collection[str],
        newest: str,
    ) -> Agreed:
        """Return the release for a content that is pushed, countersigned.

        `offered` is the owner's, with or without signatures; None = the federation makes one.
        `newest` is the digest of the model's newest version, "" if it has none. Content that is
        there already keeps its release unless the owner's says something new.

        Raises Invalid if the offer does not fit, Conflict if its sequence does not grow.
        """
        held = await self._held(content.digest)
        owner = _owners_keys(offered)
        if publishers and not owner.intersection(publishers):
            if held is None or not _owners_keys(held).intersection(publishers):
                raise _unsigned(content.model, publishers)
            offered = None  # what was signed before is good still
        if held is not None and (offered is None or self._says_the_same(held, offered)):
            return Agreed(envelope=self._key.renewed(held), signed_by=self._owners(held))
        previous = await self._sequence(newest, held)
        if offered is None or not owner:
            offered = seal(self._made(content, offered, previous))
        else:
            self._check_numbers(_fitting(content, offered), previous)
        return Agreed(envelope=self._key.sign(offered), signed_by=tuple(sorted(owner)))

    async def _held(self, digest: str) -> Envelope | None:
        try:
            return parse_envelope(await self._store.document(KIND, digest))
        except NotFound:
            return None

    async def _sequence(self, newest: str, held: Envelope | None) -> int:
        """Return the highest sequence that was given so far, 0 if none was."""
        others = [held, await self._held(newest) if newest else None]
        return max((release_of(one).sequence for one in others if one), default=0)

    def _says_the_same(self, held: Envelope, offered: Envelope) -> bool:
        old, new = release_of(held), release_of(offered)
        unnumbered = replace(new, sequence=old.sequence, created=old.created)
        return unnumbered == old and _owners_keys(offered) <= _owners_keys(held)

    def _owners(self, envelope: Envelope) -> tuple[str, ...]:
        return tuple(sorted(_owners_keys(envelope).difference(self._key.trusted)))

    def _made(self, content: Content, wish: Envelope | None, previous: int) -> Release:
        """Return a release of our own; an unsigned one tells what it shall say besides."""
        now = self._clock.utc().timestamp()
        asked = _fitting(content, wish) if wish else None
        release = Release(
            model=content.model,
            manifest=content.digest,
            size=content.size,
            sequence=max(int(now * 1000), previous + 1),
            created=int(now),
            floor=asked.floor if asked else 0,
            expires=asked.expires if asked else 0,
            source=content.source,
        )
        self._check_numbers(release, previous)
        return release

    def _check_numbers(self, release: Release, previous: int) -> None:
        now = self._clock.utc().timestamp()
        if release.expires and release.expires <= now:
            raise Invalid("the release has expired already.", hint="Give it a later end.")
        if release.created > now + MAX_SKEW_S or release.sequence > (now + MAX_SKEW_S) * 1000:
            raise Invalid("the release is of the future.", hint="Set this machine's clock.")
        if release.floor > release.sequence:
            raise Invalid("the release's floor is above its own sequence: nobody could load it.")
        if release.sequence <= previous:
            raise Conflict(
                f"the release's sequence {release.sequence} is not above {previous}, that of the "
                "newest version.",
                hint="Push again; check this machine's clock.",
                reason="stale-sequence",
            )


def _fitting(content: Content, envelope: Envelope) -> Release:
    """Return what an envelope says; raises Invalid unless it speaks of this content."""
    release = release_of(envelope)
    told = Content(
        model=release.model, digest=release.manifest, size=release.size, source=release.source
    )
    if told != content:
        raise Invalid(
            f"the release speaks of {told}, not of {content}.",
            hint="The package changed: push again.",
        )
    return release


def _owners_keys(envelope: Envelope | None) -> frozenset[str]:
    """Return the keys that signed an envelope; raises Invalid if a signature is wrong."""
    if envelope is None:
        return frozenset()
    claimed = frozenset(signature.keyid for signature in envelope.signatures)
    good = signers(envelope, claimed)
    if wrong := sorted(claimed - good):
        raise Invalid(f"the release's signature by {wrong[0][:80]!r} is wrong.")
    return good


def _unsigned(model: str, publishers: Collection[str]) -> Invalid:
    known = ", ".join(key[:16] for key in sorted(publishers))
    return Invalid(
        f"versions of model {model!r} must be signed by one of its publishers ({known}).",
        hint="Push with: fed model push DIR --sign-key FILE",
        reason="unsigned",
    )
