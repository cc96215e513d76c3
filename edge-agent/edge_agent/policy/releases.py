"""Whether a release makes a package loadable here: the rules of TUF for one target.

Input: what a release says and which keys signed it, what was asked for, what this cluster remembers
of the model. Output: what it remembers from now on, or Invalid with the reason.

The Update Framework 1.0, section 5: a signed statement by a trusted key (5.3), no lower sequence
than the floor (5.4, rollback), not expired (5.4, freeze), of exactly this target (5.7, mix and
match). A floor is remembered with the key that vouched for it, and is forgotten when that key is no
longer trusted: who stole a key cannot lock a model for ever (5.3, fast-forward).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from federation.contract.errors import Invalid
from federation.contract.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the assignment asks for; `size` is what the manifest adds up to."""

    model: str
    version: int
    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """Per model the lowest sequence that may be loaded, by the key that said so."""

    by_key: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def of(self, model: str, trusted: Collection[str]) -> int:
        """Return the highest floor that a trusted key ever set for a model; 0 = none."""
        floors = self.by_key.get(model, {})
        return max((floor for key, floor in floors.items() if key in trusted), default=0)

    def raised(self, model: str, keys: Collection[str], floor: int) -> "Floors":
        """Return the floors after these keys set one."""
        old = self.by_key.get(model, {})
        new = {**old, **{key: max(floor, old.get(key, 0)) for key in sorted(keys)}}
        return self if new == old else Floors(by_key={**self.by_key, model: new})


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishers:
    """The keys that an operator demands, by pattern of model names (shell patterns).

    A model that matches several patterns may be signed by a key of any of them.
    """

    keys: tuple[tuple[str, str], ...] = ()  # (pattern, public key)

    def of(self, model: str) -> frozenset[str]:
        """Return of which keys one must have signed; empty = the federation's is enough."""
        return frozenset(key for pattern, key in self.keys if fnmatchcase(model, pattern))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """Who signed a release, and who counts: `trusted` are all keys that count now, `signers` those
    of them whose signatures are good; of `demanded` one must be among them, if there are any."""

    signers: frozenset[str]
    trusted: frozenset[str]
    demanded: frozenset[str] = frozenset()


def admit(
    release: Release, signing: Signing, wanted: Wanted, *, floors: Floors, now: datetime
) -> Floors:
    """Return the floors after a release that may be used; raises Invalid if it may not."""
    what = f"{wanted.model}@{wanted.version}"
    if not signing.signers:
        raise Invalid(f"the release of {what} is signed by no key that this cluster trusts.")
    if signing.demanded and not signing.demanded & signing.signers:
        raise Invalid(f"the release of {what} is signed by none of the publishers it needs.")
    if (release.model, release.manifest) != (wanted.model, wanted.digest):
        raise Invalid(
            f"the release of {what} speaks of {release.model[:64]!r} with manifest "
            f"{release.manifest[:16]!r}, not of {wanted.digest[:16]!r}."
        )
    if release.size != wanted.size:
        raise Invalid(
            f"the release of {what} speaks of {release.size} bytes, its manifest of {wanted.size}."
        )
    after = floors.raised(wanted.model, signing.signers, release.floor)
    if release.sequence < (floor := after.of(wanted.model, signing.trusted)):
        raise Invalid(
            f"{what} was withdrawn: its release {release.sequence} is below the floor {floor}."
        )
    if release.expires and release.expires <= now.timestamp():
        raise Invalid(
            f"the release of {what} expired at "
            f"{datetime.fromtimestamp(release.expires, UTC):%F %T} UTC.",
            hint="Its owner signs and pushes it again.",
        )
    return after


def parse_publishers(text: str, source: str) -> Publishers:
    """Read lines of `PATTERN PUBLIC-KEY`; `#` begins a comment; raises Invalid with the line."""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[1]) != 64:
            raise Invalid(
                f"{source} line {number}: expected a pattern of model names and a public key.",
                hint="Like `llama-* KEY`, with the 64 digits that `fed model keygen` shows.",
            )
        keys.append((words[0], words[1].lower()))
    return Publishers(keys=tuple(keys))
