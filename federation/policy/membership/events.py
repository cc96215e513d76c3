"""What can happen to memberships. Past tense, then imperative, then the answer.

Input: built by `federation.api`. Output: `decide` takes one event and returns commands.
"""

from dataclasses import dataclass
from datetime import datetime

from federation.contract.resources import RouterSpec
from federation.contract.spiffe import PeerRole


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRegistered:
    """An operator registered a router (or, with `rejoin`, lets a known one join anew)."""

    actor: str
    name: str
    spec: RouterSpec
    token_sha256: str
    token_expires_at: datetime
    require_accept: bool = False
    rejoin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerJoined:
    """An agent or router showed a join token and a public key (`key_sha256`)."""

    role: PeerRole
    name: str
    token_sha256: str
    key_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAccepted:
    """An operator accepted a cluster or router that had joined with a token that demands it."""

    actor: str
    role: PeerRole
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRevoked:
    """An operator took a cluster's or router's membership away."""

    actor: str
    role: PeerRole
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RootPrepared:
    """An operator had a new root of trust made; `name` is its name in the authority."""

    actor: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseRouter:
    """End the streams of a router whose generation is at most `generation`."""

    name: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishTrust:
    """What is revoked changed: tell every agent and router at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRouters:
    """The routers that take reverse connections changed: tell the agents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The answer to PeerJoined: the generation for its certificates, and whether it has to wait
    for an operator first."""

    generation: int
    accepted: bool
