"""The door of a router: whose request it is, decided on its head alone.

Input: the head of a request, before any of its body is read and before a client that sent
`Expect: 100-continue` is invited to send it; the keys in the routing table. Output: a Visit, or the
refusal. A key that was shown is used here and kept nowhere but in the last head of its connection:
it does not go upstream, and no log, metric or explanation has it. A connection that sends the same
head again within a second is not asked anew, unless the table has changed.
"""

import base64
import logging
from dataclasses import dataclass

from multidict import MultiMapping

from federation.contract.errors import Unauthenticated
from federation.relay.http1.heads import RequestHead
from federation.relay.http1.messages import Request
from federation.relay.paths import InferenceTarget, InferenceVerb, parse_target
from router.policy.access import EVERYONE, Caller, missing_key
from router.policy.quota import Quotas
from router.policy.table import RoutingTable
from router.request import responses
from router.state import RouterState

log = logging.getLogger(__name__)

HEALTH_PATH = "/healthz"
KEY_HEADER = "x-api-key"
_TRUSTED_S = 1.0
_OPEN = frozenset({InferenceVerb.SERVER_LIVE, InferenceVerb.SERVER_READY})
_OWN = _OPEN | {
    InferenceVerb.SERVER,
    InferenceVerb.READY,
    InferenceVerb.MODELS,
    InferenceVerb.MODEL,
    InferenceVerb.NEAREST,
}  # answered from the table: no limit counts them


@dataclass(slots=True, kw_only=True)  # not frozen: one is made for each request
class Visit:
    """A request that may come in: what it asks for, and for whom."""

    target: InferenceTarget
    caller: Caller
    request_id: str

    def named(self, request_id: str) -> "Visit":
        """Return the same for one request."""
        return Visit(target=self.target, caller=self.caller, request_id=request_id)

    @property
    def is_inference(self) -> bool:
        """Whether a cluster has to answer it."""
        return self.target.verb not in _OWN


@dataclass(frozen=True, slots=True)
class Known:
    """What was found out of a head, and until when it may be believed of another one like it."""

    visit: Visit
    table: RoutingTable | None
    until_s: float


class Door:
    """Lets requests in."""

    def __init__(self, *, state: RouterState, quotas: Quotas) -> None:
        self._state = state
        self._quotas = quotas
        if state.allow_anonymous:
            log.warning(
                "router %s serves requests WITHOUT a key (--allow-anonymous): everybody who can "
                "connect may use every model, without limits",
                state.name,
            )

    def __repr__(self) -> str:
        return f"Door({'open to everyone' if self._state.allow_anonymous else 'keys only'})"

    def admit(self, request: Request) -> None:
        """Look at the head of a request once; `visit` returns what was found.

        Raises Unauthenticated, PermissionDenied, OverQuota, or NotFound and its like for a target.
        """
        if request.kept is not None or request.raw_path == HEALTH_PATH:
            return
        head, known = request.head, request.head.known
        now_s = self._state.clock.monotonic_s()
        if not (isinstance(known, Known) and self.holds(known, now_s)):
            known = self.judge(head)
            if not head.expects:
                head.known = known
        visit = known.visit
        if visit.is_inference and "expect" in request.headers:
            self._quotas.check(visit.caller.tenant, now_s)
        request.kept = visit.named(responses.request_id(request.headers))

    def holds(self, known: Known, now_s: float) -> bool:
        """Return whether what was found of a head is still to be believed."""
        return now_s < known.until_s and known.table is self._state.table

    def judge(self, head: RequestHead) -> Known:
        """Find out of a head whose request it is, and for what; raises as `admit` does."""
        target = parse_target(head.method, head.target)
        caller = EVERYONE if target.verb in _OPEN else self._caller(head.headers)
        if target.model:
            caller.check_model(target.model)
        visit = Visit(target=target, caller=caller, request_id="")
        until_s = self._state.clock.monotonic_s() + _TRUSTED_S
        return Known(visit, self._state.table, until_s)

    def visit(self, request: Request) -> Visit | None:
        """Return what `admit` found; None for a health check, or if it was refused."""
        visit: Visit | None = request.kept
        return visit

    def _caller(self, headers: MultiMapping[str]) -> Caller:
        text = shown_key(headers)
        if self._state.allow_anonymous and not is_ours(text):
            return EVERYONE
        access = self._state.require_table().access
        if text is None:
            raise missing_key(access)
        return access.authenticate(text, self._state.clock.utc())


def is_ours(text: str | None) -> bool:
    """Return whether a text means to be a key of this federation.

    Some SDKs cannot send none, so that people write "none" or "EMPTY" where no key is needed. A key
    of ours that is wrong is never taken for none: its owner would get other rights than meant.
    """
    return text is not None and text.startswith("fed_")


def shown_key(headers: MultiMapping[str]) -> str | None:
    """Return the key that a request shows, None if it shows none; raises Unauthenticated if it
    shows several, or something that is no key.

    Basic credentials (RFC 7617) hold it as the password, with any user name: clients that know
    nothing else, like tritonclient's BasicAuth, need no change.
    """
    given = [value.strip() for value in headers.getall("authorization", [])]
    keys = [value.strip() for value in headers.getall(KEY_HEADER, [])]
    if len(given) > 1 or len(keys) > 1:
        raise Unauthenticated("The request shows several keys.", hint="Send one.")
    scheme, _, text = given[0].partition(" ") if given else ("", "", "")
    match scheme.lower():
        case "bearer" | "":
            shown = text.strip()
        case "basic":
            shown = _password(text.strip())
        case _:
            raise _malformed("Only bearer tokens and passwords are taken in Authorization.")
    return shown or (keys[0] if keys else "") or None


def _password(text: str) -> str:
    try:
        decoded = base64.b64decode(text, validate=True).decode("ascii")
    except ValueError:
        raise _malformed("The Basic credentials cannot be read.") from None
    return decoded.partition(":")[2]


def _malformed(message: str) -> Unauthenticated:
    hint = "Send `Authorization: Bearer fed_key_...`, or the key as a password."
    return Unauthenticated(message, hint=hint, reason="malformed-key")
