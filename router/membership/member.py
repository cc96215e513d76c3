"""A router as a member of a federation: its identity, its door for agents, its stream.

Input: settings, and what lies in the state directory. Output: credentials that stay valid, a
routing table that stays that of the control plane. With an identity and a snapshot on disk a router
serves before it has reached anybody.
"""

import logging
import os
from functools import partial

from federation.contract.spiffe import PeerRole
from federation.trust.credentials import Credentials
from federation.trust.enrolment import Enrolment
from federation.trust.renewal import Membership, Patience
from router.explain import explain
from router.geo import Locator
from router.membership.serving import Alone, Serving
from router.membership.watch import Uplink, Watcher
from router.policy.table import Reach
from router.settings import Settings, contact, reverse_address, state_directory
from router.state import RouterState
from router.upstream.reverse import ReversePool

log = logging.getLogger(__name__)


class Member:
    """What only routers with a control plane have."""

    def __init__(
        self,
        settings: Settings,
        state: RouterState,
        *,
        patience: Patience | None = None,
        serving: Serving | None = None,
        doors: str = "",
    ) -> None:
        """Be a member: this process is, or, with `serving`, workers are behind it, whose doors for
        agents are at the addresses `doors`."""
        self.directory = state_directory(settings, os.environ)
        self.credentials = Credentials(self.directory / "identity")
        enrolment = Enrolment(
            self.credentials, contact(settings), role=PeerRole.ROUTER, name=settings.name
        )
        self.membership = Membership(
            enrolment, clock=state.clock, dice=state.dice, patience=patience
        )
        self.membership.check()
        self.reverse = (
            ReversePool(self.credentials, clock=state.clock) if settings.reverse_listen else None
        )
        self._settings = settings
        self._state = state
        self._serving = serving  # None = this process serves
        self._reverse_address = doors
        state.credentials = self.credentials
        state.membership_problem = lambda: self.membership.reason
        state.reach = Reach(secure=True, reverse=bool(doors) or self.reverse is not None)

    def __repr__(self) -> str:
        return f"Member({self.membership})"

    def begin(self, locator: Locator) -> None:
        """Route by the snapshot on disk, if there is one."""
        self._watcher(locator).load_from_disk()

    async def open_door(self) -> None:
        """Let agents dial this router from now on; raises FederationError if it cannot listen."""
        if self.reverse is None or self._reverse_address:
            return
        bound = await self.reverse.listen(self._settings.reverse_listen)
        self._reverse_address = reverse_address(self._settings, bound)
        log.info("agents may connect to %s", self._reverse_address)

    async def follow(self, locator: Locator, url: str) -> None:
        """Join, then follow the control plane, until cancelled; clients reach us at `url`."""
        await self.membership.joined()
        await self.open_door()
        await self._watcher(locator, url).run()

    async def close(self) -> None:
        """Close the door for agents, and their connections."""
        if self.reverse is not None:
            await self.reverse.close()

    def _watcher(self, locator: Locator, url: str = "") -> Watcher:
        uplink = Uplink(
            address=self._settings.control_plane,
            credentials=self.credentials,
            state_dir=self.directory,
            url=url,
            reverse_address=self._reverse_address,
            doubted=self.membership.doubted,
        )
        serving = self._serving or Alone(self._state, partial(explain, self._state, locator))
        return Watcher(state=self._state, serving=serving, uplink=uplink)
