"""Measures once what each warm version can do on this hardware, while nobody uses the engine.

Input: the versions on the board, and whether anybody needs the engine. Output: calibrations for the
reports, remembered on disk by content, engine, device and number of replicas: a restart measures
nothing again. A measurement takes about two seconds at most; the first request that comes ends it.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent.backends.base import Backend, BackendError, StagedVersion
from edge_agent.board import Board
from edge_agent.policy.calibration import (
    Known,
    Measured,
    RampLimits,
    calibration_of,
    next_concurrency,
    recall,
    scaled,
)
from edge_agent.probe import make_probe
from federation.contract.capacity import Calibration, Capacity
from federation.contract.types import ObservedVersion, VersionState
from federation.runtime.clock import Clock
from federation.runtime.files import write_atomic

log = logging.getLogger(__name__)

LOOK_S = 0.5  # between two looks for something to measure
_WATCH_S = 0.01  # between two looks whether somebody else needs the engine
_GRACE_S = 1.5  # the last requests of a ramp may need so much longer than it
_FIRST_RETRY_S, _LAST_RETRY_S = 2.0, 600.0
_KEPT = 512  # measurements on disk; the oldest go

Subject = tuple[str, int]  # digest, replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """What a Calibrator asks the rest of the agent. `busy`: requests are in flight, or the engine
    is being changed; `staged` returns a version's package, None if it was not read yet."""

    busy: Callable[[], bool]
    staged: Callable[[str, int], StagedVersion | None]


class CalibrationFile:
    """The measurements on disk, the oldest first."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "calibrations.json"

    def __repr__(self) -> str:
        return f"CalibrationFile({self._path})"

    def read(self) -> list[Known]:
        """Return what was kept; what cannot be read is measured again."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Known])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s cannot be used: %s", self._path, error)
            return []

    def keep(self, known: list[Known]) -> None:
        """Replace what was kept. A full disk costs only a measurement after the next restart."""
        try:
            write_atomic(self._path, msgspec.json.encode(known))
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)


class Calibrator:
    """The measurements of one agent; `run` never returns."""

    def __init__(
        self,
        *,
        backend: Backend,
        board: Board,
        uses: Uses,
        file: CalibrationFile,
        clock: Clock,
        limits: RampLimits,
    ) -> None:
        self._backend = backend
        self._board = board
        self._uses = uses
        self._file = file
        self._clock = clock
        self._limits = limits
        self._known = file.read()
        self._tries: dict[Subject, tuple[int, float]] = {}  # how many, and not before which time
        self.on_news: list[Callable[[], None]] = []
        self.measured = 0
        self.interrupted = 0

    def __repr__(self) -> str:
        return f"Calibrator({len(self._known)} known, {self.measured} measured)"

    def calibration(self, seen: ObservedVersion) -> Calibration | None:
        """Return what a version can do with the replicas that it has; None = not known."""
        if seen.state is not VersionState.WARMED:
            return None
        known = recall(self._known, seen.digest, self._place(), seen.replicas)
        return scaled(known, seen.replicas) if known else None

    async def run(self) -> None:
        """Measure what is not known, one version at a time, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            if (subject := self._next()) is not None:
                await self._measure(*subject)

    def _place(self) -> tuple[str, str]:
        engine = self._board.engine
        return f"{engine.kind.value} {engine.version}".strip(), device_words(self._board.capacity)

    def _next(self) -> tuple[ObservedVersion, StagedVersion] | None:
        """Return what can be measured now."""
        known_place = self._board.knows_devices and self._board.engine.ready
        if not (self._limits.total_s and known_place) or self._uses.busy():
            return None
        now, place = self._clock.monotonic_s(), self._place()
        for seen in self._board.versions:
            staged = self._uses.staged(seen.model, seen.version)
            if seen.state is not VersionState.WARMED or staged is None:
                continue
            known = recall(self._known, seen.digest, place, seen.replicas)
            if known is not None and known.replicas == seen.replicas:
                continue
            _, not_before_s = self._tries.get(_subject(seen), (0, 0.0))
            if staged.digest == seen.digest and now >= not_before_s:
                return seen, staged
        return None

    async def _measure(self, seen: ObservedVersion, staged: StagedVersion) -> None:
        (engine, device), name = self._place(), f"{seen.model}@{seen.version}"
        found = await self._undisturbed(staged)
        if not isinstance(found, Calibration):
            last_s = _LAST_RETRY_S if found else _LAST_RETRY_S / 10
            tries = self._tries.get(_subject(seen), (0, 0.0))[0] + 1
            wait_s = min(_FIRST_RETRY_S * 2.0 ** min(tries - 1, 30), last_s)
            self._tries[_subject(seen)] = (tries, self._clock.monotonic_s() + wait_s)
            reason = found or "somebody else needs the engine"
            log.info("%s was not measured: %s; again in %.0f s", name, reason, wait_s)
            return
        self.measured += 1
        new = Known(
            digest=seen.digest,
            engine=engine,
            device=device,
            replicas=seen.replicas,
            calibration=found,
        )
        self._known = [*self._known, new][-_KEPT:]
        await asyncio.to_thread(self._file.keep, self._known)
        log.info("%s does %.3g %s/s here", name, found.per_second, found.unit)
        for hear in self.on_news:
            hear()

    async def _undisturbed(self, staged: StagedVersion) -> Calibration | str:
        """Return what was measured, or why nothing was; "" if somebody else needed the engine."""
        async with asyncio.TaskGroup() as group:
            ramp = group.create_task(self._tried(staged))
            while not ramp.done():
                if self._uses.busy():
                    ramp.cancel()
                await asyncio.wait([ramp], timeout=_WATCH_S)
        if ramp.cancelled():
            self.interrupted += 1
            return ""
        return ramp.result()

    async def _tried(self, staged: StagedVersion) -> Calibration | str:
        try:
            return await self._ramp(staged) or "it answered nothing"
        except BackendError as error:
            return str(error) or "the engine failed"
        except TimeoutError:
            return "an inference takes too long"

    async def _ramp(self, staged: StagedVersion) -> Calibration | None:
        limits, steps = self._limits, list[Measured]()
        loop = asyncio.get_running_loop()
        probe = await make_probe(self._backend, staged)
        try:
            async with asyncio.timeout(limits.total_s + _GRACE_S):
                started_s = loop.time()
                wanted = next_concurrency(steps, limits, 0.0)
                while wanted is not None:
                    steps.append(await probe.step(wanted, limits.step_s))
                    wanted = next_concurrency(steps, limits, loop.time() - started_s)
        except TimeoutError:
            if not steps:
                raise
        finally:
            await probe.close()
        return calibration_of(steps, limits, unit=probe.unit)


def device_words(capacity: Capacity) -> str:
    """Return the products of a cluster, in words: what was measured on others says nothing."""
    found = {f"{each.vendor} {each.product} {each.profile}".strip() for each in capacity.pools}
    found |= {f"{each.vendor} {each.product} {each.profile}".strip() for each in capacity.devices}
    return ", ".join(sorted(found - {""})) or "cpu"


def _subject(seen: ObservedVersion) -> Subject:
    return seen.digest, seen.replicas
