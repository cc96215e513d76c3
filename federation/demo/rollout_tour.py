"""`fed demo rollout`: a new version goes out region by region, and bad ones are found out.

Input: the note of a running demo. Output: a table of checks, each with what was measured, and the
exit code. Load from five continents goes on all the time; which version answered where is read from
the answers themselves.
"""

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from federation.contract.errors import FederationError, Unavailable
from federation.contract.types import Location
from federation.demo.control import Json
from federation.demo.geography import load_geography
from federation.demo.load import Load, RouterAt
from federation.demo.load_stats import summarize
from federation.demo.models import BITS_PER_CHARACTER, Fault, build_faulty
from federation.demo.operator_api import OperatorApi
from federation.demo.payloads import text_mix
from federation.demo.screen import Screen

MODEL = "shakespeare"
_OTHER = "filetype"
_POLL_S = 0.5
_STALE_S = 2.0  # requests that were under way when a rollout ended


@dataclass(frozen=True, slots=True, kw_only=True)
class TourOptions:
    """Which rollouts, and how hard. `bake_s` is how long each step lasts at least."""

    faults: tuple[Fault, ...] = tuple(Fault)
    rate: float = 30.0
    bake_s: float = 8.0
    limit_s: float = 300.0  # for one rollout
    seed: int = 1


async def run_tour(state: Json, options: TourOptions, screen: Screen) -> int:
    """Play all rollouts against the running demo; return the exit code."""
    api = OperatorApi(
        state["control_plane"],
        ca_file=Path(state["ca_file"]),
        token_file=Path(state["admin_token"]),
    )
    routers = [
        RouterAt(router["name"], router["url"], Location(**router["location"]))
        for router in state["routers"]
    ]
    key = await asyncio.to_thread(Path(state["inference_key"]).read_text, "ascii")
    dice = random.Random(options.seed)  # noqa: S311  # load
    clients = load_geography().clients
    async with api, Load(routers, clients, text_mix(), dice, key=key) as load:
        tour = Tour(api, load, [site["name"] for site in state["sites"]], options, screen)
        await tour.play()
    return tour.finish()


class Tour:
    """One run. `regions` are those of the demo; the first is the first wave."""

    def __init__(
        self,
        api: OperatorApi,
        load: Load,
        regions: Sequence[str],
        options: TourOptions,
        screen: Screen,
    ) -> None:
        self._api = api
        self._load = load
        self._regions = list(regions)
        self._options = options
        self._screen = screen
        self._rows: list[tuple[str, str, str]] = []

    def __repr__(self) -> str:
        return f"Tour({len(self._rows)} checks)"

    async def play(self) -> None:
        """Play everything; what fails is noted and does not stop the rest."""
        await self._signatures()
        await self._stand_at(MODEL, 1)
        async with self._loaded():
            await self._good()
            self._busiest_first()
            with tempfile.TemporaryDirectory(prefix="fed-") as folder:
                for fault in self._options.faults:
                    await self._bad(fault, Path(folder))
        for model in (MODEL, _OTHER):  # as the demo has them
            spec = {"model": model, "version": 2, "pinned_versions": [1]}
            await self._api.put("Deployment", "deployments", model, spec)
        whole = summarize(self._load.outcomes)
        for text, count in list(whole.errors.items())[:5]:
            self._screen.note(f"{count} x {text}")

    def finish(self) -> int:
        """Print the result and return the exit code."""
        self._screen.line()
        self._screen.table(("RESULT", "CHECK", "MEASURED"), self._rows)
        passed = sum(row[0] == "ok" for row in self._rows)
        self._screen.line(f"\n  {passed} of {len(self._rows)} checks passed.")
        return 0 if passed == len(self._rows) else 1

    # ------------------------------------------------------------ the rollouts

    async def _signatures(self) -> None:
        """A version with other tensors is refused, unless its owner says that clients know."""
        await self._stand_at(_OTHER, 1)
        try:
            await self._start(_OTHER, 2)
            refusal = ""
        except FederationError as error:
            refusal = error.message
        self._note("other tensors are refused", refusal or "it was not", passed=bool(refusal))
        allowed = {"allow_signature_change": True, "analysis": {"enabled": False}}
        status = await self._rolled_out(_OTHER, 2, **allowed)
        self._note("... unless allowed", _ended(status), passed=status["phase"] == "promoted")

    async def _good(self) -> None:
        status = await self._rolled_out(MODEL, 2)
        ended_s = self._load.elapsed_s()
        passed = status["phase"] == "promoted"
        self._note(f"{MODEL} 1 to 2", _ended(status), passed=passed)
        await asyncio.sleep(_STALE_S * 2)
        late = [o for o in self._load.outcomes if o.due_s > ended_s + _STALE_S and not o.error]
        versions = Counter(outcome.version for outcome in late)
        bits = " to ".join(f"{bits:.2f}" for bits in BITS_PER_CHARACTER.values())
        counts = ", ".join(f"{n} by version {name}" for name, n in sorted(versions.items()))
        told = f"answers since then: {counts or 'none'}; {bits} bits a character"
        self._note("everybody has it", told, passed=bool(late) and set(versions) == {"2"})
        whole = summarize(self._load.outcomes)
        told = f"{whole.requests} requests, {whole.failed} failed, p99 {whole.p99_ms:.0f} ms"
        self._note("under load", told, passed=not whole.failed and whole.requests > 0)

    async def _bad(self, fault: Fault, folder: Path) -> None:
        """A faulty version must be found out in the first wave, and leave no trace."""
        name = f"a version with {fault!s}" if fault is Fault.ERRORS else f"a {fault!s} version"
        names = {Fault.LOAD: "a version that cannot load", Fault.CRASH: "a version that crashes"}
        begun = len(self._load.outcomes)
        package = await asyncio.to_thread(build_faulty, folder, fault)
        version = await self._api.push(package, f"demo:{MODEL}-{fault}")
        status = await self._rolled_out(MODEL, version, analysis=self._careful())
        verdict = (status.get("verdict") or {}).get("words") or status["reason"]
        passed = status["phase"] in ("rolled-back", "failed") and bool(verdict)
        self._note(names.get(fault, name), f"{_ended(status)}: {verdict}", passed=passed)
        await asyncio.sleep(_STALE_S)
        now_s = self._load.elapsed_s()
        seen = self._load.outcomes[begun:]
        where = {o.region for o in seen if o.version == str(version)}
        told = f"answers from {', '.join(sorted(where)) or 'nowhere'}"
        self._note("... only the first wave", told, passed=where <= {self._regions[0]})
        after = [o for o in seen if o.due_s > now_s - _STALE_S and not o.error]
        versions = {outcome.version for outcome in after}
        told = f"version {', '.join(sorted(versions)) or '?'} answers"
        self._note("... and back", told, passed=versions == {"2"})

    def _careful(self) -> Json:
        """What finds a bad version out, or stops: one error in twenty takes its time."""
        return {"max_bake_s": max(120.0, 12 * self._options.bake_s), "max_p95_ratio": 2.0}

    def _busiest_first(self) -> None:
        """Begin where most requests are answered: a fault shows soonest there."""
        answers = Counter(outcome.region for outcome in self._load.outcomes)
        self._regions.sort(key=lambda region: -answers[region])

    def _strategy(self, **more: object) -> Json:
        first, *others = self._regions
        waves = [{"regions": [first]}, {"regions": others[:2]}, {"regions": ["*"]}]
        return {
            "waves": waves if len(others) > 2 else waves[::2],
            "steps": [50.0, 100.0],
            "bake_s": self._options.bake_s,
            "analysis": {
                "max_bake_s": 5 * self._options.bake_s,
                "max_p95_ratio": 2.0,  # the larger version may be slower
                "on_inconclusive": "promote",  # the demo's load is thin
            },
            **more,
        }

    # ------------------------------------------------------------ steps

    async def _stand_at(self, model: str, version: int) -> None:
        """Have a model at one version everywhere, at once."""
        await self._api.put(
            "Deployment", "deployments", model, {"model": model, "version": version}
        )

        async def done() -> bool:
            status = (await self._api.one("deployments", model))["status"]
            return bool(status["routed_version"] == version)

        await self._until(done, f"version {version} of {model}")
        self._screen.step(model, f"version {version} answers")

    async def _start(self, model: str, version: int, **more: object) -> str:
        spec = {"model": model, "version": version, "strategy": self._strategy(**more)}
        document = await self._api.start_rollout(spec)
        return str(document["metadata"]["name"])

    async def _rolled_out(self, model: str, version: int, **more: object) -> Json:
        """Start a rollout, wait until it is over and return its status."""
        name, shown = await self._start(model, version, **more), ""
        status: Json = {}

        async def over() -> bool:
            nonlocal status, shown
            status = (await self._api.one("rollouts", name))["status"]
            line = f"wave {status['wave']} of {status['of_waves']}, {status['phase']}"
            if line != shown:
                shown = line
                self._screen.step(name, f"{line}  {status['reason']}")
            return bool(status["over"])

        try:
            await self._until(over, f"the rollout {name}")
        except Unavailable as error:
            self._screen.note(error.message)
            await self._api.abort_rollout(name)
        return status

    async def _until(self, done: Callable[[], Awaitable[bool]], what: str) -> None:
        end_s = self._screen.elapsed_s() + self._options.limit_s
        while True:
            try:
                if await done():
                    return
            except Unavailable as error:
                self._screen.note(error.message)
            if self._screen.elapsed_s() > end_s:
                raise Unavailable(f"waited {self._options.limit_s:.0f} s for {what} in vain.")
            await asyncio.sleep(_POLL_S)

    @asynccontextmanager
    async def _loaded(self) -> AsyncIterator[None]:
        """Send load meanwhile."""
        going = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._load.run(self._options.rate, lambda _due_s: going))
            try:
                yield
            finally:
                going = False

    def _note(self, name: str, measured: str, *, passed: bool) -> None:
        self._rows.append(("ok" if passed else "FAILED", name, measured))
        self._screen.step(name, measured, ok=passed)


def _ended(status: Mapping[str, object]) -> str:
    return f"{status['phase']} in wave {status['wave']} of {status['of_waves']}"
