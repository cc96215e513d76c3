"""A request at two clusters at once: begun when its answer is late, over when one has answered.

Input: a request whose first attempt is under way. Output: the attempt whose answer is good, or None
when all failed. Who loses is cancelled: its connection closed, its attempt ended. The attempts are
driven as requests are (`relay.http1.waiting`), without a task each.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from federation.relay.http1.waiting import Alarm, Drive, Pause
from router.policy.hedging import NEVER_S, Hedged, Late, Outcome
from router.policy.pick import shortlist
from router.policy.shortlist import Option, Shortlist
from router.request.attempts import Attempts, Leg
from router.request.call import Call
from router.request.hedge import Hedges
from router.request.steps import Steps


class Race:
    """The attempts of one request that are under way at once; must be left."""

    def __init__(self, hedges: Hedges, attempts: Attempts, steps: Steps, call: Call) -> None:
        self._hedges = hedges
        self._attempts = attempts
        self._steps = steps
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._wake)
        self._pause: Pause | None = None
        self._fault: BaseException | None = None
        self._drives: dict[int, Drive] = {}  # by the place of their leg
        self._legs: list[Leg] = []

    def __repr__(self) -> str:
        return f"Race({self._legs})"

    async def run(self, first: Leg, after_s: float) -> Leg | None:
        """Return the attempt that is answered first, None if none is; what failed is added to the
        call's. `first` is late `after_s` it was sent."""
        self._enter(first)
        look_s = after_s
        try:
            while self._fault is None:
                won = next((leg for leg in self._legs if leg.answer is not None), None)
                if won is not None:
                    return self._over(won)
                if not self._drives:
                    return self._over(None)
                if first.failed is not None or first.upstream is not None or len(self._legs) > 1:
                    look_s = NEVER_S  # it failed, has begun to be answered, or is hedged
                look_s = await self._until(look_s, first)
            raise self._fault
        finally:
            self._leave()

    async def _until(self, look_s: float, first: Leg) -> float:
        """Wait for news, or until it is time to look whether a second cluster is to be asked;
        return when to look again, in seconds after the first was sent."""
        now_s = self._steps.state.clock.monotonic_s()
        left_s = first.sent_s + look_s - now_s
        if left_s > 0.0:
            await self._news(left_s)
            return look_s
        short = self._shortlist(first, now_s)
        late = Late(
            asked=first.chosen,
            sent_s=first.sent_s,
            deadline_s=self._call.limits.deadline_s,
            failed=[f.cluster for f in self._call.failed],
            pace=self._hedges.pace(first.resolved),
        )
        option, wait_s = self._hedges.look(short, late)
        if option is None or wait_s > 0.0:
            return now_s - first.sent_s + wait_s
        self._hedge(first, option, short, now_s)
        return NEVER_S

    def _shortlist(self, first: Leg, now_s: float) -> Shortlist:
        steps, call = self._steps, self._call
        origin = steps.origin(call.request.remote, call.request.headers)
        question = steps.question(first.resolved, call.caller, origin, now_s)
        return shortlist(steps.state.require_table(), steps.state.signals, question)

    def _hedge(self, first: Leg, option: Option, short: Shortlist, now_s: float) -> None:
        second = self._attempts.begin(self._call, first.resolved, option)
        self._call.hedged = Hedged(
            first=first.chosen.cluster, second=option.cluster, after_s=now_s - first.sent_s
        )
        self._hedges.spend(short, option)
        first.alone = second.alone = False
        self._enter(second)

    # ------------------------------------------------------------ attempts under way

    def _enter(self, leg: Leg) -> None:
        number = len(self._legs)
        self._legs.append(leg)
        going: Coroutine[Any, Any, None] = self._attempts.answer(self._call, leg)

        def ended(_: object, error: BaseException | None) -> None:
            self._drives.pop(number, None)
            if error is not None and self._fault is None:
                self._fault = error
            self._wake()

        drive = self._drives[number] = Drive(going, ended, self._loop)
        drive.step()

    def _wake(self) -> None:
        if self._pause is not None:
            self._pause.wake()

    async def _news(self, seconds: float) -> None:
        """Wait until an attempt ends, at most for so long."""
        self._pause = pause = Pause(self._loop)
        if seconds < NEVER_S:
            self._alarm.set(seconds)
        try:
            await pause
        finally:
            self._pause = None
            self._alarm.clear()

    def _over(self, won: Leg | None) -> Leg | None:
        """Take note of what became of the hedge, and end those that are not the one."""
        hedged = self._call.hedged
        if won is not None:
            won.is_the_one = True
        for leg in self._legs:
            if leg.failed is not None:
                self._call.failed.append(leg.failed)
            elif leg is not won:
                self._attempts.end(leg, outrun=True)
                if hedged is not None:
                    hedged.given_up = True
        if hedged is not None and len(self._legs) > 1:
            hedged.outcome = Outcome.BOTH_FAILED
            if won is not None:
                hedged.outcome = Outcome.WON if won is self._legs[1] else Outcome.LOST
        return won

    def _leave(self) -> None:
        """Cancel what is still under way."""
        self._alarm.close()
        drives, self._drives = list(self._drives.values()), {}
        self._pause = None
        for leg in self._legs:
            if not leg.is_the_one:
                self._attempts.end(leg)
        for drive in drives:
            drive.cancel()
        hedged = self._call.hedged
        if hedged is not None and len(self._legs) > 1:
            answered = any(leg.is_the_one for leg in self._legs)
            failed = any(leg.failed for leg in self._legs)  # a failover, which is refunded as such
            self._hedges.over(self._legs[0].resolved, hedged, refund=answered and not failed)
