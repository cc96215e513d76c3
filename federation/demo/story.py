"""The whole story as a check: real clients, load from five continents, and `kill -9` in between.

Input: a running demo. Output: a table of checks, each with what was measured, and the exit code.
The load goes on while an engine, an agent, a region, a router and the control plane are killed,
one after the other; not one request may fail.
"""

import asyncio
import json
import os
import random
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import as_file, files
from importlib.util import find_spec

import aiohttp

from federation.contract.errors import FederationError
from federation.contract.types import EngineKind
from federation.demo.geography import Geography
from federation.demo.launch import CONTROL_PLANE
from federation.demo.load import Load, RouterAt
from federation.demo.load_stats import Outcome, Summary, summarize, within
from federation.demo.payloads import load_mix
from federation.demo.plan import Pop, Site
from federation.demo.processes import group_members, processes_that_mention
from federation.demo.running import Demo

LIMIT_MS = 1000.0  # p99 of the requests that were due just after a kill
_HEAL_S = 90.0
_STEADY_S = 2.0  # longer than the interval of reports
_KILLS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryOptions:
    """How long and how hard. The load lasts at least `seconds`, longer if healing takes longer."""

    seconds: float = 60.0
    rate: float = 50.0
    seed: int = 1


class Verdict(StrEnum):
    """What came of a check; only OK passes."""

    OK = "ok"
    SLOW = "SLOW"  # nothing was lost, but a time limit did not hold: is the machine busy?
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result."""

    name: str
    verdict: Verdict
    measured: str

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return self.verdict is Verdict.OK


class Story:
    """One run of the check."""

    def __init__(self, demo: Demo, geography: Geography, options: StoryOptions) -> None:
        self.checks: list[Check] = []
        self._demo = demo
        self._geography = geography
        self._options = options
        self._watch_s = options.seconds / (_KILLS + 2)  # how long each kill is looked at

    def __repr__(self) -> str:
        return f"Story({sum(c.passed for c in self.checks)}/{len(self.checks)} passed)"

    async def play(self) -> None:
        """Play everything; what fails is noted and does not stop the rest."""
        demo = self._demo
        ready_s = demo.screen.elapsed_s()
        sites = len(demo.plan.sites)
        self._note("all regions warm", f"{sites} of {sites} in {ready_s:.1f} s", passed=True)
        for pop in demo.plan.pops:
            for package, script, target in (
                ("tritonclient", "use_tritonclient.py", f"127.0.0.1:{pop.port}"),
                ("openai", "use_openai.py", f"{pop.url}/v1"),
            ):
                if find_spec(package) is not None:
                    await self._client(f"{package} at {pop.router_name}", script, target)
        await self._break_things()

    def _note(self, name: str, measured: str, *, passed: bool) -> None:
        self._note_verdict(name, measured, Verdict.OK if passed else Verdict.FAILED)

    def _note_verdict(self, name: str, measured: str, verdict: Verdict) -> None:
        check = Check(name, verdict, measured)
        self.checks.append(check)
        self._demo.screen.step(name, measured, ok=check.passed)

    async def _client(self, name: str, script: str, target: str) -> None:
        """Run an application of a user's as a process of its own."""
        key = self._demo.inference_key
        with as_file(files("federation.demo") / "data" / "clients" / script) as path:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(path), target),
                env={**os.environ, "FED_KEY": key, "OPENAI_API_KEY": key},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                out, err = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
        passed = process.returncode == 0
        lines = (out if passed else err).decode("utf-8", "replace").strip().splitlines()
        self._note(name, lines[-1] if lines else "nothing was printed", passed=passed)

    # ------------------------------------------------------------ load and kills

    async def _break_things(self) -> None:
        demo, options = self._demo, self._options
        routers = [RouterAt(p.router_name, p.url, p.location) for p in demo.plan.pops]
        dice = random.Random(options.seed)  # noqa: S311 - load
        mix = await asyncio.to_thread(load_mix)
        key = self._demo.inference_key
        async with Load(routers, self._geography.clients, mix, dice, key=key) as load:
            going = True
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run(options.rate, lambda due_s: going))
                try:
                    await asyncio.sleep(self._watch_s)
                    baseline = summarize(load.outcomes)
                    self._note("undisturbed load", _told(baseline), passed=not baseline.failed)
                    await self._kills(load)
                    await asyncio.sleep(max(0.0, options.seconds - load.elapsed_s()))
                finally:
                    going = False
            self.judge(load.outcomes)

    async def _kills(self, load: Load) -> None:
        first, second, third = self._victims()
        pops = self._demo.plan.pops
        await self._kill(load, first.engine_name, lambda: self._warm(first))
        await self._kill(load, second.agent_name, lambda: self._warm(second))
        await self._kill(load, pops[-1].router_name, lambda: self._router_ready(pops[-1]))
        await self._outage(load, third, pops[0], restarted={second.name, third.name})
        await self._region(load, first)

    def _victims(self) -> tuple[Site, Site, Site]:
        """Return three sites, different ones where there are enough; engines that start fast."""
        sites = self._demo.plan.sites
        light = [site for site in sites if site.engine is EngineKind.TRITON] or list(sites)
        return light[0], light[1 % len(light)], light[2 % len(light)]

    async def _kill(self, load: Load, name: str, healed: Callable[[], Awaitable[bool]]) -> None:
        """Kill one process; it starts again by itself, as under any service manager."""
        at_s, keeper = load.elapsed_s(), self._demo.processes[name]
        starts = keeper.starts

        async def healed_again() -> bool:
            return keeper.starts > starts and await healed()

        await keeper.kill(hold=False)
        mended_s = await self._steady(healed_again)
        await self._watch(load, at_s)
        self._judge_kill(f"kill -9 {name}", load, at_s, mended_s)

    async def _region(self, load: Load, site: Site) -> None:
        at_s = load.elapsed_s()
        await self._demo.kill(site.name)
        await self._watch(load, at_s)
        self._demo.restore(site.name)
        mended_s = await self._steady(lambda: self._warm(site))
        self._judge_kill(f"kill -9 all of {site.name}", load, at_s, mended_s)

    async def _watch(self, load: Load, since_s: float) -> None:
        """Let the load go on until a kill has been looked at for long enough."""
        await asyncio.sleep(max(0.0, since_s + self._watch_s - load.elapsed_s()))

    async def _outage(self, load: Load, site: Site, pop: Pop, *, restarted: set[str]) -> None:
        """The control plane is gone; meanwhile an agent and a router start again without it."""
        demo = self._demo
        before, engines = await self.loads(), self.engine_loads()
        at_s = load.elapsed_s()
        await demo.kill(CONTROL_PLANE)
        await asyncio.sleep(self._watch_s / 2)
        for name in (site.agent_name, pop.router_name):
            await demo.processes[name].kill(hold=False)
        alone_s = await self._steady(lambda: self._serves(site, pop))
        told = f"{site.agent_name} and {pop.router_name} serve {_mended(alone_s)}"
        self._note("restart without it", told, passed=alone_s is not None)
        await self._watch(load, at_s)
        demo.restore(CONTROL_PLANE)
        mended_s = await self._steady(self._all_warm)
        self._judge_kill(f"kill -9 {CONTROL_PLANE}", load, at_s, mended_s)
        after = await self.loads()
        # A restarted agent counts from zero: its engine kept everything, so zero it stays.
        same = after == {**before, **dict.fromkeys(restarted, 0.0)}
        same = same and engines == self.engine_loads()
        told = f"loads by agent: {_counts(after)}; by engine: {_counts(engines)}"
        self._note("nothing reloaded", told, passed=same)

    def _judge_kill(self, name: str, load: Load, at_s: float, mended_s: float | None) -> None:
        outcomes = within(load.outcomes, at_s, at_s + self._watch_s)
        whole = summarize(outcomes)
        # Those that the kill has touched: they needed another replica or another router.
        touched = summarize(o for o in outcomes if o.attempts > 1 or o.sent > 1)
        late = max(whole.p99_ms, touched.p99_ms) > LIMIT_MS
        told = (
            f"{whole.requests} requests, {whole.failed} failed, p99 {whole.p99_ms:.0f} ms; "
            f"{touched.requests} affected, p99 {touched.p99_ms:.0f} ms; healed {_mended(mended_s)}"
        )
        verdict = Verdict.SLOW if late else Verdict.OK
        if whole.failed or mended_s is None:
            verdict = Verdict.FAILED
        self._note_verdict(name, told, verdict)

    def judge(self, outcomes: list[Outcome]) -> None:
        """Note what came of the whole load."""
        whole = summarize(outcomes)
        self._note("all requests", _told(whole), passed=not whole.failed and whole.requests > 0)
        for text, count in list(whole.errors.items())[:5]:
            self._demo.screen.note(f"{count} x {text}")
        regions = sorted({outcome.region for outcome in outcomes if outcome.region})
        continents = {outcome.continent for outcome in outcomes}
        told = f"clients on {len(continents)} continents; answers from {', '.join(regions)}"
        self._note("near regions answer", told, passed=len(continents) == 5 and len(regions) > 1)

    # ------------------------------------------------------------ looking

    async def _steady(self, done: Callable[[], Awaitable[bool]]) -> float | None:
        """Wait until something stays true; return when it became so, in seconds, or None.

        What the control plane tells is a second old: right after a kill it still looks well.
        """
        loop = asyncio.get_running_loop()
        started_s, since_s = loop.time(), None
        while loop.time() - started_s < _HEAL_S:
            try:
                well = await done()
            except FederationError:
                well = False  # the control plane is on its way back
            since_s = (since_s or loop.time()) if well else None
            if since_s is not None and loop.time() - since_s > _STEADY_S:
                return since_s - started_s
            await asyncio.sleep(0.1)
        return None

    async def _warm(self, *sites: Site) -> bool:
        names = {site.name for site in sites}
        documents = await self._demo.api.items("clusters")
        warm = {
            document["metadata"]["name"]
            for document in documents
            if document["status"]["ready"]
            and document["status"]["lease"]["connected"]  # else it tells what was before
            and document["status"]["models"]["warm"] == self._demo.wanted_versions
        }
        return names <= warm

    async def _all_warm(self) -> bool:
        return await self._warm(*self._demo.plan.sites)

    async def _router_ready(self, pop: Pop) -> bool:
        return await self._demo.answers(f"http://127.0.0.1:{pop.admin_port}/readyz")

    async def _serves(self, site: Site, pop: Pop) -> bool:
        """Whether an agent says that it serves, and a router answers for a model."""
        agent = f"http://127.0.0.1:{site.agent_admin_port}/readyz"
        router = f"{pop.url}/v2/models/filetype/ready"
        return await self._demo.answers(agent) and await self._demo.answers(router)

    async def loads(self) -> dict[str, float]:
        """Return how often each agent made its engine load a model, since the agent started."""
        counted = {}
        for site in self._demo.plan.sites:
            url = f"http://127.0.0.1:{site.agent_admin_port}/metrics"
            try:
                async with self._demo.http.get(url) as answer:
                    counted[site.name] = total_of(await answer.text(), "fed_agent_loads_total")
            except (aiohttp.ClientError, TimeoutError):
                counted[site.name] = -1.0  # equal to nothing that is expected
        return counted

    def engine_loads(self) -> dict[str, int]:
        """Return how often each Triton says, in its log, that it has loaded a model."""
        return {
            site.name: self._demo.processes.log(site.engine_name).count("successfully loaded")
            for site in self._demo.plan.sites
            if site.engine is EngineKind.TRITON
        }

    # ------------------------------------------------------------ the end

    async def finish(self) -> int:
        """Look at what the stopped demo left behind, print the result, return the exit code."""
        demo = self._demo
        left = {pid for group in demo.processes.groups() for pid in group_members(group)}
        left |= set(processes_that_mention(demo.layout.root))
        files_left = demo.layout.root.exists()
        told = f"{len(left)} processes, files: {'some' if files_left else 'none'}"
        self._note("nothing left behind", told, passed=not (left or files_left))
        failed = [check for check in self.checks if not check.passed]
        rows = [(c.verdict.value, c.name, c.measured) for c in self.checks]
        demo.screen.line()
        demo.screen.table(("RESULT", "CHECK", "MEASURED"), rows)
        demo.screen.line(
            f"\n  {len(self.checks) - len(failed)} of {len(self.checks)} checks passed."
        )
        return 1 if failed else 0


def total_of(page: str, metric: str) -> float:
    """Return the sum of a metric's samples on a Prometheus page."""
    found = re.findall(rf"^{metric}(?:\{{.*\}})? (\S+)", page, re.MULTILINE)
    return sum(float(value) for value in found)


def _told(summary: Summary) -> str:
    extra = [f"{summary.failed_over} failed over"] if summary.failed_over else []
    extra += [f"{summary.sent_again} sent again"] if summary.sent_again else []
    return ", ".join(
        [
            f"{summary.requests} requests, {summary.failed} failed",
            f"p50 {summary.p50_ms:.0f} ms, p99 {summary.p99_ms:.0f} ms",
            *extra,
        ]
    )


def _mended(seconds: float | None) -> str:
    return f"not within {_HEAL_S:.0f} s" if seconds is None else f"after {seconds:.1f} s"


def _counts(values: Mapping[str, float]) -> str:
    return json.dumps({name: int(value) for name, value in values.items()})
