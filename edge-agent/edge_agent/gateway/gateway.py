"""The edge gateway: the only door to a cluster's engine, for inference and nothing else; and where
other clusters of the region get pieces of packages (see `peers`).

Input: requests from routers. Output: requests to the engine, at the address that the backend names;
its answers go back as they come, with `x-fed-load`. What the gateway must know comes from the
agent's loop (`served`); what it suspects goes there (`on_doubt`).
"""

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from edge_agent.backends.base import Backend, Dialect, Verb
from edge_agent.gateway.desk import Desk
from edge_agent.gateway.flights import Flights, Key
from edge_agent.gateway.metrics import LOOKS, GatewayMetrics, Outcome
from edge_agent.gateway.peers import PeerDesk
from edge_agent.gateway.recent import Figures
from edge_agent.gateway.relay import Call, EngineRelay, Refusal, RelayLimits
from edge_agent.gateway.text import translate
from edge_agent.serving.text_reply import Stamp
from federation.contract.errors import FederationError, Invalid, NotFound, Unavailable
from federation.contract.names import did_you_mean
from federation.contract.spiffe import PeerRole
from federation.contract.types import ModelProtocol, VersionState
from federation.relay.application import Application, make_application
from federation.relay.errors import error_response
from federation.relay.guard import PeerGuard
from federation.relay.headers import LOAD_HEADER, MODEL_HEADER, VERSION_HEADER
from federation.relay.http1.messages import Request, Response, StreamResponse
from federation.relay.paths import PEER_PREFIX, InferenceTarget, InferenceVerb, parse_target
from federation.runtime.clock import Clock, SystemClock

PEER_PATHS = {PEER_PREFIX: PeerRole.CLUSTER}
_SERVED = frozenset({VersionState.WARMED, VersionState.DRAINING})


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """What the agent's loop tells the gateway of one model version."""

    state: VersionState
    protocol: ModelProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """How much a gateway takes on. `in_flight` is per model version."""

    in_flight: int = 256
    relay: RelayLimits = field(default_factory=RelayLimits)


class Gateway:
    """Answers routers on behalf of one engine."""

    def __init__(
        self,
        backend: Backend,
        served: Callable[[], Mapping[Key, ServedVersion]],
        on_doubt: Callable[[str, int, str], None],
        *,
        limits: GatewayLimits | None = None,
        registry: CollectorRegistry | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._backend = backend
        self._served = served
        self._on_doubt = on_doubt
        self._limits = limits or GatewayLimits()
        self._flights = Flights()
        self._relay = EngineRelay(self._limits.relay)
        self._metrics = GatewayMetrics(registry or CollectorRegistry(), self._flights)
        self._clock = clock or SystemClock()
        self._draining = False

    def __repr__(self) -> str:
        state = "draining" if self._draining else "open"
        return f"Gateway({state}, {self._flights!r})"

    def application(
        self, guard: PeerGuard | None = None, peers: PeerDesk | None = None
    ) -> Application:
        """Return the application to serve; closing it closes the connections to the engine.

        `guard` checks who asks. Without one everybody who reaches the gateway may. `peers` answers
        other clusters; for that the guard has to know their paths (`PEER_PATHS`).
        """

        async def handle(request: Request) -> StreamResponse:
            if request.raw_path.startswith(PEER_PREFIX) and guard and peers and not self._draining:
                return await peers.handle(request, guard.peer(request).id.name)
            return await self._handle(request)

        app = make_application(handle, guard=guard)
        app.on_response.append(_always_with_load)
        app.on_cleanup.append(self._relay.close)
        return app

    def desk(self) -> Desk:
        """Return what gRPC shares with HTTP here."""
        return Desk(
            admit=lambda verb, key: self._admit(verb, key).protocol,
            doubt=self._doubt,
            flights=self._flights,
            metrics=self._metrics,
        )

    def in_flight(self, model: str, version: int) -> int:
        """Return how many requests for a version are in flight."""
        return self._flights.count((model, version))

    def recent(self, model: str, version: int) -> Figures:
        """Return how busy a version was lately."""
        return self._metrics.recent.figures((model, version), asyncio.get_running_loop().time())

    @property
    def serving(self) -> bool:
        """Whether any request is in flight."""
        return bool(self._flights.counts())

    @property
    def begun(self) -> int:
        """How many requests have been in flight so far."""
        return self._flights.begun

    def begin_drain(self) -> None:
        """Refuse new requests from now on; those in flight go on."""
        self._draining = True

    async def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; return whether that happened in time."""
        return await self._flights.landed(timeout_s)

    # ------------------------------------------------------------ one request

    async def _handle(self, request: Request) -> StreamResponse:
        target = parse_target(request.method, request.raw_path)
        if target.verb in (InferenceVerb.SERVER_LIVE, InferenceVerb.SERVER_READY):
            return self._health(target.verb)
        verb, key = _asked(target, request)
        with self._flights.enter(key), self._metrics.request(verb) as outcome:
            try:
                response = await self._serve(request, verb, key, outcome)
            except Refusal as refusal:
                response = error_response(request.path, refusal.error)
                response.headers.update(refusal.headers)
            except FederationError as error:
                response = error_response(request.path, error)
            if not response.prepared:
                response.headers[LOAD_HEADER] = str(self._flights.count(key))
            outcome.response(response)
        return response

    def _health(self, verb: InferenceVerb) -> Response:
        if verb is InferenceVerb.SERVER_LIVE:
            return _json({"live": True}, 200)
        load = {f"{model}@{version}": n for (model, version), n in self._flights.counts().items()}
        ready = not self._draining
        return _json({"ready": ready, "load": load}, 200 if ready else 503)

    async def _serve(
        self, request: Request, verb: Verb, key: Key, outcome: Outcome
    ) -> StreamResponse:
        model, version = key
        served = self._admit(verb, key)
        outcome.version = key
        route = self._backend.route(model, version, verb, served.protocol)
        if route is None and verb is Verb.READY:
            return Response()
        if route is None:
            raise NotFound(
                f"Model {model!r} has no {verb.value!r} here: it speaks {served.protocol.value}.",
                reason="unsupported-verb",
            )

        call = Call(
            request=request,
            verb=verb,
            model=model,
            version=version,
            route=route,
            load=lambda: self._flights.count(key),
            doubt=lambda reason: self._doubt(model, version, reason),
        )
        if route.dialect is Dialect.TRITON_TEXT:
            return await translate(self._relay, call, self._stamp())
        return await self._relay.relay(call)

    def _doubt(self, model: str, version: int, reason: str) -> None:
        self._metrics.doubts.labels(model).inc()
        self._on_doubt(model, version, reason)

    def _stamp(self) -> Stamp:
        return Stamp(uuid.uuid4().hex, int(self._clock.utc().timestamp()))

    def _admit(self, verb: Verb, key: Key) -> ServedVersion:
        """Return what is known of a version that may be asked now; raises Refusal."""
        if self._draining:
            raise Refusal(Unavailable("This cluster is shutting down."), refused="draining")
        versions = self._served()
        served = versions.get(key)
        if served is None:
            raise Refusal(_unknown(key, versions), refused="not-serving")
        if served.state not in _SERVED:
            cold = f"{key[0]} version {key[1]} is {served.state.value} at this cluster."
            raise Refusal(Unavailable(cold), refused="not-serving")
        if verb not in LOOKS and self._flights.count(key) > self._limits.in_flight:
            full = f"{key[0]} version {key[1]} has {self._limits.in_flight} requests in flight."
            raise Refusal(Unavailable(full, reason="saturated"), refused="saturated")
        return served


def _asked(target: InferenceTarget, request: Request) -> tuple[Verb, Key]:
    """Return verb, model and version of a request; the router names all three."""
    if target.verb.value not in _VERBS:
        raise NotFound(f"There is nothing at {request.path[:200]}.", reason="unknown-path")
    if target.model:
        if target.version is None:
            raise NotFound(
                f"Which version of {target.model!r}?", hint="Ask for /versions/N; a router does."
            )
        return Verb(target.verb.value), (target.model, target.version)
    model = request.headers.get(MODEL_HEADER, "")
    version = request.headers.get(VERSION_HEADER, "")
    if not model or not (version.isascii() and version.isdigit() and len(version) < 10):
        raise Invalid(
            "Which model?", hint=f"Set {MODEL_HEADER} and {VERSION_HEADER}; a router does."
        )
    return Verb(target.verb.value), (model, int(version))


_VERBS = frozenset(verb.value for verb in Verb)


def _unknown(key: Key, versions: Mapping[Key, ServedVersion]) -> NotFound:
    model, version = key
    own = sorted(v for m, v in versions if m == model)
    if own:
        listed = ", ".join(map(str, own))
        return NotFound(
            f"This cluster does not serve version {version} of {model!r}.",
            hint=f"It has: {listed}.",
            reason="unknown-version",
        )
    return NotFound(
        f"This cluster does not serve {model[:64]!r}.",
        hint=did_you_mean(model, {m for m, _ in versions}),
        reason="unknown-model",
    )


def _json(document: object, status: int) -> Response:
    body = json.dumps(document).encode()
    return Response(status=status, body=body, content_type="application/json")


def _always_with_load(_: Request, response: StreamResponse) -> None:
    response.headers.setdefault(LOAD_HEADER, "0")
