"""The control plane's own certificate, issued by its own authority.

Input: the authority, and which root signs now. Output: Credentials whose leaf is renewed at half
its life, and at once when another root begins to sign. The key lives in memory only.
"""

import asyncio
from datetime import timedelta

from federation.contract.spiffe import PeerId, PeerRole
from federation.contract.trust import Trust
from federation.identity.authority import Authority
from federation.runtime.clock import Clock
from federation.trust.credentials import Credentials
from federation.trust.keys import new_key, signing_request

LOOPBACK = ("localhost", "127.0.0.1", "::1")
LONGEST_SLEEP_S = 3600.0
_GENERATION = 1  # nobody revokes the control plane: whoever could is the control plane


class OwnLeaf:
    """Keeps `credentials` ready; `hosts` are the names and addresses by which clients dial."""

    def __init__(
        self,
        authority: Authority,
        *,
        name: str,
        roots: tuple[str, ...],
        clock: Clock,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self.credentials = Credentials(None)
        self._authority = authority
        self._id = PeerId(authority.trust_domain, PeerRole.CONTROL_PLANE, name)
        self._hosts = tuple(dict.fromkeys((*LOOPBACK, *hosts)))
        self._clock = clock
        self._signed_by = ""
        self._renew_at = clock.utc()
        self._poked = asyncio.Event()
        first = Trust(version=0, trust_domain=authority.trust_domain, roots=roots)
        self.credentials.keep_trust(first)
        self.renew()

    def __repr__(self) -> str:
        return f"OwnLeaf({self._id}, renew_at={self._renew_at:%F %T})"

    def renew(self) -> None:
        """Take a new certificate for a new key."""
        key = new_key()
        issued = self._authority.issue(
            signing_request(key), self._id, generation=_GENERATION, hosts=self._hosts
        )
        now = self._clock.utc()
        life = max(issued.not_after - now, timedelta(0))
        self._renew_at, self._signed_by = now + life / 2, self._authority.signing
        self.credentials.install(issued.pem, key)
        self._poked.set()

    def roots_changed(self) -> None:
        """Follow when another root signs: the older one is trusted for a while only."""
        if self._authority.signing != self._signed_by:
            self.renew()

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            self._poked.clear()
            wait_s = (self._renew_at - self._clock.utc()).total_seconds()
            if wait_s <= 0:
                self.renew()
                continue
            try:
                async with asyncio.timeout(min(wait_s, LONGEST_SLEEP_S)):
                    await self._poked.wait()
            except TimeoutError:
                pass
