"""Shadow requests: a sample of what a canary answered is asked of the stable version as well.

Input: requests whose client has its answer already. Output: how many pairs of answers were compared
and how many disagreed, in `counting`; the answers themselves are kept nowhere. Half of the
sample is asked of the stable version twice: how often that disagrees with itself is what the
canary's disagreements are judged by; with fewer of them little could be said.

One pair at a time, of small requests that may be sent twice, to the cluster that answered; what
comes faster is left out. Nothing of this counts as a request of a client.
"""

import asyncio
import logging
from dataclasses import dataclass

import msgspec
from multidict import CIMultiDict

from federation.relay.forward import Deadlines, ForwardError, Outgoing
from federation.relay.headers import INFERENCE_HEADER_LENGTH
from federation.relay.paths import InferenceVerb, gateway_path
from router.policy import agreement
from router.policy.shortlist import Option
from router.policy.signals import Ending
from router.policy.table import Resolved
from router.request.answer import Answer
from router.request.call import Call
from router.request.outgoing import own_fields, passed_fields, resolved_fields
from router.state import RouterState
from router.upstream.http import Upstreams

log = logging.getLogger(__name__)

LONGEST = 256 * 1024  # bytes of a request
WAITING = 16  # pairs
AGAIN = 0.5  # of the pairs, the stable version is asked twice
PATIENCE_S = 30.0
_SHADOW = b"x-fed-shadow: 1\r\n"  # tells gateways and engines' logs what it is
_VERBS = frozenset(
    {
        InferenceVerb.INFER,
        InferenceVerb.GENERATE,
        InferenceVerb.COMPLETIONS,
        InferenceVerb.CHAT,
        InferenceVerb.EMBEDDINGS,
        InferenceVerb.RERANK,
        InferenceVerb.SCORE,
    }
)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, as far as it is compared."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    model: str
    stable: int
    canary: int
    chosen: Option
    outgoing: Outgoing  # to the stable version
    said: Said


class Shadow:
    """Compares a sample of a canary's answers with the stable version's."""

    def __init__(self, *, state: RouterState, upstreams: Upstreams) -> None:
        self._state = state
        self._upstreams = upstreams
        self._pairs: asyncio.Queue[_Pair] = asyncio.Queue(WAITING)

    def __repr__(self) -> str:
        return f"Shadow({self._pairs.qsize()} wait)"

    def wants(self, resolved: Resolved) -> bool:
        """Return whether a request that was answered is in the sample."""
        split = resolved.split
        if split is None or resolved.version != split.canary.version:
            return False
        return 100.0 * self._state.dice.random() < split.canary.shadow_percent

    def take(self, call: Call, resolved: Resolved, chosen: Option, answer: Answer) -> None:
        """Compare what a request was answered, if it can be."""
        stable = resolved.route.default_version
        table, model = self._state.require_table(), resolved.route.name
        fits = not self._pairs.full() and _fits(call, answer)
        if not fits or chosen.cluster not in table.warm.get((model, stable), ()):
            return
        passed, trace = passed_fields(call.request.head)
        fields = passed + own_fields(call.request_id, trace) + _SHADOW
        if call.model_in_body:
            fields += resolved_fields(model, stable)
        base = self._upstreams.base(chosen.cluster, chosen.url)
        outgoing = Outgoing(
            method=call.request.method,
            url=base + gateway_path(call.target.verb, model, stable),
            fields=fields,
            body=call.body.kept,
        )
        said = Said(answer.status, answer.headers, answer.first)
        self._pairs.put_nowait(
            _Pair(
                model=model,
                stable=stable,
                canary=resolved.version,
                chosen=chosen,
                outgoing=outgoing,
                said=said,
            )
        )

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            pair = await self._pairs.get()
            counting, region = self._state.counting, pair.chosen.region
            first = await self._ask(pair)
            if first is None or first.status >= 400:
                continue  # it cannot tell what is right
            counting.compared(pair.model, pair.canary, region, agreed=agree(pair.said, first))
            if self._state.dice.random() < AGAIN:
                second = await self._ask(pair)
                if second is not None and second.status < 400:
                    counting.compared(pair.model, pair.stable, region, agreed=agree(first, second))

    async def _ask(self, pair: _Pair) -> Said | None:
        """Ask the stable version; None if it did not answer."""
        clock, cluster = self._state.clock, pair.chosen.cluster
        attempt = self._state.signals.begin(cluster, pair.model, pair.stable, clock.monotonic_s())
        deadlines = Deadlines(connect_s=1.0, first_byte_s=PATIENCE_S, idle_s=PATIENCE_S)
        try:
            async with (
                asyncio.timeout(2 * PATIENCE_S),
                self._upstreams.send(cluster, pair.outgoing, deadlines=deadlines) as upstream,
            ):
                body = await upstream.read(LONGEST)
                if body is None:
                    return None  # longer than any that is compared
                return Said(upstream.status, upstream.passed_headers(), body)
        except (ForwardError, TimeoutError) as error:
            log.debug("a shadow request to %s failed: %s", cluster, error)
            return None
        finally:
            attempt.end(Ending.ABANDONED, "", clock.monotonic_s())


def _fits(call: Call, answer: Answer) -> bool:
    return (
        call.target.verb in _VERBS
        and answer.rest is None
        and answer.status == 200
        and not call.limits.unreplayable
        and not answer.is_events
        and "Content-Encoding" not in answer.headers
        and len(call.body.kept) <= LONGEST
    )


def agree(one: Said, other: Said) -> bool:
    """Return whether two answers say the same."""
    if one.status != other.status:
        return False
    try:
        return agreement.same_tensors(_apart(one), _apart(other))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return one.body == other.body


def _apart(said: Said) -> tuple[object, bytes]:
    """Return the JSON document of an answer, and the tensors that follow it."""
    length = said.headers.get(INFERENCE_HEADER_LENGTH, "")
    at = int(length) if length.isascii() and length.isdigit() else len(said.body)
    return msgspec.json.decode(said.body[:at]), said.body[at:]
