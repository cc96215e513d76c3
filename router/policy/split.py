"""Which version answers a request that names none: the stable one, or for some clients a canary.

Input: the model's route, what tells the client from others, the attempts that failed. Output: a
Split, by which `canary` chooses. A client has a mark between 0 and 100 for each rollout, and goes
to the canary where its share is above that mark: raising a share moves nobody back, and all routers
agree without talking to each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from federation.contract.rollout import USER_BUCKETS, CanaryRoute
from federation.contract.types import ModelRoute
from federation.runtime.backoff import Dice
from router.policy.retry import Failed

HEADER = "x-fed-canary"  # of an answer that a canary gave: the rollout
NOBODY = 100.0  # a mark that no share is above


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Where a request stands in a rollout. `mark` is its client's, from 0 to below 100; one that
    cannot be told from others (not `sticky`) has a new mark each time. `bucket` is the group of
    clients with which it is counted. `failed` are attempts of this request."""

    canary: CanaryRoute
    mark: float = NOBODY
    sticky: bool = False
    bucket: int = 0
    failed: Sequence[Failed] = ()

    def takes(self, region: str) -> bool:
        """Whether the canary is to answer this request in a region."""
        return self.mark < self.canary.weights.get(region, 0.0)

    @property
    def anywhere(self) -> bool:
        """Whether there is a region where the canary is to answer it."""
        return self.mark < max(self.canary.weights.values(), default=0.0)

    def words(self, region: str, version: int) -> str:
        """Say why a version answers in a region."""
        canary, percent = self.canary, self.canary.weights.get(region, 0.0)
        side = "<" if self.takes(region) else "≥"
        who = "client" if self.sticky else "request (no client key: dice)"
        said = f"{canary.rollout}: {who} {self.mark:.1f} {side} {percent:g} % in {region}"
        if version == canary.version:
            fits = self.takes(region)
            return f"canary, {said}." if fits else f"canary, {said}: no stable version is left."
        if self.takes(region):
            return f"stable, {said}, but the canary cannot be had there now."
        return f"stable, {said}."


def of(route: ModelRoute) -> Split | None:
    """Return the split of a route, for nobody in particular; None if it has none."""
    canary = route.canary
    return Split(canary=canary) if canary is not None and canary.weights else None


def drawn(
    split: Split,
    key: str,
    dice: Dice,
    *,
    before: Split | None = None,
    failed: Sequence[Failed] = (),
) -> Split:
    """Return the split for one request, whose client has this key ("" = it cannot be told).

    `before` is how it stood at its last attempt: in the same rollout its mark stays.
    """
    if before is not None and before.canary.rollout == split.canary.rollout:
        return replace(before, canary=split.canary, failed=failed)
    if key:
        mark, bucket = standing(split.canary.rollout, key)
    else:
        mark, bucket = 100.0 * dice.random(), int(USER_BUCKETS * dice.random())
    return Split(canary=split.canary, mark=mark, sticky=bool(key), bucket=bucket, failed=failed)


def standing(rollout: str, key: str) -> tuple[float, int]:
    """Return a client's mark in a rollout, and the bucket in which it is counted: of other bits, so
    that the canary's clients are in all buckets."""
    said = f"{rollout}\0{key}".encode("utf-8", "surrogatepass")
    digest = blake2b(said, digest_size=8).digest()
    mark = int.from_bytes(digest[:4], "big") * (100.0 / 2**32)
    return mark, int.from_bytes(digest[4:], "big") % USER_BUCKETS


def marked(route: ModelRoute, version: int) -> str:
    """Return the rollout whose canary a version is, "" if it is none: answers of it say so."""
    canary = route.canary
    return canary.rollout if canary is not None and canary.version == version else ""
