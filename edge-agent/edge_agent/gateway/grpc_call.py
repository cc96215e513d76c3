"""One gRPC call at the gateway: which engine model it means, and that exactly this one runs.

Input: the head of a router's call, which names model and version; answers of the engine. Output: a
route to the engine that appends the engine's name for the version to every message - of equal
fields the last one wins - and the public name to every answer; or a refusal, which tells the router
whether it may try elsewhere.
"""

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edge_agent.backends.base import GrpcRoute, Verb
from edge_agent.gateway.flights import Key
from edge_agent.gateway.metrics import Outcome
from edge_agent.gateway.names import Naming
from edge_agent.gateway.relay import Refusal
from edge_agent.gateway.verdict import Verdict, judge
from federation.contract.errors import FederationError, Invalid, Unavailable
from federation.relay.errors import NothingDone, status_of
from federation.relay.h2 import status as statuses
from federation.relay.h2.blocks import literal, literals
from federation.relay.h2.heads import AnswerHead, RequestHead
from federation.relay.h2.message import name_fields, text_field
from federation.relay.h2.rewriting import (
    AppendingToAnswers,
    AppendingToRequests,
    Replacing,
    Rewriter,
)
from federation.relay.h2.service import Failure, Handler, Kind, Patience, Reply, Route
from federation.relay.h2.start import Start
from federation.relay.h2.status import Status, Unimplemented
from federation.relay.headers import (
    LOAD_HEADER,
    MODEL_HEADER,
    OUTCOME_HEADER,
    REFUSED_HEADER,
    VERSION_HEADER,
)
from federation.relay.transport import Inbound

if TYPE_CHECKING:
    from edge_agent.gateway.grpc_service import GrpcService

NO_GRPC = "no-grpc"
_SERVICE = b"/inference.GRPCInferenceService/"
_VERBS = {
    _SERVICE + b"ModelInfer": Verb.INFER,
    _SERVICE + b"ModelStreamInfer": Verb.INFER,
    _SERVICE + b"ModelMetadata": Verb.METADATA,
}
_STREAM = _SERVICE + b"ModelStreamInfer"
_LIVE = _SERVICE + b"ServerLive"
_MODEL, _VERSION, _LOAD = (n.encode() for n in (MODEL_HEADER, VERSION_HEADER, LOAD_HEADER))
_FIRST_BYTE_S = 120.0
_HTTP = {
    Status.OK: 200,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.UNIMPLEMENTED: 501,
    Status.UNAVAILABLE: 503,
    Status.CANCELLED: 499,
}  # for `verdict.judge` and the `code` of metrics; what is not here is 500


class _NotWell(FederationError):
    """The engine failed under the call, which it may have executed."""


class GatewayCall(Handler):
    """The Handler of one call."""

    def __init__(self, service: "GrpcService", head: RequestHead, inbound: Inbound | None) -> None:
        self._service = service
        self._desk = service.desk
        self._head = head
        self._inbound = inbound
        self._scopes = ExitStack()
        self._outcome: Outcome | None = None
        self._key: Key = ("", 0)
        self._naming: Naming | None = None
        self._refused = ""
        self.patience = Patience()

    def __repr__(self) -> str:
        return f"GatewayCall({self._head}, {self._key})"

    def route(self, start: Start) -> Route | Reply | None:
        """Return where the call goes at the engine; raises FederationError."""
        if self._head.path == _LIVE:
            return Reply(message=b"\x08\x01") if start.ended else None
        self._scopes.enter_context(self._service.serving(self._head, self._inbound))
        verb = _VERBS.get(self._head.path)
        if verb is None:
            raise Unimplemented("There is no such method here.")
        self._key = _key(self._head)
        self._outcome = self._scopes.enter_context(self._desk.metrics.request(verb))
        self._scopes.enter_context(self._desk.flights.enter(self._key))
        try:
            protocol = self._desk.admit(verb, self._key)
        except Refusal as refusal:
            self._refused = refusal.headers.get(REFUSED_HEADER, "")
            raise refusal.error from None
        self._outcome.version = self._key
        model, version = self._key
        speaks = self._service.speaks
        place = speaks.grpc_route(model, version, protocol) if speaks else None
        if place is None:
            self._refused = NO_GRPC
            raise Unimplemented(
                f"The engine that serves {model!r} here speaks no gRPC.",
                hint=f"Use HTTP: POST /v2/models/{model}/infer.",
            )
        return self._to_engine(verb, place)

    def _to_engine(self, verb: Verb, place: GrpcRoute) -> Route:
        model, version = self._key
        self._naming = Naming(place.engine_model, model, version)
        streams = self._head.path == _STREAM
        self.patience.total_s = self._head.timeout_s
        self.patience.first_s = None if streams else _FIRST_BYTE_S
        ours = name_fields(model, str(version))
        answer: Rewriter
        if verb is Verb.METADATA:
            answer = Replacing(lambda message: message + text_field(1, model.encode()))
        else:
            answer = AppendingToAnswers(text_field(2, ours) if streams else ours)
        return Route(
            backend=self._service.backend(place.address),
            request=AppendingToRequests(
                name_fields(place.engine_model, ""),
                encoding=self._head.encoding,
                same_model=streams,
            ),
            answer=answer,
        )

    # ------------------------------------------------------------ the engine's answer

    def keep(self, size: int) -> bool:
        """Nothing is kept: there is one engine, and the router tries elsewhere."""
        return False

    def judge(self, answer: AnswerHead, *, alone: bool) -> Failure | None:
        """Return what an answer that is only an error says of the engine."""
        if not alone or answer.grpc_status in (b"", b"0"):
            return None
        status = statuses.parse(answer.grpc_status)
        words = statuses.words(answer.message)
        verdict = judge(_HTTP.get(status, 500), json.dumps({"error": words}).encode())
        if verdict.doubt:
            self._desk.doubt(*self._key, f"answered {status.name}: {words[:200]}")
        return _failure(verdict, status, self._in_text(words))

    def _in_text(self, words: str) -> str:
        """Return a text with our name of the version in place of the engine's."""
        if self._naming is None or self._naming.engine not in words:
            return words
        return self._naming.in_text(words.encode()).decode("utf-8", "replace")

    def answer(self, answer: AnswerHead, *, first: bool, last: bool) -> bytes:
        """Return the header block to send on; the load stands last (see `AnswerReader`)."""
        block = answer.block
        if answer.message:
            words = self._in_text(statuses.words(answer.message))
            block += statuses.message_field(words)
        return block + self._load() if first else block

    def _load(self) -> bytes:
        return literal(_LOAD, b"%d" % self._desk.flights.count(self._key))

    def lost(self, failure: Failure, *, again: bool) -> None:
        """The attempt failed: always raises, for there is one engine."""
        if failure.kind is Kind.REFUSED:
            self._refused = failure.reason
            raise Unavailable(failure.why)
        if failure.reason == "its-own":
            raise _NotWell(failure.why)
        if failure.kind is not Kind.GIVEN_UP:
            self._desk.doubt(*self._key, failure.why)
        if failure.nothing_done:
            self._refused = "engine-down"
            raise Unavailable(f"The engine does not answer: {failure.why}.")
        raise _NotWell(f"The engine broke off: {failure.why}.", reason="engine-broke-off")

    def told(self, error: FederationError) -> bytes:
        """Return what the router has to know of an error of ours."""
        fields = []
        if isinstance(error, NothingDone):
            self._refused = error.refused
        if self._refused:
            fields.append((REFUSED_HEADER, self._refused))
        elif isinstance(error, _NotWell):
            fields.append((OUTCOME_HEADER, "unknown"))
        if self._outcome is not None:
            self._outcome.code = str(status_of(error))
            self._outcome.refused = self._refused
        return literals(fields) + self._load()

    def ended(self, status: Status | None, sent: int) -> None:
        """The call is over: give its place back."""
        if self._outcome is not None and status is not None and self._outcome.code == "gone":
            self._outcome.code = str(_HTTP.get(status, 500))
        self._scopes.close()


def _key(head: RequestHead) -> Key:
    """Return model and version, which the router names; raises Invalid."""
    model, version = head.one(_MODEL), head.one(_VERSION)
    if not model or not (version.isdigit() and len(version) < 10):
        raise Invalid(
            "Which model?", hint=f"Set {MODEL_HEADER} and {VERSION_HEADER}; a router does."
        )
    return model.decode("ascii", "replace"), int(version)


def _failure(verdict: Verdict, status: Status, words: str) -> Failure | None:
    if verdict.refused:
        return Failure(kind=Kind.REFUSED, why=words, reason=verdict.refused)
    if verdict.unknown:
        return Failure(kind=Kind.BROKEN, why=words, reason="its-own", status=status)
    return None
