"""Keeps the control plane as the custom resources say, one step at a time.

Input: the shelf of custom resources, the control plane's lists. Output: calls of the control plane,
and finalizers and statuses of the custom resources. What to do is `policy/decide`'s business, when
is `policy/pacing`'s. One object after the other: both ends are slow, and none is hurried.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from federation.bridge.control_plane import ControlPlane, document_of
from federation.bridge.policy.custom import BRIDGED, CLUSTER, Bridged, Custom
from federation.bridge.policy.decide import (
    Change,
    Command,
    Create,
    Facts,
    Note,
    Remove,
    Schedule,
    SetFinalizers,
    Steer,
    decide,
)
from federation.bridge.policy.pacing import Patience, Turns
from federation.bridge.policy.status import Trouble
from federation.bridge.shelf import Key, Shelf
from federation.bridge.troubles import is_outdated, silence_of, trouble_of
from federation.cli.documents import Json
from federation.contract.errors import Conflict, FederationError, Invalid, NotFound
from federation.kube.api import KubeApi
from federation.kube.errors import Conflict as KubeConflict
from federation.kube.errors import KubeError, Throttled
from federation.kube.errors import NotFound as KubeNotFound
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock

T = TypeVar("T")

log = logging.getLogger(__name__)

MANAGER = "fed-bridge"
Call = Create | Change | Schedule | Steer | Remove  # commands for the control plane

TOLD_AFTER = 3  # polls that failed: a control plane that restarts is no news for every object
MAX_STEPS = 8  # of one look at an object: finalizer, claim, creation, note, scheduling, note


class Reconciler:
    """The one that makes all changes. `calls` counts them, by end and outcome."""

    def __init__(
        self,
        *,
        api: KubeApi,
        control_plane: ControlPlane,
        clock: Clock,
        dice: Dice,
        patience: Patience | None = None,
    ) -> None:
        self._api = api
        self._control_plane = control_plane
        self._clock = clock
        self._dice = dice
        self._patience = patience or Patience()
        self._turns: Turns[Key] = Turns(self._patience, dice)
        self.shelf = Shelf(self._turns, clock)
        self.silence: Trouble | None = Trouble("NotAsked", "it was not asked yet", silent=True)
        self._lives: dict[Bridged, dict[str, Json]] = {bridged: {} for bridged in BRIDGED}
        self._failures = 0
        self._poll_s = float("-inf")
        self._news = asyncio.Event()
        self.calls: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"Reconciler({self._turns}, silence={self.silence})"

    @property
    def failing(self) -> int:
        """Return how many objects could not be dealt with when they were looked at last."""
        return self._turns.failing

    def wake(self) -> None:
        """Tell that the shelf has changed."""
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            if self._clock.monotonic_s() >= self._poll_s:
                await self._poll()
            for key in self._turns.due(self._clock.monotonic_s()):
                await self._look(key)
                if self._clock.monotonic_s() >= self._poll_s:
                    break
            await self._rest()

    async def _rest(self) -> None:
        until_s = min(self._poll_s, self._turns.next_s())
        wait_s = until_s - self._clock.monotonic_s()
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
        self._news.clear()

    # ------------------------------------------------------------ all objects

    async def _poll(self) -> None:
        """Ask for all that the control plane has; whoever is not failing has a turn after it."""
        try:
            for bridged in BRIDGED:
                self._lives[bridged] = await self._asking(self._control_plane.all_of(bridged))
        except FederationError as error:
            self._fell_silent(silence_of(error))
        else:
            if self._failures:
                log.info("the control plane answers again")
            self._failures, self.silence = 0, None
            self._poll_later()
        if 0 < self._failures < TOLD_AFTER:
            return
        now = self._clock.monotonic_s()
        for key in self.shelf.names():
            self._turns.nudged(key, now)

    def _fell_silent(self, trouble: Trouble) -> None:
        if self.silence is None or self.silence.message != trouble.message:
            log.warning("the control plane cannot be asked: %s", trouble.message)
        self._failures += 1
        self.silence = trouble
        self._poll_later()

    def _poll_later(self) -> None:
        wait_s = self._patience.next_poll_s(self._failures, self._dice)
        self._poll_s = self._clock.monotonic_s() + wait_s

    # ------------------------------------------------------------ one object

    async def _look(self, key: Key) -> None:
        """Do what can be done for an object now."""
        self._turns.began(key, self._clock.monotonic_s())
        facts = await self._facts(key)
        for _ in range(MAX_STEPS):
            custom = self.shelf.get(key)
            if custom is None:
                return
            command = decide(custom, facts, self._clock.utc())
            if command is None:
                break
            try:
                known = await self._perform(key, custom, command, facts)
            except KubeError as error:
                self._kube_failed(key, error)
                return
            if known is None:  # it is no longer as we knew it
                self._turns.failed(key, self._clock.monotonic_s())
                return
            facts = known
        if facts.trouble is None or facts.trouble is self.silence:
            self._turns.succeeded(key)  # of a silence, the next poll tells the end
        else:
            self._turns.failed(key, self._clock.monotonic_s())

    async def _facts(self, key: Key) -> Facts:
        """Return what is known. That there is no object is never taken from an old list: one could
        have been made since, and a deletion would leave it behind."""
        facts = Facts(live=self._lives[key[0]].get(key[1]), trouble=self.silence)
        if facts.live is not None or facts.trouble is not None:
            return facts
        try:
            return await self._read_again(key, facts)
        except FederationError as error:
            self._fell_silent(silence_of(error))
            return replace(facts, trouble=self.silence)

    def _kube_failed(self, key: Key, error: KubeError) -> None:
        if isinstance(error, KubeNotFound):
            self.shelf.drop(key)
            return
        if not isinstance(error, KubeConflict):
            log.warning("%s %s: %s", key[0].resource.kind, key[1], error.sentence())
        wait_s = error.retry_after_s if isinstance(error, Throttled) else 0.0
        self._turns.failed(key, self._clock.monotonic_s(), retry_after_s=wait_s)

    async def _perform(
        self, key: Key, custom: Custom, command: Command, facts: Facts
    ) -> Facts | None:
        """Return what is known after a command, None if all must be looked at anew.

        Raises KubeError.
        """
        match command:
            case Note(status=status):
                await self._write_status(key, custom, status)
            case SetFinalizers(finalizers=finalizers):
                await self._write_finalizers(key, custom, finalizers)
            case Create() | Change() | Schedule() | Steer() | Remove():
                return await self._tell(key, command, facts)
        return facts

    async def _tell(self, key: Key, command: Call, facts: Facts) -> Facts | None:
        """Make a call of the control plane; its refusals become facts."""
        bridged, name = key
        try:
            if isinstance(command, Create):
                facts = await self._create(key, command, facts)
            else:
                facts = replace(facts, live=await self._asking(self._change(key, command)))
        except FederationError as error:
            if is_outdated(error, bridged.kind.name):
                with contextlib.suppress(FederationError):  # the next poll reads it, too
                    await self._read_again(key, facts)
                return None
            trouble = trouble_of(error)
            if trouble.silent:
                self._fell_silent(trouble)
            return replace(facts, trouble=trouble)
        log.info("%s %s: %s", bridged.resource.kind, name, type(command).__name__.lower())
        self._remember(key, facts.live)
        return facts

    async def _change(self, key: Key, command: Change | Schedule | Steer | Remove) -> Json | None:
        bridged, name = key
        match command:
            case Change(spec=spec, expected=expected):
                answer = await self._control_plane.change(bridged, name, spec, expected)
                return document_of(answer)
            case Schedule(verb=verb):
                return document_of(await self._control_plane.schedule(name, verb))
            case Steer(verb=verb):
                return document_of(await self._control_plane.steer(name, verb))
            case Remove(expected=expected):
                await self._control_plane.remove(bridged, name, expected)
        return None

    async def _create(self, key: Key, command: Create, facts: Facts) -> Facts:
        """Make the object, or learn whose the one is that is there; raises FederationError."""
        bridged, name = key
        claim = command.claim
        try:
            live = await self._asking(self._control_plane.create(bridged, name, command))
        except Invalid as error:
            if error.reason != "idempotency-key-reused":
                raise
            return replace(await self._read_again(key, facts), proven=claim)  # by an older spec
        except NotFound as error:
            if not is_outdated(error, bridged.kind.name):
                raise
            return replace(facts, live=None, refuted=claim)  # made once, and gone
        except Conflict:
            facts = await self._read_again(key, facts)
            if facts.live is None and bridged is not CLUSTER:
                raise
            return replace(facts, refuted=claim)
        return replace(facts, live=document_of(live), proven=claim)

    async def _read_again(self, key: Key, facts: Facts) -> Facts:
        live = await self._asking(self._control_plane.get(*key))
        self._remember(key, live)
        return replace(facts, live=live)

    def _remember(self, key: Key, live: Json | None) -> None:
        bridged, name = key
        if live is None:
            self._lives[bridged].pop(name, None)
        else:
            self._lives[bridged][name] = live

    # ------------------------------------------------------------ Kubernetes

    async def _write_status(self, key: Key, custom: Custom, status: Json) -> None:
        gone = {name: None for name in custom.status if name not in status}
        await self._merge(key, custom, {"status": {**gone, **status}}, "/status")

    async def _write_finalizers(
        self, key: Key, custom: Custom, finalizers: tuple[str, ...]
    ) -> None:
        await self._merge(key, custom, {"metadata": {"finalizers": list(finalizers)}}, "")
        if custom.deleting and not finalizers:
            self.shelf.drop(key)

    async def _merge(self, key: Key, custom: Custom, patch: Json, subresource: str) -> None:
        """Patch a custom resource if it is still as we read it."""
        metadata = {**patch.get("metadata", {}), "resourceVersion": custom.version}
        path = key[0].resource.path(custom.namespace, custom.name) + subresource
        sent = {**patch, "metadata": metadata}
        self.shelf.take(
            key, await self._counted("kubernetes", self._api.merge(path, sent, manager=MANAGER))
        )

    async def _asking(self, call: Awaitable[T]) -> T:
        return await self._counted("control-plane", call)

    async def _counted(self, end: str, call: Awaitable[T]) -> T:
        try:
            answer = await call
        except FederationError as error:
            told = type(error).__name__ if isinstance(error, KubeError) else error.reason
            self.calls[end, told] += 1
            raise
        self.calls[end, "ok"] += 1
        return answer
