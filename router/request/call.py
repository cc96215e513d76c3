"""One inference request as the router sees it: what was asked, and within which limits.

Input: a client's request whose target is parsed. Output: a Call, which `proxy` carries through all
attempts; or an error that says what is wrong with the request.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from federation.contract.errors import Invalid, TooLarge, Unavailable
from federation.contract.types import ModelProtocol
from federation.relay.http1.messages import Request
from federation.relay.paths import OPENAI_PATHS, InferenceTarget, InferenceVerb
from federation.relay.server import BodyLimits
from router.policy import affinity
from router.policy.access import Caller
from router.policy.decision import Reason
from router.policy.hedging import Hedged
from router.policy.quota import Hold
from router.policy.retry import Failed, Limits
from router.policy.shortlist import Option
from router.policy.table import Resolved, RoutingTable
from router.policy.usage import Meter, estimate
from router.records import Scored
from router.request import body as bodies
from router.request.door import Visit

DEADLINE_HEADER = "x-fed-deadline-ms"
SESSION_HEADER = "x-fed-session"  # requests that had better go to the same cluster
STEER_HEADER = "x-fed-steer"  # a client that follows redirects sends "redirect"
_LONGEST_MS = 3_600_000
UNUSUAL = (  # asks for more
    *(DEADLINE_HEADER, SESSION_HEADER, STEER_HEADER, bodies.REPLAY_HEADER, "upgrade"),
)
_LARGEST_HEDGED = 256 * 1024  # bytes of a body: larger ones take a while to be sent twice
_MODEL_IN_BODY = frozenset(OPENAI_PATHS)
_SAYS_TEXT = _MODEL_IN_BODY | {InferenceVerb.GENERATE, InferenceVerb.GENERATE_STREAM}


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingLimits:
    """How many requests may wait for models that sleep, of one model and in all, with how many
    bytes of bodies, and how long, unless the client sets a deadline of its own."""

    per_model: int = 128
    total: int = 1024
    body_bytes: int = 64 * 1024 * 1024
    hold_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """What one request may take."""

    body: BodyLimits = field(default_factory=BodyLimits)
    replay_bytes: int = 8 * 1024 * 1024
    deadline_s: float = 60.0
    connect_s: float = 1.0
    idle_s: float = 60.0
    stall_s: float = 30.0
    grpc_bytes: int = 256 * 1024 * 1024  # of all gRPC calls, held since they cannot be sent on
    holding: HoldingLimits = field(default_factory=HoldingLimits)


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way through; the last eight fields tell how far it got."""

    request: Request
    visit: Visit
    hold: Hold  # its share of its tenant's limits
    started_s: float
    body: bodies.Body
    reference: str  # the model as the client named it
    limits: Limits
    own_deadline: bool  # the client's, not ours: missing it shows nothing of the cluster
    resolved: Resolved | None = None
    picked: tuple[Option | None, Reason | None, Scored] = (None, None, ())  # the last choice
    failed: list[Failed] = field(default_factory=list)
    answered_by: Option | None = None
    hedged: Hedged | None = None  # it was at two clusters at once
    budget_spent: bool = False  # it would have been sent again, but too many are
    affinity: tuple[int, ...] = ()  # what it has in common with others
    held_s: float = 0.0  # how long it waited for a model that slept
    meter: Meter | None = None  # where tokens are counted: models that speak text

    def __repr__(self) -> str:
        return f"Call({self.request_id}, {self.target}, failed={self.failed})"

    @property
    def target(self) -> InferenceTarget:
        """What it asks for."""
        return self.visit.target

    @property
    def caller(self) -> Caller:
        """For whom."""
        return self.visit.caller

    @property
    def request_id(self) -> str:
        """By which name logs and clusters know it."""
        return self.visit.request_id

    @property
    def attempts(self) -> int:
        """How many attempts it took, once one is answered."""
        given_up = self.hedged is not None and self.hedged.given_up
        return len(self.failed) + 1 + given_up

    def is_last_attempt(self, table: RoutingTable) -> bool:
        """Whether an answer that says 'not now' has to do, since there is no other way."""
        if self.limits.unreplayable or len(self.failed) + 1 >= self.limits.max_attempts:
            return True
        if self.resolved is None:
            return False
        name, versions = self.resolved.route.name, {self.resolved.version}
        if self.resolved.split is not None:
            versions |= {self.resolved.route.default_version, self.resolved.split.canary.version}
        regions = self.caller.regions
        left = sum(len(table.replicas(name, version, regions)) for version in versions)
        return len(self.failed) + 1 >= left

    @property
    def model_in_body(self) -> bool:
        """Whether the path names no model, as with OpenAI."""
        return self.target.verb in _MODEL_IN_BODY

    def check_protocol(self, resolved: Resolved) -> None:
        """Refuse a text request to a model that takes tensors; raises Invalid."""
        route = resolved.route
        if self.model_in_body and route.protocol is ModelProtocol.TENSOR:
            raise Invalid(
                f"Model {route.name!r} takes tensors, not text.",
                hint=f"Send POST /v2/models/{route.name}/infer.",
                reason="not-a-text-model",
            )

    def expect_tokens(self, resolved: Resolved, now_s: float) -> None:
        """Take the tokens of what is asked from the tenant's limit, once; raises OverQuota."""
        verb, text = self.target.verb, resolved.route.protocol is not ModelProtocol.TENSOR
        if self.meter is None and text and verb is not InferenceVerb.METADATA:
            size = self.body.length or self.body.size
            self.hold.expect_tokens(estimate(size), now_s)
            self.meter = Meter(size, readable=verb in _SAYS_TEXT)

    def note_usage(self) -> None:
        """Tell the tenant's limit what the answer took until now."""
        if self.meter is not None:
            self.hold.used = self.meter.tokens()


async def read_call(
    request: Request,
    visit: Visit,
    hold: Hold,
    *,
    started_s: float,
    limits: ProxyLimits,
    keep: Callable[[int], bool] = lambda _: True,
) -> Call:
    """Read what routing needs: the body, the model, the client's wishes.

    `keep` grants memory for a body, piece by piece. Raises Invalid, TooLarge, SlowClient, or
    Unavailable where a body must be kept and there is no memory for it.
    """
    target = visit.target
    in_body = target.verb in _MODEL_IN_BODY
    if in_body and request.head.length > limits.replay_bytes:
        raise _too_large_to_name(limits)
    body = await bodies.read(request, limits.body, limits.replay_bytes, keep)
    reference = target.model
    if in_body:
        if body.size > limits.replay_bytes:
            raise _too_large_to_name(limits)
        if body.rest is not None:
            raise Unavailable(
                "This router has no memory for the body at the moment.",
                hint="Try again in a second.",
                reason="memory-short",
            )
        reference = bodies.openai_model(body, request.headers)
    deadline_s = _client_deadline_s(request) or bodies.timeout_s(body, request.headers)
    return Call(
        request=request,
        visit=visit,
        hold=hold,
        started_s=started_s,
        body=body,
        reference=reference,
        limits=Limits(
            deadline_s=started_s + (deadline_s or limits.deadline_s),
            unreplayable=bodies.unreplayable(body, request.headers),
            may_hedge=target.verb is InferenceVerb.INFER
            and body.size <= _LARGEST_HEDGED
            and not bodies.only_after_failure(request.headers),
        ),
        own_deadline=deadline_s is not None,
        affinity=_affinity(target.verb, body, request),
    )


def _too_large_to_name(limits: ProxyLimits) -> TooLarge:
    return TooLarge(
        f"The body is larger than {limits.replay_bytes} bytes, which is the limit where "
        "the model is named in the body.",
        hint="Send less in one request.",
    )


def _affinity(verb: InferenceVerb, body: bodies.Body, request: Request) -> tuple[int, ...]:
    """Only models that speak text know a prompt again; a session may be anything."""
    session = request.headers.get(SESSION_HEADER, "")[:200]
    return affinity.keys(session, body.kept if verb in _SAYS_TEXT else b"")


def _client_deadline_s(request: Request) -> float | None:
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return None
    sane = text.isascii() and text.isdigit() and len(text) <= len(str(_LONGEST_MS))
    if not (sane and 0 < int(text) <= _LONGEST_MS):
        raise Invalid(f"{DEADLINE_HEADER} must be milliseconds between 1 and {_LONGEST_MS}.")
    return int(text) / 1000
