"""The clusters of a region that fetch one package, as one of them knows them: who holds what, who
fetches which piece from the origin, who cannot be relied upon now.

Input: the control plane's list, what each member says of itself when asked (`PeerStatus`),
failures, the time in monotonic seconds. Output: the rank of members for a piece, and who holds it.

The owner of a piece is the one that fetches it from the origin, for all. Every member ranks alike
(rendezvous hashing): the first three by BLAKE3(digest, number of the piece, name). Who has just
come owns nothing for `settle_s`, unless all began together: what others are about to have should
not be fetched twice. Members say themselves for how long they have been at it, so that all agree.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from blake3 import blake3

from federation.contract.sync import SyncPeer

RANKS = 3
_SILENT = 2  # polls in a row without an answer, then a member counts as gone
_TOO_SLOW = 4.0  # times slower than the median
_STALE_S = 5.0  # what a member fetches now is believed for so long


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """What a member says of one package. Bitmaps have 1 bit per piece, lowest bit first.

    `fetching` are the pieces on their way to it from the origin. `age_s` is for how long it has
    been fetching. It is not `able` while it does not, may not or cannot ask the origin.
    `received_bytes` came over the network so far; `send_rate` is how fast it gives to one other,
    at best, lately (bytes/s, 0 = not known).
    """

    have: bytes
    fetching: bytes = b""
    age_s: float = 0.0
    able: bool = True
    received_bytes: int = 0
    send_rate: float = 0.0


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
    company: bool = True  # there may be others to fetch from: no list says that there are none
    slow: frozenset[str] = frozenset()  # much slower at giving than most
    dropped: set[str] = field(default_factory=set)  # sent wrong bytes
    _others: dict[str, _Member] = field(default_factory=dict)
    _owners: frozenset[str] = frozenset()
    _usable: tuple[_Member, ...] = ()
    _held: bytes = b""  # what at least one of these has
    _news: bool = False  # since the last update
    _ranks: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Members({len(self._others)} others, owners: {', '.join(sorted(self._owners))})"

    # ------------------------------------------------------------ what happened

    def listed(self, peers: Sequence[SyncPeer]) -> None:
        """Take over the control plane's list; who is no longer on it is forgotten."""
        on = {p.cluster: p for p in peers if self.digest in p.digests}
        mine = on.pop(self.me, None)
        self.announced = mine is not None
        self.serves = mine is not None and bool(mine.url)
        self.company = not peers or any(p.cluster != self.me and p.url for p in peers)
        before, self._others = self._others, {}
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
        if moved:
            member.moved_s = now
        member.status, member.heard_s, member.silent = status, now, 0
        self._news = True

    def absent(self, name: str) -> None:
        """Note that a member does not know the package, or not us: not yet, or no longer."""
        if member := self._others.get(name):
            member.status, member.silent = None, 0

    def unheard(self, name: str, now: float) -> None:
        """Note that a member did not answer when it was asked for its status."""
        if member := self._others.get(name):
            member.silent += 1
            if member.status is None or member.silent >= _SILENT:
                self.disgrace(name, now)

    def disgrace(self, name: str, now: float) -> None:
        """Do not rely on a member for a while."""
        if member := self._others.get(name):
            member.disgraced_until_s = now + self.disgrace_s

    def drop(self, name: str) -> None:
        """Have nothing to do with a member any more: it sent wrong bytes."""
        self.dropped.add(name)
        self._others.pop(name, None)

    # ------------------------------------------------------------ what follows

    def update(self, now: float) -> None:
        """Find out who is an owner now; to be called before the questions below."""
        usable = tuple(m for m in self._others.values() if m.usable(now))
        if usable != self._usable or self._news:
            self._usable, self._news = usable, False
            maps = (m.status.have for m in usable if m.status is not None)
            held = reduce(or_, (int.from_bytes(have, "little") for have in maps), 0)
            self._held = held.to_bytes((held.bit_length() + 7) // 8, "little")
        floor = self._floor()
        self.slow = frozenset(
            m.peer.cluster
            for m in usable
            if m.status is not None and 0 < m.status.send_rate < floor
        )
        able = {name: since_s for name, since_s, rate in self._candidates() if rate >= floor}
        first_s = min(able.values(), default=now)
        owners = frozenset(
            name
            for name, since_s in able.items()
            if since_s <= first_s + self.settle_s or since_s + self.settle_s <= now
        )
        if owners != self._owners:
            self._owners = owners
            self._ranks.clear()

    def _candidates(self) -> Iterator[tuple[str, float, float]]:
        """Yield the name, the beginning and the rate of all that may ask the origin."""
        for m in self._usable:
            if m.status is not None and m.status.able:
                yield m.peer.cluster, m.since_s, m.status.send_rate or float("inf")
        if self.serves and self.able:
            yield self.me, self.began_s, self.send_rate or float("inf")

    def _floor(self) -> float:
        """Return the rate below which a member is too slow to own anything: pieces that only it
        has would hold up all others."""
        rates = sorted(rate for _, _, rate in self._candidates() if rate < float("inf"))
        return rates[len(rates) // 2] / _TOO_SLOW if len(rates) >= RANKS else 0.0

    def met(self, now: float) -> bool:
        """Return whether everybody on the list told what it has, or was found not to answer."""
        return all(m.status is not None or now < m.disgraced_until_s for m in self._others.values())

    def peers(self, now: float) -> tuple[SyncPeer, ...]:
        """Return the members that can be asked now."""
        return tuple(m.peer for m in self._others.values() if now >= m.disgraced_until_s)

    def usable(self) -> tuple[str, ...]:
        """Return the names of those that told what they have, and are not disgraced."""
        return tuple(m.peer.cluster for m in self._usable)

    def peer(self, name: str) -> SyncPeer | None:
        """Return a member by name."""
        member = self._others.get(name)
        return member.peer if member else None

    def rank(self, piece: int) -> tuple[str, ...]:
        """Return the first owners of a piece, best first; empty if there is none at all."""
        found = self._ranks.get(piece)
        if found is None:
            key = bytes.fromhex(self.digest) + piece.to_bytes(8, "little")
            order = sorted(self._owners, key=lambda name: blake3(key + name.encode()).digest())
            found = self._ranks[piece] = tuple(order[:RANKS])
        return found

    def is_held(self, piece: int) -> bool:
        """Return whether anybody says that it holds a piece."""
        return has_bit(self._held, piece)

    def holders(self, piece: int) -> list[str]:
        """Return who says that it holds a piece."""
        index, bit = piece >> 3, 1 << (piece & 7)
        return [
            m.peer.cluster
            for m in self._usable
            if m.status is not None and index < len(m.status.have) and m.status.have[index] & bit
        ]

    def is_fetched(self, piece: int, now: float) -> bool:
        """Return whether another member is getting this piece from the origin."""
        return any(
            m.status is not None
            and now - m.heard_s < _STALE_S
            and has_bit(m.status.fetching, piece)
            for m in self._usable
        )

    def quiet_s(self, name: str) -> float:
        """Return for how long nothing had moved, when last heard of, at a member that asked nothing
        of the origin either.

        One that does finds out itself when the origin stalls, and says that it is not able.
        """
        member = self._others.get(name)
        if member is None or member.status is None:
            return float("inf")
        return 0.0 if any(member.status.fetching) else member.heard_s - member.moved_s
