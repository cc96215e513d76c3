"""A region on a virtual clock: links that are shared fairly, and the real Swarm in every agent.

Each agent has an uplink and a downlink, the origin one link to the region. A transfer runs at the
least of its shares; polls and refusals take a round trip. No TCP, no packets.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from edge_agent.policy.pace import Pace
from edge_agent.policy.swarm import Swarm
from edge_agent.policy.swarm_members import Members, PeerStatus, has_bit
from edge_agent.policy.swarm_terms import ORIGIN, Fetch, Outcome, SwarmLimits
from federation.contract.sync import SyncPeer
from tests.edge_agent.policy.swarm_links import Flow, Link

GBIT = 125e6
DIGEST = "ab" * 32
RTT_S = 0.002
TICK_S = 0.1
POLL_S, GREET_S, POLLS_PER_S = 0.7, 0.2, 50.0  # as the agent's shell has them
TURN_S = 0.25  # for so long one waits for a turn at a peer that sends to as many as it may
ALONE_S = 3.0  # for at least so long a piece is not given to a second one


@dataclass(kw_only=True)
class Setup:
    agents: int = 20
    pieces: int = 256
    piece_bytes: float = 4 * 2**20
    origin_rate: float = GBIT
    dead: int = 0  # listed, and refuse connections
    slow: int = 0  # at 1/`slowness` of the uplink
    slowness: float = 20.0
    slow_down: bool = False  # and of the downlink; these are not waited for
    link_rate: float = GBIT  # of each agent's two links
    late: int = 0  # of them join at `late_s`
    late_s: float = 5.0
    liars: int = 0  # send wrong bytes
    blind: int = 0  # agents that do not know of the last `hidden` members
    hidden: int = 0
    lag_s: float = 0.0  # until the list has reached everybody
    unlisted: float = 0.0  # the share of the others that an agent does not know of, by chance
    behind_nat: int = 0  # fetch, but cannot be dialled
    stagger_s: float = 0.0  # the others begin within this time
    answers: int = 4
    seed: int = 1
    limits: SwarmLimits = field(default_factory=SwarmLimits)

    @property
    def size(self) -> float:
        return self.pieces * self.piece_bytes


class Agent:
    def __init__(self, world: "World", number: int, began_s: float) -> None:
        self.world, self.number, self.began_s = world, number, began_s
        self.name = f"c{number:03}"
        setup, limits = world.setup, world.setup.limits
        first_dead = setup.agents - setup.slow - setup.dead
        self.dead = first_dead <= number < first_dead + setup.dead
        slow = number >= setup.agents - setup.slow
        self.url = "" if number < setup.behind_nat else f"https://{self.name}"
        self.liar = setup.behind_nat <= number < setup.behind_nat + setup.liars
        rate = setup.link_rate
        self.up = Link(rate / setup.slowness if slow else rate)
        self.down = Link(rate / setup.slowness if slow and setup.slow_down else rate)
        self.awaited = not (self.dead or (slow and setup.slow_down))
        self.have: set[int] = set()
        self.received = self.from_origin = 0.0
        self.done_s: float | None = None
        self.sending: list[tuple[int, float]] = []  # pieces, and since when
        self.waiting: dict[tuple[str, Fetch], Outcome] = {}  # for a turn, and what it brings
        self.bits = bytearray((setup.pieces + 7) // 8)  # of `have`
        self.told: tuple[float, PeerStatus] | None = None
        self.origin_pace, self.pace = Pace(), Pace(windows=2)
        self.give_pace, self.given = Pace(), 0.0
        self.running: dict[Fetch, Flow | None] = {}  # None: before the first byte
        self.dice = random.Random(f"{setup.seed}/{number}")
        self.polled: set[str] = set()
        self.often_s = GREET_S
        others = range(setup.agents) if setup.unlisted else ()
        self.overlooked = {f"c{n:03}" for n in others if self.dice.random() < setup.unlisted}
        self.overlooked.discard(self.name)
        self.known: set[str] = set()
        self.members = Members(
            me=self.name,
            digest=DIGEST,
            began_s=began_s,
            settle_s=limits.settle_s,
            disgrace_s=limits.disgrace_s,
        )
        self.swarm = Swarm(
            self.members,
            range(setup.pieces),
            count=setup.pieces,
            dice=self.dice,
            limits=limits,
        )

    # ------------------------------------------------------------ as a server

    def status(self) -> PeerStatus:
        now = self.world.now
        if self.told is None or now - self.told[0] > 0.25:
            self.told = now, self.swarm.status(bytes(self.bits), int(self.received), now)
        return self.told[1]

    def measure(self) -> None:
        now, running = self.world.now, [f for f in self.running.items() if f[1]]
        moved = dict.fromkeys((True, False), 0.0)
        for fetch, flow in running:
            if flow:
                count = self.world.setup.piece_bytes - flow.left + flow.rate * (now - flow.at)
                moved[fetch.source == ORIGIN] += count
        origin = any(f.source == ORIGIN for f in self.running)
        self.origin_pace.note(int(self.from_origin + moved[True]), now, active=origin)
        received = self.received + moved[True] + moved[False]
        self.pace.note(int(received), now, active=any(f.source for f, _ in running))
        up = [f.rate * (now - f.at) - f.left for f in self.up.flows]
        given = self.given + sum(up) + len(up) * self.world.setup.piece_bytes
        self.give_pace.note(int(given), now, active=bool(up))
        self.members.send_rate = self.give_pace.rate
        self.members.origin_rate = self.origin_pace.rate
        self.members.receive_rate = self.pace.rate

    def answers(self, fetch: Fetch) -> Outcome:
        setup, rate = self.world.setup, self.give_pace.rate or float("inf")
        since_s = self.world.now - max(ALONE_S, setup.answers * setup.piece_bytes / rate)
        same = any(piece == fetch.piece and at > since_s for piece, at in self.sending)
        if fetch.piece in self.have and (same or not self.swarm.gives(fetch.piece, self.world.now)):
            return Outcome.NOT_YET
        if fetch.piece in self.have:
            return Outcome.BAD if self.liar else Outcome.GOT
        return Outcome.NOT_YET if self.swarm.is_mine(fetch.piece) else Outcome.REFUSED

    # ------------------------------------------------------------ as a client

    def tick(self) -> None:
        self.measure()
        often_s = POLL_S if self.members.met(self.world.now) else GREET_S
        self.often_s = max(often_s, len(self.members.peers(self.world.now)) / POLLS_PER_S)
        self.pump()

    def pump(self) -> None:
        if not self.swarm.done:
            for fetch in self.swarm.next(self.world.now):
                self.world.begin(self, fetch)
            for fetch in self.swarm.to_give_up(self.world.now):
                self.give_up(fetch)

    def ended(self, fetch: Fetch, outcome: Outcome) -> None:
        self.running.pop(fetch, None)
        if outcome is Outcome.GOT:
            self.have.add(fetch.piece)
            self.bits[fetch.piece >> 3] |= 1 << (fetch.piece & 7)
        for other in self.swarm.ended(fetch, outcome, self.world.now):
            self.give_up(other)
        if self.swarm.done and self.done_s is None:
            self.done_s = self.world.now
        self.pump()

    def give_up(self, fetch: Fetch) -> None:
        if fetch.source:
            self.world.agents[fetch.source].waiting.pop((self.name, fetch), None)
        if flow := self.running.pop(fetch, None):
            self.world.stop(flow)
        self.swarm.ended(fetch, Outcome.GIVEN_UP, self.world.now)

    def poll(self, peer: str) -> None:
        """Ask a member for its status, from now on and again until all is here."""
        world = self.world
        if self.swarm.done or self.members.peer(peer) is None:
            return
        other = world.agents[peer]
        if other.dead:
            self.members.unheard(peer, world.now)
        elif world.now < other.began_s:
            self.members.absent(peer)
        elif self.name not in other.known:
            self.members.stranger(peer)
        elif not other.liar:
            self.members.heard(peer, other.status(), world.now)
        else:
            self.members.heard(peer, PeerStatus(have=b"\xff" * 64), world.now)
        often_s = self.often_s
        if peer not in self.polled:  # not all at the same time
            self.polled.add(peer)
            often_s *= self.dice.random()
        world.after(often_s, partial(self.poll, peer))

    def listed(self, peers: tuple[SyncPeer, ...]) -> None:
        self.known = {p.cluster for p in peers}
        before = {p.cluster for p in self.members.peers(self.world.now)}
        self.members.listed(peers)
        for peer in self.members.peers(self.world.now):
            if peer.cluster not in before:
                dead = self.world.agents[peer.cluster].dead
                self.world.after(1.0 if dead else RTT_S, partial(self.poll, peer.cluster))
        self.world.after(RTT_S, self.pump)


class World:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.now = 0.0
        self.origin = Link(setup.origin_rate)
        self.egress = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.agents: dict[str, Agent] = {}
        rng = random.Random(setup.seed)
        for n in range(setup.agents):
            late = n >= setup.agents - setup.slow - setup.dead - setup.late
            late = late and n < setup.agents - setup.slow - setup.dead
            began_s = setup.late_s if late else rng.random() * setup.stagger_s
            agent = Agent(self, n, began_s)
            self.agents[agent.name] = agent
        for agent in self.agents.values():
            if not agent.dead:
                self.after(agent.began_s, partial(self._tick, agent))
        for began_s in sorted({agent.began_s for agent in self.agents.values() if not agent.dead}):
            self.after(began_s + 0.05 * (setup.stagger_s > 0), self.publish)
        self.publish()

    def after(self, delay_s: float, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._count, do))

    def publish(self) -> None:
        """The control plane's list goes to everybody who is there."""
        peers = [
            SyncPeer(
                cluster=a.name,
                url=a.url,
                digests=(DIGEST,) if a.began_s <= self.now or a.dead else (),
            )
            for a in self.agents.values()
        ]
        seeing = len(peers) - self.setup.hidden
        for agent in self.agents.values():
            if agent.began_s <= self.now and not agent.dead:
                blind = agent.number < self.setup.blind
                view = peers[:seeing] if blind else peers
                known = tuple(p for p in view if p.cluster not in agent.overlooked)
                self.after(agent.dice.random() * self.setup.lag_s, partial(agent.listed, known))

    def _tick(self, agent: Agent) -> None:
        agent.tick()
        if not agent.swarm.done:
            self.after(TICK_S, partial(self._tick, agent))

    # ------------------------------------------------------------ transfers

    def begin(self, agent: Agent, fetch: Fetch) -> None:
        agent.running[fetch] = None
        if fetch.source == ORIGIN:
            agent.told = None
            self.after(RTT_S, partial(self._send, agent, fetch, None, Outcome.GOT, (0, 0.0)))
            return
        other = self.agents[fetch.source]
        if other.dead:
            self.after(1.0, partial(agent.ended, fetch, Outcome.FAILED))
            return
        outcome = other.answers(fetch) if agent.name in other.known else Outcome.REFUSED
        if outcome not in (Outcome.GOT, Outcome.BAD):
            self.after(RTT_S, partial(agent.ended, fetch, outcome))
        elif len(other.sending) < self.setup.answers:
            self._turn(agent, fetch, other, outcome)
        else:
            other.waiting[agent.name, fetch] = outcome
            self.after(TURN_S, partial(self._turn_away, agent, fetch, other))

    def _turn(self, agent: Agent, fetch: Fetch, other: Agent, outcome: Outcome) -> None:
        turn = fetch.piece, self.now
        other.sending.append(turn)
        self.after(RTT_S, partial(self._send, agent, fetch, other, outcome, turn))

    def _turn_away(self, agent: Agent, fetch: Fetch, other: Agent) -> None:
        if other.waiting.pop((agent.name, fetch), None):
            self.after(RTT_S, partial(agent.ended, fetch, Outcome.NOT_YET))

    def _end_turn(self, other: Agent, turn: tuple[int, float]) -> None:
        other.sending.remove(turn)
        if other.waiting:
            name, fetch = next(iter(other.waiting))
            outcome = other.waiting.pop((name, fetch))
            self._turn(self.agents[name], fetch, other, outcome)

    def _send(
        self,
        agent: Agent,
        fetch: Fetch,
        other: Agent | None,
        outcome: Outcome,
        turn: tuple[int, float],
    ) -> None:
        def stopped() -> None:
            moved = self.setup.piece_bytes - flow.left
            if other:
                self._end_turn(other, turn)
                other.given += moved
            else:
                self.egress += 0 if agent.liar else moved
                agent.from_origin += moved
            agent.received += moved

        def done() -> None:
            flow.left = 0.0
            stopped()
            if other:
                other.swarm.gave(fetch.piece)
            agent.ended(fetch, outcome)

        if fetch not in agent.running:  # given up meanwhile
            if other:
                self._end_turn(other, turn)
            return
        up = other.up if other else self.origin
        flow = Flow((up, agent.down), self.setup.piece_bytes, done, stopped)
        flow.at = flow.began = self.now
        agent.running[fetch] = flow
        for link in flow.links:
            link.flows[flow] = None
        self._share(flow.links)

    def stop(self, flow: Flow) -> None:
        """A fetch is given up; what it moved so far is lost, and counts."""
        self._unlink(flow)
        flow.stopped()

    def _share(self, links: tuple[Link, Link]) -> None:
        """The shares of two links changed."""
        for flow in dict.fromkeys([*links[0].flows, *links[1].flows]):
            flow.left -= flow.rate * (self.now - flow.at)
            flow.at = self.now
            rate = min(flow.links[0].share, flow.links[1].share)
            if rate != flow.rate:
                flow.rate = rate
                flow.version += 1
                self.after(max(0.0, flow.left) / rate, partial(self._land, flow, flow.version))

    def _land(self, flow: Flow, version: int) -> None:
        if version == flow.version:
            self._unlink(flow)
            flow.done()

    def _unlink(self, flow: Flow) -> None:
        flow.left = max(0.0, flow.left - flow.rate * (self.now - flow.at))
        flow.at, flow.version = self.now, -1
        for link in flow.links:
            link.flows.pop(flow, None)
        self._share(flow.links)

    # ------------------------------------------------------------ the run

    def run(self, limit_s: float = 3000.0) -> "Result":
        while self._queue and self.now < limit_s:
            self.now, _, do = heapq.heappop(self._queue)
            do()
        alive = [a for a in self.agents.values() if not a.dead]
        late = sorted((a.done_s or limit_s) - a.began_s for a in alive if a.awaited)
        ideal_s = self.setup.size / min(self.setup.link_rate, self.setup.origin_rate)
        return Result(
            egress=self.egress / self.setup.size,
            median=late[len(late) // 2] / ideal_s,
            last=late[-1] / ideal_s,
            unfinished=[a.name for a in alive if a.done_s is None],
            torn=[a.name for a in alive if len(a.have) != self.setup.pieces],
        )


@dataclass
class Result:
    """Egress in sizes of the package, times in the time that the slower link alone needs."""

    egress: float
    median: float
    last: float
    unfinished: list[str]
    torn: list[str]


__all__ = ["GBIT", "Result", "Setup", "World", "has_bit"]
