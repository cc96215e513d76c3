"""One inference request as the router sees it: what was asked, and within which limits.

Input: a client's request whose target is parsed. Output: a Call, which `proxy` carries through all
attempts; or an error that says what is wrong with the request.
"""

from dataclasses import dataclass, field

from aiohttp import web

from federation.contract.errors import Invalid, TooLarge
from federation.contract.types import ModelProtocol
from federation.relay.paths import InferenceTarget, InferenceVerb
from federation.relay.server import BodyLimits
from router import body as bodies
from router.policy.pick import Candidate
from router.policy.retry import Failed, Limits
from router.policy.table import Resolved

DEADLINE_HEADER = "x-fed-deadline-ms"
_LONGEST_MS = 3_600_000
_MODEL_IN_BODY = frozenset({InferenceVerb.COMPLETIONS, InferenceVerb.CHAT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """What one request may take."""

    body: BodyLimits = field(default_factory=BodyLimits)
    replay_bytes: int = 8 * 1024 * 1024
    deadline_s: float = 60.0
    connect_s: float = 1.0
    idle_s: float = 60.0
    stall_s: float = 30.0


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way through; the last four fields tell how far it got."""

    request: web.BaseRequest
    target: InferenceTarget
    request_id: str
    started_s: float
    body: bodies.Body
    reference: str  # the model as the client named it
    limits: Limits
    own_deadline: bool  # the client's, not ours: missing it shows nothing of the cluster
    resolved: Resolved | None = None
    failed: list[Failed] = field(default_factory=list)
    answered_by: Candidate | None = None

    def __repr__(self) -> str:
        return f"Call({self.request_id}, {self.target}, failed={self.failed})"

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


async def read_call(
    request: web.BaseRequest,
    target: InferenceTarget,
    *,
    request_id: str,
    started_s: float,
    limits: ProxyLimits,
) -> Call:
    """Read what routing needs: the body, the model, the client's wishes; raises Invalid, TooLarge
    or SlowClient."""
    deadline_s = _client_deadline_s(request)
    body = await bodies.read(request, limits.body, limits.replay_bytes)
    reference = target.model
    if target.verb in _MODEL_IN_BODY:
        if body.rest is not None:
            raise TooLarge(
                f"The body is larger than {limits.replay_bytes} bytes, which is the limit where "
                "the model is named in the body.",
                hint="Send less in one request.",
            )
        reference = bodies.openai_model(body, request.headers)
    return Call(
        request=request,
        target=target,
        request_id=request_id,
        started_s=started_s,
        body=body,
        reference=reference,
        limits=Limits(
            deadline_s=started_s + (deadline_s or limits.deadline_s),
            unreplayable=bodies.unreplayable(body, request.headers),
        ),
        own_deadline=deadline_s is not None,
    )


def _client_deadline_s(request: web.BaseRequest) -> float | None:
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return None
    sane = text.isascii() and text.isdigit() and len(text) <= len(str(_LONGEST_MS))
    if not (sane and 0 < int(text) <= _LONGEST_MS):
        raise Invalid(f"{DEADLINE_HEADER} must be milliseconds between 1 and {_LONGEST_MS}.")
    return int(text) / 1000
