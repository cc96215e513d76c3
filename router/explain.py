"""Why a request would go where: a decision made without sending anything.

Input: a model reference, a client's address and perhaps its tenant and key, from the admin page or
from the control plane.
Output: a document with every cluster, its score or the reason why it is out, and one sentence.
"""

from federation.contract.errors import NotFound
from federation.contract.names import did_you_mean
from federation.contract.types import Endpoint
from router.geo import Locator, Place
from router.policy import canary, residency
from router.policy.access import EVERYONE, Caller
from router.policy.decision import Candidate, Decision, Question
from router.policy.pick import decide
from router.policy.table import Resolved, RoutingTable
from router.request.client_key import settle
from router.request.holding import sleeps, why_asleep
from router.state import RouterState

Document = dict[str, object]


def explain(
    state: RouterState,
    locator: Locator,
    reference: str,
    address: str,
    tenant: str = "",
    client_key: str = "",
) -> Document:
    """Return the explanation, for a request of a tenant ("" = of somebody who may do everything)
    and of a client with a key ("" = of one that cannot be told from others).

    Raises NotFound for an unknown model or tenant, PermissionDenied for what the tenant may not do,
    Unavailable without a table.
    """
    table = state.require_table()
    caller = _caller(table, tenant)
    caller.check_model(reference)
    resolved = settle(table.resolve(reference), client_key, state.dice, None, ())
    residency.check(resolved.route, caller.regions)
    place = locator.locate(address) if address else None
    origin = state.location or (place.location if place else None)
    now_s = state.clock.monotonic_s()
    question = Question(resolved=resolved, now_s=now_s, regions=caller.regions, origin=origin)
    choose = decide if resolved.split is None else canary.decide
    decision = choose(table, state.signals, question, state.dice)
    candidates = decision.candidates()
    weighed = {c.cluster for c in candidates}
    rest = [e for name, e in table.endpoints.items() if name not in weighed]
    return {
        "router": state.name,
        "model": resolved.route.name,
        "version": decision.version,
        "snapshot_version": table.version,
        "client": _client(address, place),
        "chosen": decision.chosen.cluster if decision.chosen else None,
        "reason": decision.reason,
        "candidates": [_weighed(c) for c in _best_first(candidates)]
        + [_unweighed(state, e, _why_out(table, resolved, e, caller)) for e in rest],
        "why": why_asleep(resolved) if sleeps(resolved) else _why(decision),
        "split": _split(resolved),
    }


def _why(decision: Decision) -> str:
    split, chosen = decision.resolved.split, decision.chosen
    if split is None or chosen is None:
        return decision.why
    words = split.words(chosen.region, chosen.version)
    return f"{words[0].upper()}{words[1:]} {decision.why}"


def _split(resolved: Resolved) -> Document | None:
    """Tell of the rollout that goes on, if the request may get either version."""
    split = resolved.split
    if split is None:
        return None
    return {
        "rollout": split.canary.rollout,
        "stable": resolved.route.default_version,
        "canary": split.canary.version,
        "percent": dict(split.canary.weights),
        "client": round(split.mark, 1),
        "client_known": split.sticky,
    }


def _caller(table: RoutingTable, tenant: str) -> Caller:
    if not tenant:
        return EVERYONE
    if (caller := table.access.callers.get(tenant)) is None:
        hint = did_you_mean(tenant, table.access.callers)
        raise NotFound(f"There is no tenant {tenant!r} here.", hint=hint, reason="unknown-tenant")
    return caller


def _best_first(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda c: (bool(c.excluded), c.score_ms, c.cluster))


def _client(address: str, place: Place | None) -> Document:
    location = place.location if place else None
    return {
        "address": address,
        "country": place.country or None if place else None,
        "location": location,
    }


def _weighed(candidate: Candidate) -> Document:
    return {
        "cluster": candidate.cluster,
        "version": candidate.version,
        "region": candidate.region,
        "rtt_ms": round(candidate.rtt_ms, 1),
        "rtt_measured": candidate.measured,
        "in_flight": round(candidate.in_flight, 1),
        "concurrency": round(candidate.concurrency, 1),
        "wait_ms": round(candidate.wait_ms, 1),
        "service_ms": round(candidate.service_ms, 1),
        "other_ms": round(candidate.other_ms, 1),
        "score_ms": round(candidate.score_ms, 1),
        "state": candidate.state,
        "excluded": candidate.excluded or None,
    }


def _unweighed(state: RouterState, endpoint: Endpoint, why: str) -> Document:
    breaker, rtt_ms, _ = state.signals.health(endpoint.cluster, state.clock.monotonic_s())
    return {
        "cluster": endpoint.cluster,
        "version": None,
        "region": endpoint.region,
        "rtt_ms": None if rtt_ms is None else round(rtt_ms, 1),
        "rtt_measured": rtt_ms is not None,
        "in_flight": state.signals.in_flight(endpoint.cluster),
        "concurrency": None,
        "wait_ms": None,
        "service_ms": None,
        "other_ms": None,
        "score_ms": None,
        "state": breaker,
        "excluded": why,
    }


def _why_out(table: RoutingTable, resolved: Resolved, endpoint: Endpoint, caller: Caller) -> str:
    route = resolved.route
    if not residency.permits(route, endpoint):
        return f"requests for {route.name!r} never leave {', '.join(route.residency)}"
    if not residency.inside(caller.regions, endpoint):
        where = ", ".join(sorted(caller.regions))
        return f"requests of tenant {caller.tenant.name!r} never leave {where}"
    if why := table.unusable.get(endpoint.cluster):
        return why
    return f"it has no warm replica of version {resolved.version}"
