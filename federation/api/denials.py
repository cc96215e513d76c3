"""Who was turned away, for the audit log: the one place that both doors tell.

Input: answers of the operator API that are refusals, refused streams. Output: AccessDenied events
for the control loop, few enough that nobody fills the disk with them (`policy.audit.flood`).
Repetitions are told a minute late; those of the last minute are lost if the process ends.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Awaitable
from typing import Protocol, TypeVar

import grpc.aio
from aiohttp import web

from federation.api.errors import REFUSAL
from federation.api.origin import origin_of, origin_of_call
from federation.api.route import CALLER
from federation.contract.errors import (
    FederationError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from federation.identity.links import LINK_ENDED
from federation.policy.audit.events import AccessDenied, Origin
from federation.policy.audit.flood import Denial, Flood
from federation.policy.events import Event
from federation.runtime.clock import Clock
from federation.runtime.telemetry import redact
from federation.trust.peers import peer_from_grpc

# Here a refusal of any kind means that somebody did not become a member.
ENROLMENT = frozenset({"/api/v1/join", "/api/v1/renew"})
NOBODY = "anonymous"
RETRY_S = 1.0
MAX_DUE = 1_000  # the oldest are lost if the control loop rests for most of an hour

In = TypeVar("In")
Out = TypeVar("Out")


class Submit(Protocol):
    """`ControlLoop.submit`, as far as it is needed here."""

    def __call__(self, event: Event, *, origin: Origin) -> Awaitable[object]:
        """Have an event decided and committed."""
        ...


class Denials:
    """Takes notes at once, and submits them in `run`; `total` counts all of them by reason."""

    def __init__(self, *, submit: Submit, clock: Clock, flood: Flood | None = None) -> None:
        self._submit = submit
        self._clock = clock
        self._flood = flood or Flood()
        self._due: deque[Denial] = deque(maxlen=MAX_DUE)
        self._news = asyncio.Event()
        self.total: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"Denials(total={self.total.total()}, due={len(self._due)}, {self._flood})"

    async def of_http(self, request: web.Request, response: web.StreamResponse) -> None:
        """Note an answer if it is a denial; for `Application.on_response_prepare`."""
        error = response.get(REFUSAL)
        if error is None or not _denied(error, request.path):
            return
        caller = request.get(CALLER)
        resource = request.match_info.route.resource
        path = resource.canonical if resource else "an unknown path"
        self.note(
            error,
            actor=caller.name if caller else NOBODY,
            target=f"{request.method} {path}",
            origin=origin_of(request),
        )

    def of_stream(
        self, context: "grpc.aio.ServicerContext[In, Out]", target: str, error: FederationError
    ) -> None:
        """Note the error that a stream is ended with if it is a denial; `target` is its method."""
        if not _denied(error):
            return
        actor = NOBODY
        with contextlib.suppress(Unauthenticated):
            peer = peer_from_grpc(context.auth_context())
            actor = f"{peer.id.role.value}/{peer.id.name}"
        self.note(error, actor=actor, target=target, origin=origin_of_call(context))

    def note(self, error: FederationError, *, actor: str, target: str, origin: Origin) -> None:
        """Note a denial; what is told of it is free of secrets."""
        self.total[error.reason] += 1
        event = AccessDenied(
            actor=actor, target=target, reason=error.reason, message=redact(error.message)
        )
        denial = Denial(event=event, origin=origin)
        self._due.extend(self._flood.add(denial, self._clock.utc()))
        self._news.set()

    async def run(self) -> None:
        """Submit what is due, until cancelled."""
        while True:
            await self._wait()
            self._due.extend(self._flood.ended(self._clock.utc()))
            while self._due:
                denial = self._due.popleft()
                try:
                    await self._submit(denial.event, origin=denial.origin)
                except Unavailable:  # the control loop starts again
                    self._due.appendleft(denial)
                    await asyncio.sleep(RETRY_S)

    async def _wait(self) -> None:
        """Return when something was noted, or a window ended."""
        ends_at = self._flood.ends_at
        left_s = max(0.0, (ends_at - self._clock.utc()).total_seconds()) if ends_at else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._news.wait()
        self._news.clear()


def _denied(error: FederationError, path: str = "") -> bool:
    if isinstance(error, Unavailable) or error.reason == LINK_ENDED:
        return False
    return isinstance(error, Unauthenticated | PermissionDenied) or path in ENROLMENT
