"""The clusters of a region that fetch one package, as one of them knows them: who holds what, who
fetches which piece from the origin, who cannot be relied upon now.

Input: the control plane's list, what each member says of itself when asked (`PeerStatus`),
failures, the time in monotonic seconds. Output: the rank of members for a piece, and who holds it.

The owner of a piece is the one that fetches it from the origin, for all. Every member ranks alike
(see `swarm_owners`). Who has just come owns nothing for `settle_s`, unless all began together: what
others are about to have should not be fetched twice. Members say themselves for how long they have
been at it, so that all agree; and whoever finds that bytes come to it much slower than to most says
that it is not able, so that nobody waits for what it would fetch.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from edge_agent.policy.swarm_counts import Counts
from edge_agent.policy.swarm_owners import Owners
from federation.contract.sync import SyncPeer

_SILENT = 2  # polls in a row without an answer, then a member counts as gone
_SILENCE_S = 1.5
_TOO_SLOW = 4.0  # times slower than the median at giving
_BEHIND = 3.0  # times slower than the median at getting
_STRANGERS = 4  # of so many members one may not know me, then I can still own pieces
_LISTED_S = 1.0  # until a new list has reached everybody
_HANDOVER_S = 1.5  # until all know that a member can own pieces again
_RATES_S = 0.5  # rates change all the time, and are judged so often
_STALE_S = 5.0  # what a member fetches now is believed for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """What a member says of one package. Bitmaps have 1 bit per piece, lowest bit first.

    `fetching` are the pieces on their way to it from the origin. `age_s` is for how long it has
    been fetching. It is not `able` while it does not, may not or cannot ask the origin.
    `received_bytes` came over the network so far. Rates are at best, in bytes/s, 0 = not known:
    what it gives to all others together, gets from the origin, and gets from all together.
    """

    have: bytes
    fetching: bytes = b""
    age_s: float = 0.0
    able: bool = True
    received_bytes: int = 0
    send_rate: float = 0.0
    origin_rate: float = 0.0
    receive_rate: float = 0.0


def has_bit(bitmap: bytes, number: int) -> bool:
    """Return one bit of a bitmap; those beyond its end are 0."""
    return number >> 3 < len(bitmap) and bool(bitmap[number >> 3] >> (number & 7) & 1)


def to_bitmap(numbers: Iterable[int], count: int) -> bytes:
    """Return a bitmap of `count` bits in which those with the given numbers are set."""
    bits = bytearray((count + 7) // 8)
    for number in numbers:
        bits[number >> 3] |= 1 << (number & 7)
    return bytes(bits)


@dataclass(slots=True, kw_only=True, eq=False)
class _Member:
    peer: SyncPeer
    status: PeerStatus | None = None  # None: it said nothing yet
    since_s: float = 0.0  # when it began to fetch
    heard_s: float = 0.0
    moved_s: float = 0.0  # when it last had more than before
    silent: int = 0
    disgraced_until_s: float = float("-inf")
    knows_me: bool = True
    have: int = 0  # the bitmaps of its status, as numbers
    fetching: int = 0

    def usable(self, now: float) -> bool:
        return self.status is not None and now >= self.disgraced_until_s


@dataclass(slots=True)
class Members:
    """What is known of the others that announced a package, and which of them own pieces.

    `me` is one of the owners only if the list names a gateway for it.
    """

    me: str
    digest: str
    began_s: float
    settle_s: float = 3.0
    disgrace_s: float = 30.0
    serves: bool = False  # others can fetch from me
    announced: bool = False  # others know that I fetch it
    able: bool = True  # I may ask the origin
    send_rate: float = 0.0  # mine, as in PeerStatus
    origin_rate: float = 0.0
    receive_rate: float = 0.0
    company: bool = True  # there may be others to fetch from: no list says that there are none
    slow: frozenset[str] = frozenset()  # much slower at giving than most
    behind: bool = False  # I am: bytes come to me much slower than to most
    eligible: bool = True  # I can own pieces, for all that I know of myself
    too_slow: bool = False  # I give much slower than most
    held: int = 0  # bitmap of what at least one usable member has
    counts: Counts = field(default_factory=Counts)  # of the usable members that have a piece
    usable: frozenset[str] = frozenset()  # told what they have, and are not disgraced
    dropped: set[str] = field(default_factory=set)  # sent wrong bytes
    _others: dict[str, _Member] = field(default_factory=dict)
    _usable: tuple[_Member, ...] = ()
    _changed: bool = True  # somebody's standing did, since the last update
    _due_s: float = float("-inf")  # when somebody's standing changes by itself
    _handover_s: float = float("-inf")  # before, others fetch what is mine again
    _judged_s: float = float("-inf")  # the last update
    _mine: tuple[object, ...] = ()  # of me, then
    owners: Owners = field(init=False)

    def __post_init__(self) -> None:
        self.owners = Owners(self.digest)

    def __repr__(self) -> str:
        return f"Members({len(self._others)} others, {self.owners!r})"

    # ------------------------------------------------------------ what happened

    def listed(self, peers: Sequence[SyncPeer]) -> None:
        """Take over the control plane's list; who is no longer on it is forgotten."""
        on = {p.cluster: p for p in peers if self.digest in p.digests}
        mine = on.pop(self.me, None)
        self.announced = mine is not None
        self.serves = mine is not None and bool(mine.url)
        self.company = not peers or any(p.cluster != self.me and p.url for p in peers)
        before, self._others, self._changed = self._others, {}, True
        for name, peer in on.items():
            if peer.url and name not in self.dropped:
                known = before.get(name)
                if known is None or known.peer.url != peer.url:
                    known = _Member(peer=peer)
                self._others[name] = known

    def heard(self, name: str, status: PeerStatus, now: float) -> None:
        """Note what a member said of itself."""
        member = self._others.get(name)
        if member is None:
            return
        old = member.status
        moved = old is None or (status.have, status.received_bytes) != (
            old.have,
            old.received_bytes,
        )
        if old is None or now - status.age_s < member.since_s - 1.0:
            member.since_s = now - status.age_s
            self._changed = True
        if moved:
            member.moved_s = now
        if old is None or old.able != status.able:
            self._changed = True
        elif _rates(old) != _rates(status):
            self._due_s = min(self._due_s, self._judged_s + _RATES_S)
        member.status, member.heard_s, member.silent = status, now, 0
        self._acquainted(member, knows_me=True)
        before, have = member.have, int.from_bytes(status.have, "little")
        if before & ~have:
            self._changed = True
        member.have, member.fetching = have, int.from_bytes(status.fetching, "little")
        if name in self.usable:
            self.held |= have
            self.counts.add(have & ~before)

    def absent(self, name: str) -> None:
        """Note that a member does not know the package: not yet, or no longer."""
        if member := self._others.get(name):
            self._changed |= member.status is not None
            member.status, member.silent, member.have, member.fetching = None, 0, 0, 0
            self._acquainted(member, knows_me=True)

    def stranger(self, name: str) -> None:
        """Note that a member has another list than we: one on which we are not."""
        self.absent(name)
        if member := self._others.get(name):
            self._acquainted(member, knows_me=False)

    def _acquainted(self, member: _Member, *, knows_me: bool) -> None:
        self._changed |= member.knows_me != knows_me
        member.knows_me = knows_me

    def unheard(self, name: str, now: float) -> None:
        """Note that a member did not answer when it was asked for its status."""
        if member := self._others.get(name):
            member.silent += 1
            if member.status is None or member.silent >= _SILENT:
                # At first not for long: on a busy machine answers may be late.
                self._disgrace(member, now, _SILENCE_S * 2 ** min(member.silent, 10))

    def disgrace(self, name: str, now: float) -> None:
        """Do not rely on a member for a while."""
        if member := self._others.get(name):
            self._disgrace(member, now, self.disgrace_s)

    def _disgrace(self, member: _Member, now: float, for_s: float) -> None:
        member.disgraced_until_s = now + min(for_s, self.disgrace_s)
        self._changed = True

    def drop(self, name: str) -> None:
        """Have nothing to do with a member any more: it sent wrong bytes."""
        self.dropped.add(name)
        self._changed = True
        self._others.pop(name, None)

    # ------------------------------------------------------------ what follows

    def update(self, now: float) -> None:
        """Find out who is an owner now; to be called before the questions below."""
        mine = self.serves, self.able, self.send_rate, self.origin_rate, self.receive_rate
        if not self._changed and now < self._due_s and mine == self._mine:
            return
        self._changed, self._mine, self._judged_s = False, mine, now
        self._usable = tuple(m for m in self._others.values() if m.usable(now))
        self.usable = frozenset(m.peer.cluster for m in self._usable)
        self.held = reduce(or_, (m.have for m in self._usable), 0)
        self.counts = Counts(m.have for m in self._usable)
        floor = self._floor()
        self._judge_myself(floor, now)
        self.slow = frozenset(
            m.peer.cluster
            for m in self._usable
            if m.status is not None and 0 < m.status.send_rate < floor
        )
        able = dict(self._candidates(now))
        first_s = min(able.values(), default=now)
        self.owners.elect(
            name
            for name, since_s in able.items()
            if since_s <= first_s + self.settle_s or since_s + self.settle_s <= now
        )
        dues = [since_s + self.settle_s for since_s in able.values()]
        dues += [self._handover_s, self.began_s + _LISTED_S]
        dues += [m.disgraced_until_s for m in self._others.values()]
        self._due_s = min((due_s for due_s in dues if due_s > now), default=float("inf"))

    def _is_behind(self) -> bool:
        able = [m.status for m in self._usable if m.status is not None and m.status.able]
        return _is_far_below(self.origin_rate, [status.origin_rate for status in able]) or (
            _is_far_below(self.receive_rate, [status.receive_rate for status in able])
        )

    def _judge_myself(self, floor: float, now: float) -> None:
        """Decide whether to own anything. Only the one concerned does: if each judged all others,
        by what it heard last, they would not agree on who the owners are."""
        before, self.behind = self.eligible, self._is_behind()
        self.too_slow = 0 < self.send_rate < floor
        able = self.able and not self.behind and not self.too_slow
        self.eligible = able and (now < self.began_s + _LISTED_S or self._is_known())
        if self.eligible and not before:
            self._handover_s = now + _HANDOVER_S

    def _is_known(self) -> bool:
        """Return whether most have me on their lists: the others wait for nothing that I fetch."""
        strangers = sum(not m.knows_me for m in self._others.values())
        return strangers <= (len(self._usable) + strangers) // _STRANGERS

    def _candidates(self, now: float) -> Iterator[tuple[str, float]]:
        """Yield the name and the beginning of all that may ask the origin.

        Also of those that do not talk to me, if others do: they go by them.
        """
        for m in self._others.values():
            if self._usable and not m.knows_me:
                yield m.peer.cluster, self.began_s
        for m in self._usable:
            if m.status is not None and m.status.able:
                yield m.peer.cluster, m.since_s
        if self.serves and self.eligible and now >= self._handover_s:
            yield self.me, self.began_s

    def _floor(self) -> float:
        """Return the rate of giving below which a member is too slow to own anything: pieces that
        only it has would hold up all others."""
        rates = [m.status.send_rate for m in self._usable if m.status is not None]
        known = sorted(rate for rate in (*rates, self.send_rate) if rate > 0)
        if len(known) < 2:
            return 0.0
        doubt = 2.0 if len(known) == 2 else 1.0  # perhaps it is the other that is odd
        return known[len(known) // 2] / (_TOO_SLOW * doubt)

    def met(self, now: float) -> bool:
        """Return whether everybody on the list told what it has, or was found not to answer."""
        return all(m.status is not None or now < m.disgraced_until_s for m in self._others.values())

    def peers(self, now: float) -> tuple[SyncPeer, ...]:
        """Return the members that can be asked now."""
        return tuple(m.peer for m in self._others.values() if now >= m.disgraced_until_s)

    def peer(self, name: str) -> SyncPeer | None:
        """Return a member by name."""
        member = self._others.get(name)
        return member.peer if member else None

    def rank(self, piece: int) -> tuple[str, ...]:
        """Return the first owners of a piece, best first; empty if there is none at all."""
        return self.owners.rank(piece)

    def is_held(self, piece: int) -> bool:
        """Return whether anybody says that it holds a piece."""
        return bool(self.held >> piece & 1)

    def holders(self, piece: int) -> list[str]:
        """Return who says that it holds a piece."""
        bit = 1 << piece
        return [m.peer.cluster for m in self._usable if m.have & bit]

    def holds(self, name: str, piece: int) -> bool:
        """Return whether a member says that it holds a piece."""
        member = self._others.get(name)
        return member is not None and bool(member.have >> piece & 1)

    def having(self, names: Set[str], pieces: int) -> list[tuple[str, int]]:
        """Return the name of each of these that holds some of the pieces in a bitmap, and which."""
        found = ((name, self._others[name].have & pieces) for name in names & self._others.keys())
        return [(name, bits) for name, bits in sorted(found) if bits]

    def held_by(self, names: Set[str]) -> int:
        """Return a bitmap of what at least one of these holds."""
        return reduce(or_, (m.have for m in self._usable if m.peer.cluster in names), 0)

    def fetchers(self, piece: int, now: float) -> list[str]:
        """Return which other members are getting a piece from the origin."""
        return [m.peer.cluster for m in self._fetching(now) if m.fetching >> piece & 1]

    def fetched(self, now: float) -> int:
        """Return a bitmap of what other members are getting from the origin."""
        return reduce(or_, (m.fetching for m in self._fetching(now)), 0)

    def _fetching(self, now: float) -> Iterator[_Member]:
        for m in self._usable:
            if m.fetching and now - m.heard_s < _STALE_S:
                yield m

    def quiet_s(self, name: str) -> float:
        """Return for how long nothing had moved, when last heard of, at a member that asked nothing
        of the origin either.

        One that does finds out itself when the origin stalls, and says that it is not able.
        """
        member = self._others.get(name)
        if member is None or member.status is None:
            return float("inf")
        return 0.0 if member.fetching else member.heard_s - member.moved_s


def _rates(status: PeerStatus) -> tuple[float, float, float]:
    return status.send_rate, status.origin_rate, status.receive_rate


def _is_far_below(mine: float, others: Iterable[float]) -> bool:
    known = sorted(rate for rate in others if rate > 0)
    if not known:
        return False
    doubt = 2.0 if len(known) == 1 else 1.0  # a single one may be the odd one
    return 0 < mine * doubt * _BEHIND < known[(len(known) - 1) // 2]
