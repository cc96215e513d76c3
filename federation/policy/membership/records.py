"""What is remembered of those who may join: tickets, memberships, routers, revocations.

Input: made by the deciders of this package. Output: kept in State, stored as JSON.
"""

from dataclasses import dataclass, field
from datetime import datetime

from federation.contract.resources import RouterSpec
from federation.policy.meta import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTicket:
    """The one-time right to join; only the token's SHA-256 is kept.

    `used_by` is the SHA-256 of the public key that joined with it: only who holds that key may
    repeat the join, to hear the same answer again.
    """

    token_sha256: str
    expires_at: datetime
    used_by: str = ""
    require_accept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Whether a cluster or router is part of the federation.

    `generation` 0 = never joined. Each join takes a higher one than any before in this federation;
    it stands in every certificate of that join. `accepted` is False while an operator still has to
    say yes. After a revocation only another join helps.
    """

    generation: int = 0
    accepted: bool = True
    revoked: bool = False
    joined_at: datetime | None = None

    @property
    def valid(self) -> bool:
        """Whether certificates may be issued and connections accepted."""
        return self.generation > 0 and self.accepted and not self.revoked


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRecord:
    """A registered router. `reverse_address` (HOST:PORT) is where it last said that it takes
    reverse connections: agents dial it also while it is out of contact with the control plane."""

    meta: Meta
    spec: RouterSpec
    ticket: JoinTicket | None = None
    membership: Membership = field(default_factory=Membership)
    reverse_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationRecord:
    """Certificates of `uri` with a generation lower than `below` are refused, until the last of
    them has expired (`until`)."""

    uri: str
    below: int
    until: datetime
