"""The few lanes that are worth scoring for a model version, out of perhaps a thousand.

Input: the endpoints inside the residency of model and caller, with their lanes. Output: the best of
them, ordered anew many times a second, and whenever somebody is let in or out.
"""

from collections.abc import Sequence
from heapq import nsmallest
from zlib import crc32

from federation.contract.types import Endpoint
from router.policy.lanes import Lane

SHORT = 8  # lanes that each decision scores
REFRESHED_S, ORDERED_S = 0.25, 0.002  # how long what was looked at is believed, and an order;
REFRESHED_EACH_S, ORDERED_EACH_S = 5e-4, 1e-4  # longer for many: a hundredth of the time goes there
PREFER_MS = 1000.0  # a region further down the order of preference costs so much more
PANIC_BELOW = 0.5  # of the lanes that are not plainly dead

Key = tuple[str, int, frozenset[str], tuple[int, int] | None]


class Option:
    """One lane as a place for requests of this kind. `rank` is that of its region in the order of
    preference, `ceiling` the largest share of the requests that it may get."""

    __slots__ = (
        "ceiling",
        "cluster",
        "endpoint",
        "lane",
        "measured",
        "rank",
        "region",
        "rtt_ms",
        "seed",
        "url",
        "version",
        "way_ms",
        "why",
    )

    def __init__(self, endpoint: Endpoint, lane: Lane, ceiling: float, rank: int) -> None:
        self.endpoint = endpoint
        self.lane = lane
        self.cluster = endpoint.cluster
        self.region = endpoint.region
        self.url = endpoint.url
        self.version = 0
        self.ceiling = ceiling
        self.rank = rank
        self.rtt_ms = 0.0
        self.way_ms = 0.0  # the round trip, and what its rank costs
        self.measured = False
        self.seed = crc32(endpoint.cluster.encode())
        self.why = ""  # it is out

    def __repr__(self) -> str:
        out = f", out: {self.why}" if self.why else ""
        return f"Option({self.cluster}, {self.rtt_ms:.1f} ms{out})"


class Shortlist:
    """The options for one model version and one set of regions."""

    __slots__ = (
        "best",
        "by_cluster",
        "fresh_until_s",
        "home_ms",
        "options",
        "ordered_until_s",
        "panic",
        "picks",
        "scored",
        "sound",
        "stamp",
        "table",
    )

    def __init__(self, table: object, options: Sequence[Option]) -> None:
        self.table = table  # that it was made from
        self.options = options
        self.by_cluster = {option.cluster: option for option in options}
        self.best: list[Option] = []
        self.panic = False
        self.picks = 0
        self.scored: list[tuple[float, Option]] = []  # what the last choice was made among
        self.stamp = -1
        self.fresh_until_s = float("-inf")
        self.sound: list[Option] = []
        self.ordered_until_s = float("-inf")
        self.home_ms = 0.0  # the least round trip among those that are in

    def __repr__(self) -> str:
        return f"Shortlist({len(self.best)} of {len(self.options)})"

    def admit(self, options: list[Option], stamp: int, now_s: float) -> None:
        """Choose from these until somebody is let in or out, or for a while."""
        self.sound = options
        self.home_ms = min((o.rtt_ms for o in options), default=0.0)
        self.stamp, self.fresh_until_s = (
            stamp,
            now_s + max(REFRESHED_S, REFRESHED_EACH_S * len(options)),
        )
        self.order(now_s)

    def order(self, now_s: float) -> None:
        """Take the best as they stand now."""
        sound = self.sound
        self.best = sound
        if len(sound) > SHORT:
            self.best = nsmallest(SHORT, sound, key=lambda o: o.way_ms + o.lane.cost_ms(now_s))
        self.ordered_until_s = now_s + max(ORDERED_S, ORDERED_EACH_S * len(sound))
        if self.picks > 512:
            self.picks //= 2
            for option in self.options:
                option.lane.picks //= 2
