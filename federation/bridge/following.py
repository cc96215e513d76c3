"""Follows the custom resources of one namespace.

Input: the API server's lists and watches. Output: a true shelf; how old the picture is, and why it
is not followed. What is not installed or denied is asked for again after a minute or two.
"""

import asyncio
import logging
from collections.abc import Callable

from federation.bridge.policy.custom import BRIDGED
from federation.kube.api import KubeApi, Selection
from federation.kube.watcher import KubeWatcher, View
from federation.kube.watching import WatchPatience
from federation.runtime.backoff import Dice
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

TOLD_AFTER_S = 5.0  # a picture younger than that needs no reason


class Following:
    """The bridge's eye on Kubernetes; `on_change` is called when the view has changed."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        view: View,
        *,
        clock: Clock,
        dice: Dice,
        patience: WatchPatience | None = None,
    ) -> None:
        self._api = api
        self._view = view
        self._clock = clock
        self._dice = dice
        self._patience = patience or WatchPatience()
        self._denied: list[str] = []
        self._selections = [
            Selection(resource=bridged.resource, namespace=namespace, optional=True)
            for bridged in BRIDGED
        ]
        self.on_change: Callable[[], None] = lambda: None
        self._watcher = self._make()

    def __repr__(self) -> str:
        return f"Following({self._watcher})"

    def _make(self) -> KubeWatcher:
        made = KubeWatcher(
            self._api,
            self._selections,
            self._view,
            clock=self._clock,
            dice=self._dice,
            patience=self._patience,
        )
        made.on_change = lambda: self.on_change()
        return made

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._watcher.run()
            self._denied = [f"{which}: {why}" for which, why in self._watcher.denied.items()]
            log.error("not followed: %s", "; ".join(self._denied))
            await asyncio.sleep(self._patience.refused_s * (1.0 + self._dice.random()))
            for which in self._selections:
                self._view.replace(which.resource.kind, ())  # the next watcher knows of none
            self._watcher, self._denied = self._make(), []

    def age_s(self) -> float | None:
        """Return how old the picture may be; None = there is none."""
        proven_s = self._watcher.proven_s()
        return None if proven_s is None else max(0.0, self._clock.monotonic_s() - proven_s)

    def reasons(self) -> list[str]:
        """Return why the custom resources are not followed, in words."""
        missing = [
            f"the API server has no {resource}: install the custom resource definitions"
            for resource, watching in self._watcher.watchings.items()
            if not watching.shown
        ]
        unlisted = [f"{which}: not listed yet" for which in self._watcher.unsettled()]
        late = self._watcher.reasons(after_s=TOLD_AFTER_S)
        return self._denied + missing + (late or unlisted)
