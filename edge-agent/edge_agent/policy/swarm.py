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

from edge_agent.policy.swarm_counts import first
from edge_agent.policy.swarm_givers import Givers
from edge_agent.policy.swarm_members import Members, PeerStatus, to_bitmap
from edge_agent.policy.swarm_refusals import FOR_GOOD, Refusals
from edge_agent.policy.swarm_seeds import Seeds
from edge_agent.policy.swarm_terms import ORIGIN, Fetch, Outcome, Shuffler, SwarmLimits

_LOOK = 192  # pieces whose owners are found at once: bounds the time that one decision takes
_MANY = 10  # owners; when there are more, each is asked less often for what it has not got yet
_CROWD = 200  # members; when there are more, one that is busy is left alone for longer


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
        # Bitmap of what is missing and not on its way.
        self._todo = int.from_bytes(to_bitmap(self._missing, count), "little")
        self._flights: dict[Fetch, float] = {}  # since when
        self._by_source: dict[str, int] = {}
        self._not_before: dict[str, float] = {}  # per source
        self._ask_again_s: dict[str, float] = {}  # per owner: what it is not known to hold
        self._givers = Givers(members, count, dice)
        self._refusals = Refusals()
        self._denied = Refusals()  # of these, those by who said that it holds the piece
        self._yielded: set[int] = set()  # pieces left to another that fetches them too
        self._stepped_back = False
        self._greeted = False
        self._free: set[str] = set()  # peers that can be asked for something now
        self._began_s = float("-inf")  # the last fetch
        self._now = float("-inf")  # of the last decision
        self._generation = -1  # of the owners
        self._seeds = Seeds(self._limits)
        self._origin_s: float | None = None  # how long the last piece from there took
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
        """Return whether to tell one that asks for a piece to wait: this cluster gets it from the
        origin, or sees that another one does, or has it."""
        if piece not in self._missing:
            return False
        members = self.members
        if Fetch(piece) in self._flights or members.rank(piece)[:1] == (members.me,):
            return True
        return bool((members.held | members.fetched(self._now)) >> piece & 1)

    # ------------------------------------------------------------ what others take

    def gives(self, piece: int, now: float) -> bool:
        """Return whether to give a piece that is here to somebody who asks for it now."""
        return self._seeds.gives(piece, now, too_slow=self.members.too_slow)

    def gave(self, piece: int) -> None:
        """Note that somebody has taken a piece, whole."""
        self._seeds.spread(piece)

    # ------------------------------------------------------------ what became of a fetch

    def ended(self, fetch: Fetch, outcome: Outcome, now: float) -> tuple[Fetch, ...]:
        """Note what became of a fetch; return those of the same piece that are pointless now."""
        since_s = self._flights.pop(fetch, None)
        if since_s is None:
            return ()
        self._by_source[fetch.source] -= 1
        if not self._by_source[fetch.source]:
            del self._by_source[fetch.source]
        others = tuple(f for f in self._flights if f.piece == fetch.piece)
        if outcome is Outcome.GOT:
            self._missing.discard(fetch.piece)
            self._todo &= ~(1 << fetch.piece)
            self._refusals.drop(fetch.piece)
            self._denied.drop(fetch.piece)
            self._idle_since_s = None
            if fetch.source == ORIGIN:
                self.origin_failures = 0
                if self.members.usable:
                    self._seeds.got(fetch.piece, now)
                self._origin_s = now - since_s
            else:
                self._givers.took(fetch.source, now - since_s)
                self._seeds.taken_s = now
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
            self._refusals.add(fetch.piece, fetch.source, now, limits.refused_s)
            if self.members.holds(fetch.source, fetch.piece):
                self._denied.add(fetch.piece, fetch.source, now, limits.refused_s)
            else:  # it may refuse others as well: not all at once
                self._ask_again_s[fetch.source] = now + limits.busy_s
        elif outcome is Outcome.GIVEN_UP:
            pass
        elif self.members.holds(fetch.source, fetch.piece):
            pause_s = limits.busy_s * max(1.0, len(self.members.usable) / _CROWD)
            self._not_before[fetch.source] = now + pause_s
        else:
            again_s = limits.again_s * max(1.0, len(self.members.owners.names) / _MANY)
            self._ask_again_s[fetch.source] = now + again_s

    # ------------------------------------------------------------ the decision

    def next(self, now: float) -> list[Fetch]:
        """Return what to begin now; each is in flight until `ended` is called."""
        self._now = now
        self.members.update(now)
        self._seeds.update(self.members, now)
        if self._generation != self.members.owners.generation:
            self._generation = self.members.owners.generation
            self._refusals.forget()
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
            kept = [f for f in others if self.members.counts.count(f.piece) > 1][:1]
            return (*mine, *(f for f in others if f not in kept))
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
        self._flights[fetch] = self._began_s = now
        self._by_source[fetch.source] = self._by_source.get(fetch.source, 0) + 1
        if not self._room(fetch.source):
            self._free.discard(fetch.source)
        return fetch

    def _room(self, source: str) -> bool:
        limit = self._origin_limit() if source == ORIGIN else self._limits.per_peer
        return self._by_source.get(source, 0) < limit

    def _origin_limit(self) -> int:
        owners, limits = len(self.members.owners.names), self._limits
        if owners < 2:  # nobody waits
            return limits.from_origin
        flights = sum(1 << f.piece for f in self._flights if f.source == ORIGIN)
        left = ((self._todo | flights) & ~self.members.held).bit_count()
        most = min(limits.from_origin, -(-limits.at_origin // owners), -(-left // (2 * owners)))
        return self._seeds.room(max(1, most))

    def _room_for_peers(self) -> bool:
        from_peers = len(self._flights) - self._by_source.get(ORIGIN, 0)
        # One that is behind gains nothing by more, and would keep others from their turns.
        return from_peers < (1 if self.members.behind else self._limits.from_peers)

    def _free_peers(self, now: float) -> set[str]:
        self._not_before = {name: at for name, at in self._not_before.items() if at > now}
        free = set(self.members.usable).difference(self._not_before)
        return free.difference(n for n in self._by_source if n != ORIGIN and not self._room(n))

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
        refused = self._denied.by_name(now)
        while self._room_for_peers():
            wanted = self._todo
            if self._holds_back(now):
                wanted &= self.members.counts.common
            found = self._givers.choose(self._free, wanted, self._by_source, refused)
            if not found:
                break
            begun.append(self._begin(Fetch(found[1], found[0]), now))
        return begun

    def _holds_back(self, now: float) -> bool:
        """Return whether to leave alone what only one other has: a cluster that is behind takes
        nobody's turn at a piece that all wait for. It does not wait for ever."""
        if not self.members.behind or len(self.members.usable) < 2:
            return False
        return now - self._began_s <= self._limits.stall_s

    def _from_owners(self, now: float) -> list[Fetch]:
        """Return fetches of what nobody is known to hold: from the origin, or from its owner."""
        members, begun = self.members, list[Fetch]()
        origin = self._origin_is_open(now)
        late = self._idle_s(now) > self._patience_s(now)
        lacking = self._todo & ~(0 if late else members.held)
        odd, denied = self._refusals.pieces, self._denied.pieces & self._todo
        members.owners.look(lacking, _LOOK)
        for piece in first(lacking if late else (lacking & odd) | denied, _LOOK):
            if not ((origin and self._room(ORIGIN)) or self._room_for_peers()):
                return begun
            begun += self._odd_one(piece, now, origin=origin, late=late)
        plain = self._todo & ~(members.held | members.fetched(now) | odd)
        if late:
            return begun
        mine = plain & members.owners.owned(members.me) if members.owners.names else plain
        while origin and mine and self._room(ORIGIN):
            piece = self._givers.one(mine)
            mine ^= 1 << piece
            begun.append(self._begin(Fetch(piece), now))
        for owner in sorted(members.owners.names & self._free) if plain else ():
            if (bits := plain & members.owners.owned(owner)) and self._ask(owner, now):
                piece = self._givers.one(bits)
                begun.append(self._begin(Fetch(piece, owner), now))
        return begun

    def _odd_one(self, piece: int, now: float, *, origin: bool, late: bool) -> list[Fetch]:
        """Return the fetch of a piece that somebody refused, or that is waited for too long."""
        if self._can_be_given(piece, now, late=late):
            return []
        if not late and self._is_coming(piece, now):
            return []
        source = self._source(piece, now, origin=origin and self._room(ORIGIN), late=late)
        return [] if source is None else [self._begin(Fetch(piece, source), now)]

    def _is_coming(self, piece: int, now: float) -> bool:
        """Return whether a member gets a piece from the origin that is not far behind."""
        coming = self.members.fetchers(piece, now)
        return any(not self._refusals.is_for_good(piece, name) for name in coming)

    def _can_be_given(self, piece: int, now: float, *, late: bool) -> bool:
        """Return whether a peer holds a piece, and does not take too long to give it."""
        if not self.members.is_held(piece):
            return False
        refused = self._denied.names(piece, now)
        givers = [name for name in self.members.holders(piece) if name not in refused]
        return any(not late or name not in self.members.slow for name in givers)

    def _source(self, piece: int, now: float, *, origin: bool, late: bool) -> str | None:
        """Return from whom to get a piece that nobody gives now, None if it has to wait."""
        members, refused = self.members, self._refusals.names(piece, now)
        rank = members.rank(piece)
        owner = next((name for name in rank if name not in refused), None)
        if owner is not None and owner != members.me:
            if not late:
                return owner if self._ask(owner, now) else None
            self._refusals.add(piece, owner, now, FOR_GOOD)  # it is far behind everybody else
            return None
        if not origin:
            return None
        return ORIGIN if self._waited_enough(piece, now, ours=owner is not None) else None

    def _waited_enough(self, piece: int, now: float, *, ours: bool) -> bool:
        """Return whether a piece that is ours only because others refused may be fetched: perhaps
        somebody gets it whom we don't know of. Not all take it into their hands at once."""
        if not self._refusals.names(piece, now):
            return ours or not self.members.rank(piece)
        limits, members = self._limits, self.members
        wait_s = limits.stall_s if members.behind else limits.hedge_s
        wait_s += limits.turn_s * members.owners.turn(piece, members.me)
        return now - self._refusals.since_s(piece, now) >= wait_s

    def _ask(self, owner: str, now: float) -> bool:
        """Return whether to ask an owner now for what it is not known to hold."""
        if owner not in self._free or self._by_source.get(owner) or not self._room_for_peers():
            return False
        if now < self._ask_again_s.get(owner, now):
            return False
        if self.members.quiet_s(owner) > self._limits.stall_s:
            self.members.disgrace(owner, now)
            return False
        return True

    def _hedges(self, now: float) -> list[Fetch]:
        """Return second fetches of what has been on its way for long, from who else has it."""
        begun: list[Fetch] = []
        for flight, since_s in list(self._flights.items()):
            alone = sum(f.piece == flight.piece for f in self._flights) == 1
            if now - since_s > self._limits.hedge_s and alone and self._room_for_peers():
                names = [n for n in self.members.holders(flight.piece) if n != flight.source]
                if other := self._givers.lightest(names, self._free, self._by_source):
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
