"""A router that is several processes: this one keeps it together, its workers answer clients.

Input: settings. Output: a running router until SIGTERM or SIGINT. The keeper holds the identity,
the stream to the control plane, the snapshot on disk and the admin port; it hands every worker the
same snapshots and credentials, and adds up what they count.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from federation.relay.server import require_compiled_parser
from federation.runtime.clock import SystemClock
from federation.runtime.supervise import Supervisor
from router import parts
from router.admin import Admin
from router.limits import GRACE_S
from router.membership.member import Member
from router.settings import Settings, public_tls
from router.state import RouterState
from router.workers import frames
from router.workers.crew import Crew
from router.workers.gathering import Gathering
from router.workers.places import Doors, Place, hold
from router.workers.portions import Portions
from router.workers.splitting import Begun, split_off

log = logging.getLogger(__name__)

_LOOK_S = 0.25  # for how the router stands
_DIVIDE_S = 1.0
_SLOWLY_S = 5.0  # beyond the workers' own patience when they stop


@dataclass(frozen=True, slots=True)
class Ground:
    """What a router with workers has before its loop runs: addresses, and workers that wait."""

    settings: Settings
    place: Place
    doors: Doors
    begun: Sequence[Begun]


def workers_of(settings: Settings) -> int:
    """Return how many workers there shall be; 1 = none, the router is one process."""
    return settings.workers or len(os.sched_getaffinity(0))


@contextlib.contextmanager
def prepare(settings: Settings) -> Iterator[Ground]:
    """Hold the addresses and split off the workers; raises FederationError. To be done before there
    is a thread or a loop, since a process that is split off has none."""
    require_compiled_parser()
    public_tls(settings)  # the workers use it; what is wrong with it is said here
    workers = workers_of(settings)
    with (
        contextlib.closing(hold(settings.listen)) as place,
        contextlib.closing(Doors(settings, workers)) as doors,
        split_off(workers, place, doors) as begun,
    ):
        yield Ground(settings, place, doors, begun)


async def serve(ground: Ground, stop: asyncio.Event) -> None:
    """Run a router with workers until `stop` is set; raises FederationError if it cannot start."""
    settings, place = ground.settings, ground.place
    supervisor = Supervisor()
    async with contextlib.AsyncExitStack() as stack:
        locator = parts.make_locator(settings, stack)
        keeper = Keeper(ground)
        state, member = keeper.state, keeper.member
        if member is None:
            parts.read_table(settings, state)
        else:
            member.begin(locator)
        stack.push_async_callback(supervisor.stop)
        admin = Admin(state=state, answering=keeper.gathering)
        admin_address = await parts.serve_admin(admin, settings.admin_listen, stack)
        hung_up = stack.enter_context(parts.hangups())
        stack.push_async_callback(keeper.crew.stop, GRACE_S + _SLOWLY_S)
        await keeper.crew.start(stop)
        supervisor.start("standing", keeper.tell_standing)
        supervisor.start("divide", keeper.divide)
        supervisor.start("reload", partial(keeper.pass_on, hung_up.certificate))
        if member is None:
            supervisor.start("follow", partial(parts.follow_table, settings, state, hung_up.table))
        else:
            supervisor.start("membership", member.membership.run)
            url = parts.url(settings, place.address)
            supervisor.start("follow", partial(member.follow, locator, url))
        await parts.until(stop, state.name, place.address, admin_address)


class Keeper:
    """What the keeper knows, and what it tells the workers."""

    def __init__(self, ground: Ground) -> None:
        self._settings = settings = ground.settings
        self._place = ground.place
        self._doors = ground.doors
        self._standing = frames.Standing()
        self.state: RouterState = parts.make_state(settings, SystemClock())
        self.crew = Crew(
            workers_of(settings),
            opening=self._opening,
            handed=self._sockets,
            dice=self.state.dice,
            begun=ground.begun,
        )
        self.state.see = self._health
        self.gathering = Gathering(self.state, self.crew)
        self.member: Member | None = None
        if not settings.table:
            alone, told = replace(settings, reverse_listen=""), ground.doors.addresses
            self.member = Member(alone, self.state, serving=self.gathering, doors=told)
            self.member.credentials.on_change.append(self._identified)

    def __repr__(self) -> str:
        return f"Keeper({self.crew}, {self.state})"

    def _sockets(self, number: int) -> Sequence[socket.socket | None]:
        doors = self._doors.sockets
        return self._place.inherited, doors[number] if doors else None

    def _opening(self, number: int) -> Sequence[frames.Order]:
        """Return all that a new worker must know before it serves."""
        settings = self._settings
        said: list[frames.Order] = [
            frames.Welcome(
                index=number,
                of=len(self.crew.posts),
                settings=settings,
                address=self._place.address,
                secure=self.member is not None,
            )
        ]
        if (identity := self._identity()) is not None:
            said.append(identity)
        said.append(self._standing)
        if self.gathering.newest is not None:
            said.append(self.gathering.newest)
        return said

    def _identity(self) -> frames.Identity | None:
        if self.member is None or not self.member.credentials.complete:
            return None
        leaf, trust = self.member.credentials.require()
        return frames.Identity(leaf.certificate, leaf.key, trust)

    def _identified(self) -> None:
        if (identity := self._identity()) is not None:
            self.crew.tell(identity)

    async def tell_standing(self) -> None:
        """Tell the workers whenever the router stands otherwise, until cancelled."""
        state = self.state
        while True:
            standing = frames.Standing(
                state.revoked, state.membership_problem(), bool(state.on_demand)
            )
            if standing != self._standing:
                self._standing = standing
                self.crew.tell(standing)
            await asyncio.sleep(_LOOK_S)

    async def divide(self) -> None:
        """Give each worker the part of the tenants' limits that its clients ask for, until
        cancelled."""
        crew, portions = self.crew, Portions(len(self.crew.posts))
        told: dict[int, tuple[int, dict[str, float]]] = {}
        while True:
            await asyncio.sleep(_DIVIDE_S)
            portions.note(crew.ledger.tenants())
            for post in crew.posts:
                part = post.restarts, portions.of(post.number)
                if post.link is not None and told.get(post.number) != part:
                    told[post.number] = part
                    post.link.send(frames.Portion(part[1]))

    async def pass_on(self, hung_up: asyncio.Event) -> None:
        """Tell the workers of each SIGHUP, until cancelled."""
        while True:
            await hung_up.wait()
            hung_up.clear()
            self.crew.tell(frames.Reload())

    def _health(self) -> Mapping[str, tuple[float | None, bool, str]]:
        """Return how the workers see the clusters: round trips as the nearest measured them; out is
        what half of them have ejected."""
        table, ledger, half = self.state.table, self.crew.ledger, len(self.crew.posts) / 2
        found: dict[str, tuple[float | None, bool, str]] = {}
        for name in table.endpoints if table is not None else ():
            seen = ledger.seen(name)
            out = [one.reason for one in seen if one.open]
            trips = [one.rtt_ms for one in seen if one.rtt_ms is not None]
            bad = bool(out) and len(out) >= half
            found[name] = (min(trips, default=None), not bad, out[0] if bad else "")
        return found
