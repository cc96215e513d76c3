"""A router in a simulation: the real table and split.

Input: snapshots, requests of clients. Output: which version answers in which region.
"""

import random

from federation.contract.types import Snapshot
from router.policy import split, table


class Router:
    def __init__(self, name: str, dice: random.Random) -> None:
        self.name, self.dice = name, dice
        self.instance = 1
        self.connected = False
        self.table = table.build(Snapshot(version=0))

    @property
    def version(self) -> int:
        return self.table.version

    def restart(self) -> None:
        """Its process starts anew, with the snapshot from its disk."""
        self.instance += 1
        self.connected = False

    def take(self, snapshot: Snapshot) -> bool:
        """Apply a snapshot if it is newer; returns whether it serves it."""
        if snapshot.version > self.table.version:
            self.table = table.build(snapshot)
        return snapshot.version == self.table.version

    def answer(self, model: str, client: str, region: str) -> tuple[str, int, list[str]]:
        """Return the rollout, the version that answers a client in a region, and the clusters that
        may."""
        resolved = self.table.resolve(model)
        chosen, rollout = resolved.version, ""
        if resolved.split is not None:
            drawn = split.drawn(resolved.split, client, self.dice)
            rollout = drawn.canary.rollout
            canary = drawn.canary.version
            if drawn.takes(region) and self._at(model, canary, region):
                chosen = canary
        return rollout, chosen, self._at(model, chosen, region)

    def _at(self, model: str, version: int, region: str) -> list[str]:
        return [e.cluster for e in self.table.replicas(model, version) if e.region == region]
