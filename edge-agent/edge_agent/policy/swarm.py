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

from collections.abc import Iterable

from edge_agent.policy.swarm_members import Members, PeerStatus, to_bitmap
from edge_agent.policy.swarm_terms import ORIGIN, Fetch, Outcome, Shuffler, SwarmLimits

_LOOK = 192  # pieces that are considered at once: bounds the time that one decision takes
_PICK = 8  # of those that somebody holds
_LOOK_AGAIN_S = 0.2  # after all pieces were considered in vain, and nothing changed
_MANY = 10  # owners; when there are more, each is asked less often for what it has not got yet
_SLOWER = 3.0  # times the median: such a peer is left alone while others have the piece
_FOR_GOOD = float("inf")


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
        self._missing = set(missing)
        # Bitmaps: what is missing and not on its way, and what of it is still to be considered.
        self._todo = int.from_bytes(to_bitmap(self._missing, count), "little")
        self._unseen = 0
        self._flights: dict[Fetch, float] = {}  # since when
        self._by_source: dict[str, int] = {}
        self._not_before: dict[str, float] = {}  # per source
        self._pace_s: dict[str, float] = {}  # how long a piece from a peer takes, lately
        self._refusals: dict[int, dict[str, float]] = {}  # who will not give a piece, until when
        self._wanted_s: dict[int, float] = {}  # since when nobody has it for us
        self._yielded: set[int] = set()  # pieces left to another that fetches them too
        self._stepped_back = False
        self._greeted = False
        self._free: set[str] = set()  # peers that can be asked for something now
        self._look_s = float("-inf")  # when all that is to do is considered again
        self._generation = -1  # of the owners
        self._from_origin = 0  # pieces that came from there
        self._origin_s: float | None = None  # how long the last of them took
        self._idle_since_s: float | None = None

    def __repr__(self) -> str:
        to_do = self._todo.bit_count()
        return f"Swarm({to_do} to do, {len(self._flights)} in flight, {self.members!r})"

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
            able=self.members.eligible and self.members.able and not self.origin_failures,
            received_bytes=received_bytes,
            send_rate=self.members.send_rate,
            origin_rate=self.members.origin_rate,
            receive_rate=self.members.receive_rate,
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
        if not self._by_source[fetch.source]:
            del self._by_source[fetch.source]
        if fetch.source == ORIGIN:
            self._look_s = now
        others = tuple(f for f in self._flights if f.piece == fetch.piece)
        if outcome is Outcome.GOT:
            self._missing.discard(fetch.piece)
            self._todo &= ~(1 << fetch.piece)
            self._refusals.pop(fetch.piece, None)
            self._idle_since_s = None
            if fetch.source == ORIGIN:
                self.origin_failures = 0
                self._from_origin += 1
                self._origin_s = now - since_s
            else:
                before_s = self._pace_s.get(fetch.source, now - since_s)
                self._pace_s[fetch.source] = (before_s + now - since_s) / 2
            return others
        if not others and fetch.piece in self._missing:
            self._todo |= 1 << fetch.piece
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
            again_s = limits.again_s * max(1.0, self.members.owners / _MANY)
            pause_s = limits.busy_s if busy else again_s
            self._not_before[fetch.source] = now + pause_s

    def _refuse(self, piece: int, source: str, until_s: float) -> None:
        self._refusals.setdefault(piece, {})[source] = until_s

    # ------------------------------------------------------------ the decision

    def next(self, now: float) -> list[Fetch]:
        """Return what to begin now; each is in flight until `ended` is called."""
        self.members.update(now)
        self._free = self._free_peers(now)
        begun = [*self._from_holders(now), *self._from_owners(now)]
        if not self._todo:
            begun += self._hedges(now)
        self._note_idle(now)
        return begun

    def to_give_up(self, now: float) -> tuple[Fetch, ...]:
        """Return which fetches from the origin to end now, since others do them better.

        Each is in flight until `ended` is called, with GIVEN_UP.
        """
        mine = [f for f in self._flights if f.source == ORIGIN]
        if self.members.behind and not self._stepped_back:
            self._stepped_back = True
            others = [f for f in self._flights if f.source != ORIGIN]
            return (*mine, *others[1:])
        found = tuple(f for f in mine if self._is_taken_over(f, now))
        self._yielded.update(f.piece for f in found)
        return found

    def _is_taken_over(self, fetch: Fetch, now: float) -> bool:
        """Return whether one that comes later in the rank fetches the same piece: it knew of this
        one, and found that it takes too long."""
        piece = fetch.piece
        if now - self._flights[fetch] < self._limits.hedge_s or piece in self._yielded:
            return False
        rank = self.members.rank(piece)

        def place(name: str) -> tuple[int, str]:
            return (rank.index(name) if name in rank else len(rank), name)

        mine = place(self.members.me)
        return any(place(name) > mine for name in self.members.fetchers(piece, now))

    def _begin(self, fetch: Fetch, now: float) -> Fetch:
        self._todo &= ~(1 << fetch.piece)
        self._flights[fetch] = now
        self._by_source[fetch.source] = self._by_source.get(fetch.source, 0) + 1
        if not self._room(fetch.source):
            self._free.discard(fetch.source)
        return fetch

    def _room(self, source: str) -> bool:
        limit = self._origin_limit() if source == ORIGIN else self._limits.per_peer
        return self._by_source.get(source, 0) < limit

    def _origin_limit(self) -> int:
        owners, most = self.members.owners, self._limits.from_origin
        if owners < 2:  # nobody waits
            return most
        flights = sum(1 << f.piece for f in self._flights if f.source == ORIGIN)
        left = ((self._todo | flights) & ~self.members.held).bit_count()
        return max(1, min(most, -(-left // (2 * owners)), 1 + self._from_origin))

    def _room_for_peers(self) -> bool:
        from_peers = len(self._flights) - self._by_source.get(ORIGIN, 0)
        # One that is behind gains nothing by more, and would keep others from their turns.
        return from_peers < (1 if self.members.behind else self._limits.from_peers)

    def _free_peers(self, now: float) -> set[str]:
        self._not_before = {name: at for name, at in self._not_before.items() if at > now}
        free = set(self.members.usable).difference(self._not_before)
        return free.difference(name for name in self._by_source if not self._room(name))

    def _origin_is_open(self, now: float) -> bool:
        """Return whether the others had the time to say what they have."""
        members, age_s = self.members, now - self.members.began_s
        if not self._greeted:
            known = members.announced or not members.company
            self._greeted = (known and members.met(now)) or age_s >= self._limits.greet_s
        return self._greeted and members.able and ORIGIN not in self._not_before

    def _from_holders(self, now: float) -> list[Fetch]:
        """Return fetches from peers of what these are known to hold."""
        begun: list[Fetch] = []
        if self._free and self._room_for_peers():
            for piece in self._some(self._todo & self.members.held_by(self._free), _PICK):
                if source := self._lightest(self._givers(piece, now)):
                    begun.append(self._begin(Fetch(piece, source), now))
                    if not (self._free and self._room_for_peers()):
                        break
        return begun

    def _some(self, bits: int, most: int) -> list[int]:
        """Return a few of the pieces in a bitmap, by chance."""
        if not bits:
            return []
        start = self._dice.choice(range(self._count))
        found: list[int] = []
        for base, part in ((start, bits >> start), (0, bits & ((1 << start) - 1))):
            left = part
            while left and len(found) < most:
                found.append(base + (left & -left).bit_length() - 1)
                left &= left - 1
        self._dice.shuffle(found)
        return found

    def _refused(self, piece: int, now: float) -> list[str]:
        return [n for n, until_s in self._refusals.get(piece, {}).items() if now < until_s]

    def _givers(self, piece: int, now: float) -> list[str]:
        refused = self._refused(piece, now)
        return [name for name in self.members.holders(piece) if name not in refused]

    def _from_owners(self, now: float) -> list[Fetch]:
        """Return fetches of what nobody is known to hold: from the origin, or from its owner."""
        members, begun = self.members, list[Fetch]()
        origin = self._origin_is_open(now)
        late = self._idle_s(now) > self._patience_s(now)
        if self._generation != members.generation or now >= self._look_s:
            self._generation, self._look_s = members.generation, now + _LOOK_AGAIN_S
            self._unseen = ~(0 if late else members.held) | sum(1 << p for p in self._refusals)
        ours, fetched = origin and self._room(ORIGIN), members.fetched(now)
        for piece in self._some(self._unseen & self._todo, _LOOK):
            if not (ours or self._room_for_peers()):
                break
            self._unseen &= ~(1 << piece)
            if self._can_be_given(piece, now, late=late):
                continue
            if not late and fetched >> piece & 1 and self._is_coming(piece, now):
                continue
            source = self._source(piece, now, origin=ours, late=late)
            if source is not None:
                begun.append(self._begin(Fetch(piece, source), now))
                ours = origin and self._room(ORIGIN)
        return begun

    def _is_coming(self, piece: int, now: float) -> bool:
        """Return whether a member gets a piece from the origin that is not far behind."""
        refusals = self._refusals.get(piece, {})
        return any(refusals.get(n) != _FOR_GOOD for n in self.members.fetchers(piece, now))

    def _can_be_given(self, piece: int, now: float, *, late: bool) -> bool:
        """Return whether a peer holds a piece, and does not take too long to give it."""
        if not self.members.is_held(piece):
            return False
        return any(not late or name not in self.members.slow for name in self._givers(piece, now))

    def _source(self, piece: int, now: float, *, origin: bool, late: bool) -> str | None:
        """Return from whom to get a piece that nobody gives now, None if it has to wait."""
        members, refused = self.members, self._refused(piece, now)
        rank = members.rank(piece)
        self._wanted_s.setdefault(piece, now)
        owner = next((name for name in rank if name not in refused), None)
        if owner is not None and owner != members.me:
            if not late:
                return self._ask(owner, piece, now)
            self._refuse(piece, owner, _FOR_GOOD)  # it is far behind everybody else
            return None
        if not origin:
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

    def _lightest(self, names: list[str]) -> str | None:
        """Return one of those that send us least now; the slow ones only if there is no other."""
        names = [name for name in names if name not in self.members.slow] or names
        if len(names) > 1 and self._pace_s:
            bearable_s = _SLOWER * sorted(self._pace_s.values())[len(self._pace_s) // 2]
            names = [n for n in names if self._pace_s.get(n, 0.0) <= bearable_s] or names
        free = [name for name in names if name in self._free]
        if not free:
            return None
        least = min(self._by_source.get(name, 0) for name in free)
        return self._dice.choice([n for n in free if self._by_source.get(n, 0) == least])

    def _ask(self, owner: str, piece: int, now: float) -> str | None:
        """Return an owner that is not known to hold a piece, if it should be asked for it now."""
        if owner not in self._free or self._by_source.get(owner) or not self._room_for_peers():
            return None
        if self.members.quiet_s(owner) > self._limits.stall_s:
            self.members.disgrace(owner, now)
            return None
        return owner

    def _hedges(self, now: float) -> list[Fetch]:
        """Return second fetches of what has been on its way for long, from who else has it."""
        begun: list[Fetch] = []
        for flight, since_s in list(self._flights.items()):
            alone = sum(f.piece == flight.piece for f in self._flights) == 1
            if now - since_s > self._limits.hedge_s and alone and self._room_for_peers():
                names = [n for n in self.members.holders(flight.piece) if n != flight.source]
                if other := self._lightest(names):
                    begun.append(self._begin(Fetch(flight.piece, other), now))
        return begun

    def _patience_s(self, now: float) -> float:
        """Return for how long this cluster may be idle before it takes those that it waits for to
        be far behind."""
        limits = self._limits
        if self._origin_s is None:
            return max(limits.stall_s, (now - self.members.began_s) / 2)
        return max(limits.hedge_s, 2 * self._origin_s) + limits.settle_s

    def _idle_s(self, now: float) -> float:
        return 0.0 if self._idle_since_s is None else now - self._idle_since_s

    def _note_idle(self, now: float) -> None:
        """Remember since when this cluster has got nothing, and nothing was on its way to it."""
        slow, since_s = self.members.slow, now - self._limits.stall_s
        if (
            self.members.behind
            or any(
                source not in slow and at > since_s
                for (source, at) in ((f.source, at) for f, at in self._flights.items())
            )
            or self._by_source.get(ORIGIN)
        ):
            self._idle_since_s = None
        elif self._idle_since_s is None:
            self._idle_since_s = now
