"""Which cluster answers a request: filter, score, pick.

Input: the routing table, what `signals` has learned, the clusters that already failed this
request, and dice. Output: a Decision: `proxy` sends to `chosen`, `explain` shows the rest.
Endpoints outside the residency of the model or of the caller never get here: see
`RoutingTable.replicas`.

The score is the expected time to the first byte: the round trip, the wait for a place, and the
service. Among near equals dice choose, the better ones more often: so load moves gradually, and
many routers with the same view do not all choose the same cluster.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from federation.runtime.backoff import Dice
from router.policy import split
from router.policy.affinity import bonuses
from router.policy.breaker import BreakerState
from router.policy.decision import Decision, Question, Reason
from router.policy.latency import prior_ms
from router.policy.shortlist import PANIC_BELOW, PREFER_MS, Option, Shortlist
from router.policy.signals import Signals, avoid
from router.policy.table import RoutingTable

NEAR_EQUAL_MS = 1.0
NEAR_EQUAL_SHARE = 0.2
_NEVER = float("inf")
_ONLY, _NEAREST, _SPILLED = Reason.ONLY, Reason.NEAREST, Reason.SPILLED
RETURN_S = 10.0  # what was out gets its share of the requests back in so long


def decide(table: RoutingTable, signals: Signals, question: Question, dice: Dice) -> Decision:
    """Choose a cluster; the same arguments always give the same decision."""
    short, now_s = shortlist(table, signals, question), question.now_s
    bonus = None
    if question.affinity:
        bring_up_to_date(short, signals, now_s)
        bonus = bonuses(short.best, question.affinity)
    careful = question.failed or question.careful
    picked = None if careful else pick(short, signals, now_s, dice, bonus)
    if picked is None:
        bring_up_to_date(short, signals, now_s)
        return _carefully(short, question, dice)
    decision = Decision(short, question, *picked)
    decision.scored = short.scored
    if bonus is not None and decision.chosen in bonus:
        decision.reason = Reason.AFFINITY
    return decision


def pick(
    short: Shortlist,
    signals: Signals,
    now_s: float,
    dice: Dice,
    bonus: Mapping[Option, float] | None = None,
) -> tuple[Option, Reason, float] | None:
    """Choose among the best for a request that has not failed yet; None = none of them can be had
    just like that, and nothing was counted: `decide` looks at all of them.

    Returns the choice, why, and the least score."""
    if short.stamp != signals.stamp or now_s >= short.ordered_until_s:
        bring_up_to_date(short, signals, now_s)
    least, rank, scored = _NEVER, 0, []
    for option in short.best:
        lane = option.lane
        if lane.held_until_s > now_s:
            continue
        score = option.way_ms + lane.cost_ms(now_s)
        if bonus is not None and option in bonus:
            score -= bonus[option]
        scored.append((score, option))
        if score < least:
            least, rank = score, option.rank
    short.scored = scored
    chosen = among(scored, least, dice, rank)
    if chosen is None or _must_wait(chosen, short, now_s, dice):
        return None
    return chosen, done(short, chosen), least


def bring_up_to_date(short: Shortlist, signals: Signals, now_s: float) -> None:
    """Look at the lanes again, or order them anew, if what is known of them is too old."""
    if short.stamp != signals.stamp or now_s >= short.fresh_until_s:
        refresh(short, signals, now_s)
    elif now_s >= short.ordered_until_s:
        short.order(now_s)


def among(
    scored: Sequence[tuple[float, Option]], least: float, dice: Dice, rank: int = 0
) -> Option | None:
    """One of the near equals: the nearer to the least, the more often. `rank` is that of the least:
    what a region costs for being less preferred is no time of which a part is noise."""
    band = NEAR_EQUAL_SHARE * (least - PREFER_MS * rank)
    if band < NEAR_EQUAL_MS:
        band = NEAR_EQUAL_MS
    edge, whole = least + band, 0.0
    near: list[Option] = []
    marks: list[float] = []
    for score, option in scored:
        if score < edge:
            whole += edge - score
            near.append(option)
            marks.append(whole)
    if len(near) < 2:
        return near[0] if near else None
    shown = dice.random()
    one = near[bisect_left(marks, whole * shown)]
    other = near[bisect_left(marks, whole * (shown + 0.5 if shown < 0.5 else shown - 0.5))]
    if one is other:
        return one
    lane, rival = one.lane, other.lane
    return one if lane.own * rival.concurrency <= rival.own * lane.concurrency else other


def _must_wait(option: Option, short: Shortlist, now_s: float, dice: Dice) -> bool:
    """Whether a choice does not stand: the lane is still coming back, has its share, or is full."""
    lane = option.lane
    if now_s < lane.back_at_s + RETURN_S and dice.random() * RETURN_S > now_s - lane.back_at_s:
        return len(short.best) > 1
    if option.ceiling < 1.0 and lane.picks > option.ceiling * (short.picks + 8):
        return len(short.best) > 1
    return lane.limit < _NEVER and lane.in_flight(now_s) >= lane.limit


def done(short: Shortlist, chosen: Option) -> Reason:
    """Count a choice; return why it was made."""
    short.picks += 1
    chosen.lane.picks += 1
    if short.panic:
        return Reason.PANIC
    if len(short.options) == 1:
        return _ONLY
    near = chosen.rtt_ms <= short.home_ms + NEAR_EQUAL_MS
    return _NEAREST if near else _SPILLED


def _carefully(short: Shortlist, question: Question, dice: Dice) -> Decision:
    """Choose among all: for a request that failed before, one with an affinity, and where the best
    ones cannot be had."""
    now_s, failed = question.now_s, question.failed
    left = [o for o in short.options if o.cluster not in failed]
    if not left:
        return Decision(short, question, None, Reason.NONE)
    sound = [o for o in left if not o.why and o.lane.held_until_s <= now_s]
    if question.affinity:
        sound = [o for o in sound if o in short.best] or sound
    if len(failed) > 1:  # the last attempt goes to another region, if there is one
        dark = {o.region for o in short.options if o.cluster in failed}
        sound = [o for o in sound if o.region not in dark] or sound
    roomy = [o for o in sound if o.lane.in_flight(now_s) < o.lane.limit]
    if sound and not roomy:
        return Decision(short, question, None, Reason.FULL)
    desperate = not roomy
    pool = roomy or _least_bad(left, now_s)
    open_ = [o for o in pool if not capped(o, short, now_s, dice)] or pool
    bonus = bonuses(open_, question.affinity) if question.affinity else {}
    scored = [(_score(o, now_s, bonus.get(o, 0.0)), o) for o in open_]
    least, rank = min((score, o.rank) for score, o in scored)
    chosen = among(scored, least, dice, rank) or scored[0][1]
    decision = Decision(short, question, chosen, done(short, chosen), least)
    if desperate:
        decision.reason = Reason.DESPERATE
    elif chosen in bonus:
        decision.reason = Reason.AFFINITY
    return decision


def _least_bad(left: Sequence[Option], now_s: float) -> Sequence[Option]:
    """Of those that all have a reason to be avoided: absent ones, then what just refused, then what
    answers probes at least."""
    tiers: dict[int, list[Option]] = {}
    for option in left:
        lane, breaker = option.lane, option.lane.place.breaker
        if not avoid(lane, now_s):
            tier = 0
        elif lane.held_until_s > now_s:
            tier = 1
        else:
            tier = 3 if breaker.state is BreakerState.OPEN and breaker.hard else 2
        tiers.setdefault(tier, []).append(option)
    return tiers[min(tiers)]


def capped(option: Option, short: Shortlist, now_s: float, dice: Dice) -> bool:
    """Whether a cluster has had its share for now."""
    lane = option.lane
    if option.ceiling < 1.0 and lane.picks > option.ceiling * (short.picks + 8):
        return True
    since_s = now_s - lane.back_at_s
    return since_s < RETURN_S and dice.random() * RETURN_S > since_s


def _score(option: Option, now_s: float, bonus: float) -> float:
    return option.way_ms + option.lane.cost_ms(now_s) - bonus


def shortlist(table: RoutingTable, signals: Signals, question: Question) -> Shortlist:
    """Return the list for this kind of request, made when the first one comes; good for others of
    its kind as long as the table is the same."""
    resolved, place, regions = question.resolved, question.origin, question.regions
    key = (
        resolved.route.name,
        resolved.version,
        regions if type(regions) is frozenset else frozenset(regions),
        None if place is None else (round(place.latitude / 5), round(place.longitude / 5)),
    )
    found = signals.lists.get(key)
    if found is not None and found.table is table:
        return found
    if len(signals.lists) > 4096:
        signals.lists.clear()
    options = []
    prefer, canary = signals.prefer, bool(split.marked(resolved.route, resolved.version))
    for endpoint in table.replicas(key[0], key[1], key[2]):
        lane = signals.lane(endpoint.cluster, key[0], key[1])
        replica = table.warm[key[0], key[1]][endpoint.cluster]
        if replica.concurrency:
            limit = replica.concurrency * signals.queue_depth
            lane.declare(replica.concurrency, replica.latency_ms, limit)
        rank = prefer.index(endpoint.region) if endpoint.region in prefer else len(prefer)
        lane.canary = canary
        option = Option(endpoint, lane, signals.ceilings.get(endpoint.cluster, 1.0), rank)
        option.version = key[1]
        option.rtt_ms = prior_ms(place, endpoint.location)
        options.append(option)
    found = signals.lists[key] = Shortlist(table, options)
    return found


def refresh(short: Shortlist, signals: Signals, now_s: float) -> None:
    """Look at every lane again, and order them anew."""
    options = short.options
    seen = [o.lane for o in options if o.lane.service.count]
    typical_ms = _middle([lane.service.slow for lane in seen], 0.0)
    scale = _middle([n.service.slow / n.declared_ms for n in seen if n.declared_ms], 1.0)
    usual = _middle([lane.declared for o in options if (lane := o.lane).declared], 0.0)
    for option in options:
        option.lane.refresh(scale, typical_ms, now_s, usual)
        measured = option.lane.place.rtt.ms
        if measured is not None:
            option.rtt_ms, option.measured = measured, True
        option.way_ms = option.rtt_ms + PREFER_MS * option.rank
    signals.sweep([o.lane for o in options], now_s)
    for option in options:
        option.why = _why_out(option, now_s)
    sound = [o for o in options if not o.why]
    soft = [o for o in options if o.why and o.endpoint.present and not o.lane.place.breaker.hard]
    short.panic = bool(soft) and len(sound) < PANIC_BELOW * (len(sound) + len(soft))
    if short.panic:
        sound += soft
    absent = [o for o in options if not o.endpoint.present and not avoid(o.lane, now_s)]
    for option in sound or absent:
        option.why = ""
    short.admit(sound or absent, signals.stamp, now_s)


def _why_out(option: Option, now_s: float) -> str:
    """Return why no decision looks at it; what it refused a moment ago is looked at each time."""
    lane = option.lane
    if now_s >= lane.held_until_s and (why := avoid(lane, now_s)):
        return why
    return "" if option.endpoint.present else "the control plane lost contact with it"


def _middle(values: list[float], otherwise: float) -> float:
    return sorted(values)[(len(values) - 1) // 2] if values else otherwise
