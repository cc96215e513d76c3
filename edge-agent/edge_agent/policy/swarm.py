"""Which piece of a package to fetch next, and from whom: from the origin once per region, if all
goes well, and else from each other.

Input: missing pieces, what is known of the members, what became of fetches, the time in
monotonic seconds. Output: Fetches to begin.

For a piece that somebody is known to hold, one of these is asked. Else the piece's owner gets it
from the origin (see `swarm_members`), and the others wait for it; they ask the owner now and then,
which answers "mine, not yet", or that it knows nothing of it: then the next in rank is asked, and
when all refused, the origin. So a wrong view of who is there costs time or a second copy, never the
package.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from edge_agent.policy.swarm_members import Members, PeerStatus, to_bitmap

ORIGIN = ""  # as the source of a Fetch
_LOOK = 192  # pieces that are considered at once: bounds the time that one decision takes
_SLOWER = 3.0  # times the median: such a peer is left alone while others have the piece
_FOR_GOOD = float("inf")
_T = TypeVar("_T")


class Shuffler(Protocol):
    """Chance, handed in; `random.Random` is one."""

    def shuffle(self, x: list[int], /) -> None:
        """Put a list in another order."""
        ...

    def choice(self, seq: Sequence[_T], /) -> _T:
        """Return one of them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmLimits:
    """How much at once, and how patient.

    In the beginning nothing is asked of the origin for up to `greet_s`: the others are told first,
    and answer. After `hedge_s` of waiting somebody else is asked as well. A peer at which nothing
    moves for `stall_s` is disgraced. One that is busy is not asked again for `busy_s`, one that has
    not got a piece yet for `again_s`, one that does not even expect it for `refused_s`.
    """

    from_origin: int = 4
    from_peers: int = 4
    per_peer: int = 2
    greet_s: float = 1.5
    settle_s: float = 3.0
    hedge_s: float = 3.0
    stall_s: float = 10.0
    disgrace_s: float = 30.0
    again_s: float = 0.5
    busy_s: float = 0.1
    refused_s: float = 5.0
    origin_pause_s: float = 0.5  # after a failure; doubles up to 16 times


class Outcome(StrEnum):
    """What became of a fetch."""

    GOT = "got"
    NOT_YET = "not-yet"  # the peer is about to have it, or answers too many others
    REFUSED = "refused"  # the peer does not have this piece, and will not get it
    FAILED = "failed"  # no connection, broke off, stalled
    BAD = "bad"  # wrong bytes
    GIVEN_UP = "given-up"  # by us: somebody else was faster


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get this piece from that member, or from the origin."""

    piece: int
    source: str = ORIGIN


class Swarm:
    """The decisions of one cluster for one package.

    `digest` is that of the package, in hex; `missing` the pieces to fetch, `count` all there are.
    """

    def __init__(
        self,
        members: Members,
        missing: Iterable[int],
        *,
        count: int,
        dice: Shuffler,
        limits: SwarmLimits | None = None,
    ) -> None:
        self.members = members
        self.origin_failures = 0  # in a row
        self._limits = limits or SwarmLimits()
        self._dice = dice
        self._count = count
        order = list(missing)
        dice.shuffle(order)
        self._missing = set(order)
        self._todo = dict.fromkeys(order)  # what is missing and not on its way, in order
        self._flights: dict[Fetch, float] = {}  # since when
        self._by_source: dict[str, int] = {}
        self._not_before: dict[str, float] = {}  # per source
        self._pace_s: dict[str, float] = {}  # how long a piece from a peer takes, lately
        self._refusals: dict[int, dict[str, float]] = {}  # who will not give a piece, until when
        self._wanted_s: dict[int, float] = {}  # since when nobody has it for us
        self._greeted = False
        self._free = False  # whether any peer can be asked for something
        self._idle_since_s: float | None = None

    def __repr__(self) -> str:
        return f"Swarm({len(self._todo)} to do, {len(self._flights)} in flight, {self.members!r})"

    @property
    def done(self) -> bool:
        """Whether nothing is missing."""
        return not self._missing

    def status(self, have: bytes, received_bytes: int, now: float) -> PeerStatus:
        """Return what to tell the others."""
        fetching = (f.piece for f in self._flights if f.source == ORIGIN)
        return PeerStatus(
            have=have,
            fetching=to_bitmap(fetching, self._count),
            age_s=now - self.members.began_s,
            able=self.members.able and not self.origin_failures,
            received_bytes=received_bytes,
            send_rate=self.members.send_rate,
        )

    def is_mine(self, piece: int) -> bool:
        """Return whether this cluster is the one to get a piece from the origin."""
        if Fetch(piece) in self._flights:
            return True
        return piece in self._missing and self.members.rank(piece)[:1] == (self.members.me,)

    # ------------------------------------------------------------ what became of a fetch

    def ended(self, fetch: Fetch, outcome: Outcome, now: float) -> tuple[Fetch, ...]:
        """Note what became of a fetch; return those of the same piece that are pointless now."""
        since_s = self._flights.pop(fetch, None)
        if since_s is None:
            return ()
        self._by_source[fetch.source] -= 1
        others = tuple(f for f in self._flights if f.piece == fetch.piece)
        if outcome is Outcome.GOT:
            self._missing.discard(fetch.piece)
            self._todo.pop(fetch.piece, None)
            self._refusals.pop(fetch.piece, None)
            self._idle_since_s = None
            if fetch.source == ORIGIN:
                self.origin_failures = 0
            else:
                before_s = self._pace_s.get(fetch.source, now - since_s)
                self._pace_s[fetch.source] = (before_s + now - since_s) / 2
            return others
        if not others and fetch.piece in self._missing:
            self._todo[fetch.piece] = None
        self._unlucky(fetch, outcome, now)
        return ()

    def _unlucky(self, fetch: Fetch, outcome: Outcome, now: float) -> None:
        limits = self._limits
        if fetch.source == ORIGIN:
            if outcome is not Outcome.GIVEN_UP:
                self.origin_failures += 1
                pause_s = limits.origin_pause_s * 2 ** min(self.origin_failures - 1, 4)
                self._not_before[ORIGIN] = now + pause_s
        elif outcome is Outcome.BAD:
            self.members.drop(fetch.source)
        elif outcome is Outcome.FAILED:
            self.members.disgrace(fetch.source, now)
        elif outcome is Outcome.REFUSED:
            self._refuse(fetch.piece, fetch.source, now + limits.refused_s)
        elif outcome is Outcome.NOT_YET:
            busy = fetch.source in self.members.holders(fetch.piece)
            pause_s = limits.busy_s if busy else limits.again_s
            self._not_before[fetch.source] = now + pause_s

    def _refuse(self, piece: int, source: str, until_s: float) -> None:
        self._refusals.setdefault(piece, {})[source] = until_s

    # ------------------------------------------------------------ the decision

    def next(self, now: float) -> list[Fetch]:
        """Return what to begin now; each is in flight until `ended` is called."""
        self.members.update(now)
        begun: list[Fetch] = []
        self._free = any(self._is_free(name, now) for name in self.members.usable())
        origin = self._origin_is_open(now)
        # Those looked at in vain go to the end: next time others are considered.
        for piece in list(itertools.islice(self._todo, _LOOK)):
            if not (self._room_for_peers() or (origin and self._room(ORIGIN))):
                break
            del self._todo[piece]
            source = self._source(piece, now, origin=origin)
            if source is None:
                self._todo[piece] = None
            else:
                begun.append(self._begin(Fetch(piece, source), now))
                self._free = any(self._is_free(name, now) for name in self.members.usable())
        if not self._todo:
            begun += self._hedges(now)
        self._note_idle(now)
        return begun

    def _begin(self, fetch: Fetch, now: float) -> Fetch:
        self._flights[fetch] = now
        self._by_source[fetch.source] = self._by_source.get(fetch.source, 0) + 1
        return fetch

    def _room(self, source: str) -> bool:
        limit = self._limits.from_origin if source == ORIGIN else self._limits.per_peer
        return self._by_source.get(source, 0) < limit

    def _room_for_peers(self) -> bool:
        from_peers = len(self._flights) - self._by_source.get(ORIGIN, 0)
        return from_peers < self._limits.from_peers

    def _is_free(self, source: str, now: float) -> bool:
        return self._room(source) and now >= self._not_before.get(source, now)

    def _origin_is_open(self, now: float) -> bool:
        """Return whether the others had the time to say what they have."""
        members, age_s = self.members, now - self.members.began_s
        if not self._greeted:
            known = members.announced or not members.company
            self._greeted = (known and members.met(now)) or age_s >= self._limits.greet_s
        return self._greeted and members.able and now >= self._not_before.get(ORIGIN, now)

    def _source(self, piece: int, now: float, *, origin: bool) -> str | None:
        """Return from whom to get a piece now, None if it has to wait."""
        members = self.members
        refused = [n for n, until_s in self._refusals.get(piece, {}).items() if now < until_s]
        if members.is_held(piece):
            if not refused and not (self._free and self._room_for_peers()):
                return None
            if holders := [name for name in members.holders(piece) if name not in refused]:
                return self._lightest(holders, now) if self._room_for_peers() else None
        rank = members.rank(piece)
        self._wanted_s.setdefault(piece, now)
        owner = next((name for name in rank if name not in refused), None)
        if owner is not None and owner != members.me:
            return self._ask(owner, piece, now)
        if not origin or not self._room(ORIGIN) or members.is_fetched(piece, now):
            return None
        return ORIGIN if self._waited_enough(piece, now, ours=owner is not None) else None

    def _waited_enough(self, piece: int, now: float, *, ours: bool) -> bool:
        """Return whether a piece that is ours only because others refused may be fetched: perhaps
        somebody gets it whom we don't know of."""
        untils = [until_s for until_s in self._refusals.get(piece, {}).values() if until_s > now]
        if not untils:
            return ours or not self.members.rank(piece)
        limits, since_s = self._limits, self._wanted_s[piece]
        if ours:
            since_s = max((u - limits.refused_s for u in untils if u < _FOR_GOOD), default=since_s)
        return now - since_s >= limits.hedge_s

    def _lightest(self, names: list[str], now: float) -> str | None:
        """Return one of those that send us least now; the slow ones only if there is no other."""
        names = [name for name in names if name not in self.members.slow] or names
        if len(names) > 1 and self._pace_s:
            bearable_s = _SLOWER * sorted(self._pace_s.values())[len(self._pace_s) // 2]
            names = [n for n in names if self._pace_s.get(n, 0.0) <= bearable_s] or names
        free = [name for name in names if self._is_free(name, now)]
        if not free:
            return None
        least = min(self._by_source.get(name, 0) for name in free)
        return self._dice.choice([n for n in free if self._by_source.get(n, 0) == least])

    def _ask(self, owner: str, piece: int, now: float) -> str | None:
        """Return an owner that is not known to hold a piece, if it should be asked for it now."""
        stall_s = self._limits.stall_s
        if self.members.quiet_s(owner) > stall_s:
            self.members.disgrace(owner, now)
            return None
        if self._idle_s(now) > max(stall_s, (now - self.members.began_s) / 2):
            self._refuse(piece, owner, _FOR_GOOD)  # it is far behind everybody else
            return None
        if self._by_source.get(owner, 0) or not self._is_free(owner, now):
            return None
        return owner if self._room_for_peers() else None

    def _hedges(self, now: float) -> list[Fetch]:
        """Return second fetches of what has been on its way for long, from who else holds it."""
        begun: list[Fetch] = []
        for flight, since_s in list(self._flights.items()):
            alone = sum(f.piece == flight.piece for f in self._flights) == 1
            if now - since_s > self._limits.hedge_s and alone and self._room_for_peers():
                names = [n for n in self.members.holders(flight.piece) if n != flight.source]
                if other := self._lightest(names, now):
                    begun.append(self._begin(Fetch(flight.piece, other), now))
        return begun

    def _idle_s(self, now: float) -> float:
        return 0.0 if self._idle_since_s is None else now - self._idle_since_s

    def _note_idle(self, now: float) -> None:
        """Remember since when this cluster has got nothing, and asked nothing of the origin."""
        if self._by_source.get(ORIGIN):
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now
