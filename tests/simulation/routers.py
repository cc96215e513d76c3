"""A router in a simulation: the real table, split, choice of clusters, retries and counters.

Input: snapshots, requests of clients, what gateways answer. Output: who answered, and counts.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from zlib import crc32

from federation.contract.errors import NotFound
from federation.contract.types import Location, Snapshot
from federation.policy.rollouts.events import RouterCounted
from router.counting import Counting
from router.policy import canary, pick, residency, retry, table
from router.policy.decision import Question
from router.policy.retry import Failed, RetryBudget
from router.policy.shortlist import Option
from router.policy.signals import Attempt, Ending, Signals
from router.policy.table import Resolved, RoutingTable
from router.request.client_key import settle

Answers = list[tuple[int, float]]  # status and seconds, of each of several requests
Gateway = Callable[[str, int, int], "Answers | Failed"]  # cluster, version, how many requests
LIMITS = retry.Limits(deadline_s=float("inf"))


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: from where, with what key ("" = it cannot be told from others), and in which
    regions the requests of its tenant must stay (none = anywhere)."""

    key: str
    home: str
    place: Location
    regions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt: what was chosen by which table, and how it failed, if it did."""

    router: "Router"
    client: Client
    table: RoutingTable
    resolved: Resolved
    option: Option
    before: tuple[Failed, ...]
    failed: Failed | None = None


class Router:
    def __init__(self, name: str, dice: random.Random) -> None:
        self.name, self.dice = name, dice
        self.table = table.build(Snapshot(version=0))
        self.process = 0
        self.lost_until = 0.0  # it does not reach the control plane
        self.start()

    def start(self) -> None:
        """Its process starts anew, with the snapshot from its disk; all that it learned is gone."""
        self.process += 1
        self.connected = False
        self.signals = Signals(seed=crc32(self.name.encode()))
        self.budget = RetryBudget()
        self.counting = Counting()
        self.counting.instance = self.instance
        self.attempts = 0
        self.counted_s = float("-inf")
        self._swap(self.table)

    @property
    def instance(self) -> str:
        return f"{self.name}-{self.process}"

    @property
    def version(self) -> int:
        return self.table.version

    def take(self, new: RoutingTable) -> bool:
        """Route by a table if it is newer; returns whether it does."""
        if new.version > self.table.version:
            self._swap(new)
        return new.version == self.table.version

    def _swap(self, new: RoutingTable) -> None:
        self.signals.retain({name: e.url for name, e in new.endpoints.items()})
        self.counting.retain(new)
        self.table = new

    def counts(self, now_s: float, every_s: float) -> Iterator[RouterCounted]:
        """Yield what it counted, when that is due."""
        if now_s < self.counted_s + every_s:
            return
        self.counted_s = now_s
        sequence, models = self.counting.report()
        told = tuple(each for counts in models for each in counts)
        yield RouterCounted(name=self.name, instance=self.instance, sequence=sequence, counts=told)

    # ------------------------------------------------------------ requests

    def ask(
        self, model: str, client: Client, size: int, now_s: float, gateway: Gateway
    ) -> Iterator[Tried]:
        """Send a few equal requests of a client at once; yields each attempt.

        The first of them stands for all in what the router learns of its lanes.
        """
        failed: list[Failed] = []
        before: Resolved | None = None
        self.budget.request(now_s)
        while not (failed and retry.why_not(failed, LIMITS, now_s)):
            try:
                resolved = self.table.resolve(model)
            except NotFound:
                return
            if resolved.split is not None:
                resolved = settle(resolved, client.key, self.dice, before, tuple(failed))
            question = Question(
                resolved=resolved,
                now_s=now_s,
                failed=[f.cluster for f in failed],
                regions=client.regions,
                origin=client.place,
            )
            choose = pick.decide if resolved.split is None else canary.decide
            decision = choose(self.table, self.signals, question, self.dice)
            option = decision.chosen
            if option is None:
                return
            if failed:
                if not self.budget.allows(now_s, hopeful=not decision.desperate):
                    return
                self.budget.spend(now_s)
            before = resolved = decision.resolved
            residency.assure(resolved.route, client.regions, option)
            failure = self._attempt(resolved, option, size, now_s, gateway)
            if failure is not None:
                failure = replace(failure, version=option.version)
            yield Tried(self, client, self.table, resolved, option, tuple(failed), failure)
            if failure is None:
                return
            failed.append(failure)

    def _attempt(
        self, resolved: Resolved, option: Option, size: int, now_s: float, gateway: Gateway
    ) -> Failed | None:
        attempt = Attempt(self.signals, option.lane, now_s)
        answers = gateway(option.cluster, option.version, size)
        self.attempts += size
        if isinstance(answers, Failed):
            for _ in range(size):
                self.counting.attempted(resolved, option, answers.status, 0.001)
            attempt.end(answers.ending, answers.reason, now_s)
            return answers
        for status, took_s in answers:
            self.counting.attempted(resolved, option, status, took_s)
        status, took_s = answers[0]
        attempt.first_byte(took_s * 1000.0, None, now_s, failed=status >= 500)
        attempt.end(Ending.ABANDONED, "", now_s)
        return None
