"""Keeping a certificate: joining until there is one, then renewing it for as long as we live.

Input: an Enrolment, the clock, dice. Output: Credentials that hold a valid certificate; those who
use them hear of each new one (`Credentials.on_change`). A control plane that is gone changes
nothing before the certificate expires, and it is asked beyond that as well.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from federation.contract.errors import FederationError, Invalid, Unavailable
from federation.runtime.backoff import Backoff, Dice
from federation.runtime.clock import Clock
from federation.trust.enrolment import Enrolment

log = logging.getLogger(__name__)

BACKDATED = timedelta(seconds=60)  # certificates are valid from so long before they were issued
_LOOK_S = 30.0  # the machine may sleep, or its clock be set: how late that is noticed at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When to ask. Seconds, and shares of a certificate's life.

    The tries after a failure come sooner where a life is short: at most `retry_share` of it lies
    between them.
    """

    renew_at: float = 0.5
    spread: float = 0.1  # renewed at renew_at ± so much of it, so a fleet does not come at once
    retry: Backoff = field(default_factory=lambda: Backoff(first_s=1.0, cap_s=30.0))
    retry_share: float = 0.1
    acceptance_s: float = 3.0  # while an operator has to accept this process
    least_s: float = 0.2  # between two tries, whatever happens


class Schedule:
    """When to ask for a certificate next; pure."""

    def __init__(self, *, dice: Dice, patience: Patience | None = None) -> None:
        self.due: datetime | None = None  # None: at once
        self._dice = dice
        self._patience = patience or Patience()
        self._failures = 0
        self._tried: datetime | None = None
        self._life_s = float("inf")

    def __repr__(self) -> str:
        return f"Schedule(due={self.due}, failures={self._failures})"

    def wait_s(self, now: datetime) -> float:
        """Return the seconds until the next try; 0 if it is due."""
        return max(0.0, (self.due - now).total_seconds()) if self.due else 0.0

    def asked(self, now: datetime) -> None:
        """Note that a try begins."""
        self._tried = now

    def holds(self, not_before: datetime, not_after: datetime, now: datetime) -> None:
        """Note the certificate held: it is renewed at half its life, give or take.

        Its life began when it was issued: after the moment from which it is valid.
        """
        issued = min(now, not_before + BACKDATED)
        self._life_s = max(0.0, (not_after - issued).total_seconds())
        shift = 1 + self._patience.spread * (2 * self._dice.random() - 1)
        wait = timedelta(seconds=self._life_s * self._patience.renew_at * shift)
        self._failures = 0
        self._set(issued + wait, now)

    def failed(self, now: datetime) -> None:
        """Note that nobody answered, or that we were refused."""
        self._failures += 1
        plain, share_s = self._patience.retry, self._life_s * self._patience.retry_share
        backoff = Backoff(min(plain.first_s, share_s), min(plain.cap_s, max(share_s, 1.0)))
        self._set(now + timedelta(seconds=backoff.delay_s(self._failures, self._dice)), now)

    def waiting(self, now: datetime) -> None:
        """Note that an operator has to accept this process."""
        self._failures = 0
        wait_s = self._patience.acceptance_s * (0.75 + 0.5 * self._dice.random())
        self._set(now + timedelta(seconds=wait_s), now)

    def doubted(self, now: datetime) -> None:
        """Note that the certificate was refused somewhere: ask now, unless we just did.

        A process that finds its certificate refused when it starts asks at once: perhaps an
        operator has laid a new token beside it.
        """
        if self._failures == 0 and self._tried is not None:
            gap = timedelta(seconds=min(self._patience.retry.cap_s, self._life_s / 4))
            now = max(now, self._tried + gap)
        elif self._failures:
            return  # the next try is soon
        self.due = now if self.due is None else min(self.due, now)

    def _set(self, due: datetime, now: datetime) -> None:
        self.due = max(due, now + timedelta(seconds=self._patience.least_s))


class Membership:
    """One process's place in the federation: `run` gets and keeps its certificate, for ever.

    How a role uses it: `check()` before anything starts; `run` as a supervised task; where nothing
    can begin before there is a certificate, `await joined()`. Those who hold connections append
    to `credentials.on_change`. Who is refused because of the certificate calls `doubted()`.
    """

    def __init__(
        self, enrolment: Enrolment, *, clock: Clock, dice: Dice, patience: Patience | None = None
    ) -> None:
        self.reason = ""  # why the last try gave nothing, in words; empty when all is well
        self.renewals = 0
        self.credentials = enrolment.credentials
        self._enrolment = enrolment
        self._clock = clock
        self._schedule = Schedule(dice=dice, patience=patience)
        self._wake = asyncio.Event()
        self._here = asyncio.Event()
        self.credentials.on_change.append(self._changed)
        self._changed()

    def __repr__(self) -> str:
        why = f", {self.reason}" if self.reason else ""
        return f"Membership({self.credentials!r}, {self._schedule!r}{why})"

    def check(self) -> None:
        """Raise Invalid if this process neither has a certificate nor can get one."""
        self._enrolment.check()

    async def joined(self) -> None:
        """Wait until there is a certificate, perhaps an expired one."""
        await self._here.wait()

    def doubted(self) -> None:
        """Tell that the certificate was refused: it may be revoked, and a new token lie ready."""
        self._schedule.doubted(self._clock.utc())
        self._wake.set()

    async def run(self) -> None:
        """Join, then renew, for ever."""
        if self.credentials.leaf is not None:
            self._note_leaf()
        while True:
            wait_s = self._schedule.wait_s(self._clock.utc())
            if wait_s <= 0:
                await self._try()
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(min(wait_s, _LOOK_S)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    # ------------------------------------------------------------ one try

    async def _try(self) -> None:
        self._schedule.asked(self._clock.utc())
        try:
            done = await self._ask()
        except FederationError as error:
            self._schedule.failed(self._clock.utc())
            self._tell(error.sentence())
            return
        if done:
            self._tell("")
            self._note_leaf()
        else:
            self._schedule.waiting(self._clock.utc())
            self._tell("An operator has to accept it.")

    async def _ask(self) -> bool:
        """Renew; or join, if there is nothing to renew, or the renewal is refused."""
        if not self.credentials.complete:
            return await self._join()
        try:
            await self._enrolment.renew()
        except Unavailable:
            raise
        except FederationError as refused:
            if not await self._enrolment.has_token():
                raise
            try:
                return await self._join()
            except FederationError as error:
                told = f"{refused.sentence()} Nor does the join token help: {error.sentence()}"
                raise Invalid(told, reason=refused.reason) from None
        self.renewals += 1
        leaf, _ = self.credentials.require()
        log.info("renewed the certificate", extra={"until": leaf.facts.not_after.isoformat()})
        return True

    async def _join(self) -> bool:
        done = await self._enrolment.join()
        if done:
            leaf, _ = self.credentials.require()
            log.info("joined the federation as %s", leaf.facts.id)
        return done

    def _note_leaf(self) -> None:
        facts = self.credentials.require()[0].facts
        self._schedule.holds(facts.not_before, facts.not_after, self._clock.utc())

    def _tell(self, reason: str) -> None:
        """Log the reason when it is another one than before."""
        if reason and reason != self.reason:
            what = "renewed" if self.credentials.complete else "joined"
            log.warning("not %s yet: %s", what, reason)
        self.reason = reason

    def _changed(self) -> None:
        if self.credentials.complete:
            self._here.set()
