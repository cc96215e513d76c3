"""Who may open a stream, and how long it may stay: the same for agents and routers.

Input: the certificate that a gRPC connection was made with, whom we trust now, the memberships.
Output: a Peer, or a refusal; for a stream that lives on, an error at the moment when its
certificate expires or turns out to be revoked.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

import grpc.aio

from federation.api.denials import Denials
from federation.contract.errors import (
    Conflict,
    FederationError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from federation.contract.spiffe import PeerRole
from federation.contract.trust import Trust
from federation.policy.membership.members import check_member, find_or_none
from federation.policy.state import State
from federation.runtime.channel import abort_with
from federation.runtime.clock import Clock
from federation.trust.peers import Peer, check_peer, peer_from_grpc

LONGEST_SLEEP_S = 60.0  # the calendar may be set, or the machine suspended: look at it again


log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")


class Doorkeeper:
    """Admits peers by their certificates, and turns others away, which the audit log tells."""

    def __init__(
        self,
        *,
        state: Callable[[], State],
        trust: Callable[[], Trust | None],
        clock: Clock,
        denials: Denials,
    ) -> None:
        self._state = state
        self._trust = trust
        self._clock = clock
        self._denials = denials

    def __repr__(self) -> str:
        return "Doorkeeper()"

    def admit(self, context: "grpc.aio.ServicerContext[In, Out]", role: PeerRole) -> Peer:
        """Return who opened a stream.

        Raises Unauthenticated (expired, revoked, replaced), PermissionDenied (of another role) or
        Unavailable (while nothing is loaded yet).
        """
        peer = peer_from_grpc(context.auth_context())
        self._check(peer, role)
        return peer

    def _check(self, peer: Peer, role: PeerRole) -> None:
        trust = self._trust()
        if trust is None:
            raise Unavailable("the control plane is starting.", hint="Try again soon.")
        check_peer(peer, role, trust=trust, now=self._clock.utc())
        if (record := find_or_none(self._state(), role, peer.id.name)) is not None:
            check_member(record.membership, role, peer.id.name, peer.generation)

    def why_closed(self, peer: Peer, reason: str) -> FederationError:
        """Return the error that a peer hears whose stream was closed from our side."""
        try:
            self._check(peer, peer.id.role)
        except (Unauthenticated, PermissionDenied) as error:
            return error
        except FederationError:
            pass
        return Conflict(f"{reason}.", reason="replaced")

    async def turn_away(
        self, context: "grpc.aio.ServicerContext[In, Out]", method: str, error: FederationError
    ) -> None:
        """End a stream with an error; raises, as `context.abort` does."""
        log.info("stream ended", extra={"method": method, "why": error.sentence()})
        self._denials.of_stream(context, method, error)
        await abort_with(context, error)

    async def end_when_expired(self, peer: Peer) -> None:
        """Raise Unauthenticated as soon as the peer's certificate has expired."""
        while (left_s := (peer.not_after - self._clock.utc()).total_seconds()) > 0:  # noqa: ASYNC110  # time is no event
            await asyncio.sleep(min(left_s, LONGEST_SLEEP_S))
        raise Unauthenticated(
            f"the certificate of {peer.id} expired at {peer.not_after:%F %T} UTC.",
            hint="Connect again with a renewed one.",
            reason="certificate-expired",
        )


def check_speaks_for(peer: Peer, name: str) -> None:
    """Raise PermissionDenied unless a hello names the peer that the certificate names."""
    if name != peer.id.name:
        raise PermissionDenied(
            f"this certificate belongs to {peer.id.role.value} {peer.id.name!r}, not to "
            f"{name[:64]!r}.",
            hint="Each process speaks for itself, with the certificate that it joined with.",
            reason="wrong-peer",
        )
