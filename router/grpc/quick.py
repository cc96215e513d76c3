"""The short way of a call: like others before it, it came whole, and is answered whole with OK.

Input: a message that came whole, and later the head of its answer. Output: the same choice, the
same counts and the same record as the usual steps give (`handler`), without what a call like it was
asked before. Where anything stands in the way, nothing is done, and the usual steps are taken.
"""

from federation.contract.types import Location
from federation.relay.h2.heads import AnswerHead
from federation.relay.h2.message import PEEK_BYTES, PREFIX_BYTES
from federation.relay.h2.service import Held, Patience, Route
from federation.relay.h2.start import Start
from federation.relay.headers import OUTCOME_HEADER, REFUSED_HEADER
from router.grpc.asking import SEQUENCE, id_of, least
from router.grpc.record import TENSOR, CallRecord
from router.grpc.telling import load_of, way_of
from router.grpc.ways import To, Way
from router.policy import residency
from router.policy.admission import Place
from router.policy.pick import pick
from router.policy.quota import Hold
from router.policy.shortlist import Option, Shortlist
from router.policy.signals import Attempt
from router.policy.table import Resolved

_REFUSED, _OUTCOME = REFUSED_HEADER.encode(), OUTCOME_HEADER.encode()
_LOOKED_AT = PREFIX_BYTES + PEEK_BYTES  # so far `asking.in_sequence` looks


class QuickCall(CallRecord):
    """One call. `handler.RouterCall` knows the usual steps."""

    _to: To | None = None  # where it was sent the short way

    def at_once(self, body: bytes) -> Route | Held | None:
        """Return where a call goes that came whole; None, and nothing done, if `route` is to be
        asked. Raises FederationError."""
        service, state, started_s = self._service, self._state, self._started_s
        size, remote = len(body), self._inbound.remote if self._inbound is not None else ""
        way = service.ways.of(self._head, body, remote, started_s)
        if way is None or way.never_twice or size > service.most_bytes:
            return None
        found = way.found or self._find(way)
        if found is None or body.find(SEQUENCE, PREFIX_BYTES, _LOOKED_AT) >= 0:
            return None
        resolved, short = found
        admission, account = self._shared.admission, way.account
        if not admission.take(size):
            return None  # the usual way says why
        if not account.take(started_s):
            admission.give_back(size)
            return None
        self._place, self._hold = Place(admission, size), Hold(way.caller.tenant, account)
        self._rpc, self._caller, self._named = way.rpc, way.caller, way.named
        self._request_size = size - PREFIX_BYTES
        state.budget.request(started_s)
        self.patience = way.patience
        if self._head.timeout_s is not None:
            total_s = least(self._head.timeout_s, way.patience.total_s)
            self.patience = Patience(total_s=total_s, first_s=way.patience.first_s)
        picked = pick(short, state.signals, started_s, state.dice)
        if picked is None:
            message = body[PREFIX_BYTES:_LOOKED_AT]
            return self._send(way.named, Start(message, size, whole=True, ended=True))
        chosen, reason, _ = picked
        to = way.tos.get(chosen) or self._way_to(way, resolved, chosen)
        self._to, self._resolved, self._chosen = to, resolved, chosen
        self._picked = chosen, reason, short.scored
        self._sent_s = sent_s = service.now_s()
        self._shared.metrics.count_decision(reason, sent_s - started_s)
        self._attempt = Attempt(state.signals, chosen.lane, sent_s)
        return Route(to.backend, self._told + way.ours)

    def _origin(self) -> Location | None:
        """Return from where distances are guessed."""
        raise NotImplementedError

    def _find(self, way: Way) -> tuple[Resolved, Shortlist] | None:
        """Find what calls of a way choose from; None if that differs from call to call."""
        resolved = self._service.steps.resolve(way.caller, way.named.name, way.version)
        if resolved.split is None and resolved.route.protocol is TENSOR:
            way.find(resolved, self._state, self._started_s)
        return way.found

    def _way_to(self, way: Way, resolved: Resolved, chosen: Option) -> To:
        """Work out how calls of a way get to a cluster; raises PermissionDenied."""
        residency.assure(resolved.route, way.caller.regions, chosen)
        kind = resolved.route.name, chosen.region, chosen.cluster
        found = way.tos[chosen] = To(
            self._service.backend(chosen.cluster, chosen.url),
            told=way_of(chosen, resolved, 1),
            table=self._state.table,
            tally=self._shared.metrics.tally(kind, way.caller.tenant.name, 200),
            who=self._who(),
        )
        return found

    def answered(self, answer: AnswerHead) -> bytes | None:
        """A call that `at_once` sent was answered whole, with OK: count it, give everything back.
        Returns the header block to send on; None, and nothing done, if it is not so simple."""
        to, attempt, resolved, chosen = self._to, self._attempt, self._resolved, self._chosen
        place, hold, noted, load = self._place, self._hold, answer.noted, None
        if to is None or attempt is None or resolved is None or chosen is None or self._failed:
            return None
        if place is None or hold is None:
            return None
        if noted:
            if _REFUSED in noted or _OUTCOME in noted:
                return None
            load = load_of(answer)
        state, tally, told, started_s = self._state, to.tally, self._told, self._started_s
        self._attempt = self._hold = self._place = None  # `ended` has nothing left to do
        steps = self._service.steps
        now_s = steps.went_well(attempt, resolved, chosen, load, self._sent_s)
        hold.leave()
        place.leave()
        if to.table is not state.table:
            tally = steps.tally(self._caller, resolved, chosen, 200)
        state.requests_total += 1
        tally.add(now_s - started_s)
        began = (id_of(told), now_s, started_s, to.who, resolved)
        state.records.keep((*began, *self._picked, 200, ()))
        return answer.block + told + to.told
