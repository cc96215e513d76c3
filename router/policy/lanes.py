"""What this router knows of one model version at one cluster, a lane, and what it costs there.

Input: requests that begin and end, what gateways report, what was measured after warm-up. Output:
the expected time on a lane, in ms, of which `pick` makes scores.

A cluster works on `concurrency` requests at once; those beyond wait for one of them to end. How
many are there is what the gateway said last, corrected by what this router has sent since; routers
that see the same do the same, so what was sent since counts for them, too (`echo`). A queue moves
on: what was said a while ago tells less than what is said on average.
"""

from dataclasses import dataclass, field

from router.policy.breaker import Breaker
from router.policy.latency import Average, RoundTrip

NEWS_LASTS_S = 2.0  # the last report counts less and less; from then on only their average does
AVERAGED_S = 5.0  # which is one over so long
FORGOTTEN_S = 15.0  # without news, what others send is not known any more
QUEUE_COSTS = 2.0  # times the wait: a queue is longer, or slower, than the last news of it
UNSHOWN = 2.0  # times what is usual: who says to do more at once than that must have shown it
ECHO = 1.0  # at most so many other requests are believed to follow each of ours
OVERDUE = 0.64  # of the mean age of what is not answered yet: nobody is served faster than that
_ERROR_GAIN = 0.1


@dataclass(slots=True)
class Place:
    """One cluster, as all of its lanes share it."""

    name: str
    url: str = ""
    rtt: RoundTrip = field(default_factory=RoundTrip)
    breaker: Breaker = field(default_factory=Breaker)
    lanes: "dict[tuple[str, int], Lane]" = field(default_factory=dict)


class Lane:
    """One model version at one cluster."""

    __slots__ = (
        "average_others",
        "awaiting",
        "awaiting_sum_s",
        "away",
        "back_at_s",
        "breaker",
        "canary",
        "concurrency",
        "declared",
        "declared_ms",
        "echo",
        "errors",
        "held_because",
        "held_until_s",
        "hold",
        "hold_ms",
        "limit",
        "news",
        "news_until_s",
        "overdue",
        "own",
        "own_then",
        "peers_ms",
        "picks",
        "place",
        "service",
        "service_ms",
        "shown",
        "typical_ms",
    )

    def __init__(self, place: Place) -> None:
        self.place = place
        self.own = 0  # sent by this router and not ended
        self.own_then = 0  # of these, when the gateway last told its load
        self.average_others = 0.0  # what it told beyond our own, of late
        self.news = 0.0  # what it told last beyond that, by the seconds for which it counts
        self.news_until_s = float("-inf")
        self.echo = 0.0
        self.awaiting = 0  # of our own, those without a first byte
        self.awaiting_sum_s = 0.0  # of the moments at which they were sent
        self.declared = 0.0  # measured after warm-up; 0 = not
        self.concurrency = 1.0
        self.shown = 0.0  # so many at once were seen to take no longer; 0 = nobody looked yet
        self.limit = float("inf")  # more are not sent there
        self.declared_ms = 0.0  # likewise
        self.typical_ms = 0.0  # what to expect of a lane like this one
        self.peers_ms = 0.0  # what its peers do
        self.service = Average()
        self.hold = Average()
        self.service_ms = 0.0  # to the first byte, without waiting
        self.hold_ms = 0.0  # how long a request occupies its place
        self.overdue = OVERDUE * 1000.0  # less where services are uneven, and old ones are no news
        self.breaker = Breaker()
        self.held_until_s = 0.0
        self.held_because = ""
        self.errors = 0.0  # the share of failures among the last answers
        self.picks = 0
        self.canary = False  # then being slow is for its rollout to judge, and nothing to avoid
        self.away = False  # it was out, and is to come back gradually
        self.back_at_s = float("-inf")

    def __repr__(self) -> str:
        return (
            f"Lane({self.place.name}, own={self.own}, others={self.average_others:.1f}, "
            f"concurrency={self.concurrency:.1f}, service={self.service_ms:.1f} ms)"
        )

    # ------------------------------------------------------------ what is expected

    def in_flight(self, now_s: float) -> float:
        """Return how many requests are believed to be there now."""
        own = self.own
        n, left_s = own + self.average_others, self.news_until_s - now_s
        if left_s > 0.0:
            n += left_s * self.news
        if own > self.own_then:
            n += self.echo * (own - self.own_then)
        return n

    def wait_ms(self, now_s: float) -> float:
        """Return how long one more request would wait before it is worked on, times QUEUE_COSTS."""
        beyond = self.in_flight(now_s) + 1.0 - self.concurrency
        return QUEUE_COSTS * self.hold_ms * beyond / self.concurrency if beyond > 0.0 else 0.0

    def cost_ms(self, now_s: float) -> float:
        """Return the time that one more request would take there, the way not counted.

        It is `service_ms + wait_ms(now_s)`, or what requests take that are not answered yet (not
        of a canary: it is judged, not avoided). The
        load is worked out here once more: every decision does this a dozen times.
        """
        cost, own, left_s = self.service_ms, self.own, self.news_until_s - now_s
        beyond = own + 1.0 - self.concurrency + self.average_others
        if left_s > 0.0:
            beyond += left_s * self.news
        if own > self.own_then:
            beyond += self.echo * (own - self.own_then)
        if beyond > 0.0:
            cost += QUEUE_COSTS * self.hold_ms * beyond / self.concurrency
        if self.awaiting and not self.canary:
            age = (now_s - self.awaiting_sum_s / self.awaiting) * self.overdue
            if age > cost:
                return age
        return cost

    def is_overdue(self, quiet_s: float, now_s: float) -> bool:
        """Whether our requests wait longer for an answer than `quiet_s` and than was expected."""
        if not self.awaiting:
            return False
        age_s = now_s - self.awaiting_sum_s / self.awaiting
        return (
            age_s > quiet_s and age_s * 1000.0 > self.service_ms + self.wait_ms(now_s) / QUEUE_COSTS
        )

    # ------------------------------------------------------------ what is learned

    def declare(self, concurrency: float, latency_ms: float, limit: float) -> None:
        """Take note of what was measured after warm-up (0 = it was not)."""
        self.declared, self.declared_ms = concurrency, latency_ms
        self.limit = limit or float("inf")
        if concurrency > 0:
            self.concurrency = max(concurrency, 1.0)

    def refresh(self, scale: float, typical_ms: float, now_s: float, usual: float = 0.0) -> None:
        """Take note of how the peers do: as `scale`, next to what was measured of them after
        warm-up, and in ms; of how many at once are `usual` (0 = unknown); let old news fade."""
        if now_s > self.news_until_s + FORGOTTEN_S:
            self.average_others = self.echo = 0.0
        if self.declared and usual:
            self.shown = self.shown or UNSHOWN * usual
            if self.concurrency > self.shown:
                self.concurrency = max(self.shown, 1.0)
        self.typical_ms, self.peers_ms = self.declared_ms * scale or typical_ms, typical_ms
        self.service_ms = self.service.expected(self.typical_ms, now_s)
        self.hold_ms = max(self.hold.expected(self.service_ms, now_s), self.service_ms)
        self.overdue = OVERDUE * 1000.0 / self.service.unevenness

    def told(self, load: int, now_s: float) -> None:
        """The gateway says how many requests are in flight there."""
        own, hold_ms = self.own, self.hold_ms
        arrived = hold_ms / (hold_ms + (self.place.rtt.ms or 0.0)) if hold_ms else 1.0
        others = load - own * arrived  # the rest of our own is on the way, and not in its count
        if others < 0.0:
            others = 0.0
        gain = (now_s + NEWS_LASTS_S - self.news_until_s) / AVERAGED_S
        average = self.average_others
        average += (gain if gain < 1.0 else 1.0) * (others - average)
        self.average_others, self.news = average, (others - average) / NEWS_LASTS_S
        self.news_until_s = now_s + NEWS_LASTS_S
        self.own_then = own
        echo = others / own if own > 1 else others
        self.echo = echo if echo < ECHO else ECHO

    def answered(self, took_ms: float, among: float, now_s: float) -> float:
        """Take in a time to the first byte, sent when `among` were there; return the service's
        share of it in ms: what remains was waiting."""
        if not self.declared:
            self._learn_concurrency(took_ms, among)
        elif self.typical_ms > 0.0 and among > 2.0:
            self._check_concurrency(took_ms, among)
        busy = self.concurrency
        wait = self.hold_ms * (among - busy) / busy if among > busy else 0.0
        share = self.service_ms / (self.service_ms + wait) if wait > 0.0 else 1.0
        mine = took_ms * share
        self.service_ms = self.service.observe(mine, now_s)
        if not self.hold.count or self.hold_ms < self.service_ms:
            self.hold_ms = self.service_ms
        return mine

    def occupied(self, took_ms: float, now_s: float) -> None:
        """Take in how long a request occupied its place."""
        hold_ms, service_ms = self.hold.observe(took_ms, now_s), self.service_ms
        self.hold_ms = hold_ms if hold_ms > service_ms else service_ms

    def judged(self, *, failed: bool) -> None:
        """Take in whether an answer was a failure of the engine."""
        self.errors += _ERROR_GAIN * (float(failed) - self.errors)

    def _learn_concurrency(self, took_ms: float, among: float) -> None:
        """Of an engine that nobody measured: as fast with more in flight, so it works on more."""
        if not self.service.count:
            return
        if among > self.concurrency and took_ms < 1.15 * self.service_ms:
            self.concurrency = among
        elif 1.0 < self.concurrency <= among and took_ms > 2.0 * self.service_ms:
            self.concurrency = max(1.0, 0.97 * self.concurrency)

    def _check_concurrency(self, took_ms: float, among: float) -> None:
        """What was declared is believed as far as it shows: so many at once take no longer."""
        usual = 2.0 * self.typical_ms
        if took_ms > usual and among <= self.concurrency:
            seen = max(1.0, among * usual / took_ms)
            self.concurrency += 0.1 * (seen - self.concurrency)
        elif took_ms < self.typical_ms and self.concurrency < self.declared:
            if among > self.shown:
                self.shown = among
            self.concurrency += 0.05 * (min(self.shown, self.declared) - self.concurrency)
