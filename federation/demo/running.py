"""The running demo: starts everything in the right order, waits until it is warm, stops it whole.

Input: a Plan and what set-up fetched. Output: a running federation of real processes with a wide
area between routers and regions; `kill` and `restore` break and mend it. Everything goes through
what any user has: processes and their flags, files, the operator API.
"""

import asyncio
import contextlib
import random
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import aiohttp

from federation.contract.errors import Invalid, Unavailable
from federation.contract.names import did_you_mean
from federation.contract.types import Connectivity, EngineKind
from federation.demo import launch
from federation.demo.launch import CONTROL_PLANE, Layout
from federation.demo.models import build_packages
from federation.demo.operator_api import Json, OperatorApi
from federation.demo.plan import MODELS, Plan, Pop, Site
from federation.demo.processes import Processes
from federation.demo.screen import Screen
from federation.demo.shared_memory import sweep
from federation.demo.triton_install import TritonInstallation
from federation.demo.wan import Delay, Lane
from federation.runtime.files import write_atomic

_POLL_S = 0.2
_CRASHES = 3  # at start-up: after so many exits a process is given up


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each step of the start may take."""

    process_s: float = 60.0
    warm_s: float = 240.0


class Demo:
    """One running demo."""

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        screen: Screen,
        *,
        triton: TritonInstallation | None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.plan = plan
        self.layout = layout
        self.screen = screen
        self.processes = Processes(layout.root)
        self.api = OperatorApi(
            plan.control_plane_url, ca_file=layout.ca_file, token_file=layout.admin_token
        )
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self.lanes: dict[tuple[str, str], Lane] = {}
        self.inference_key = ""
        self._triton = triton
        self._deadlines = deadlines or Deadlines()
        self._keep_files = False

    def __repr__(self) -> str:
        return f"Demo({len(self.plan.sites)} sites, {self.layout.root})"

    # ------------------------------------------------------------ up

    async def up(self) -> None:
        """Start everything and return when every model is warm everywhere.

        Raises FederationError; the files of a start that failed are kept.
        """
        try:
            await self._up()
        except Exception as error:
            self._keep_files = True
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            raise error from None

    async def _up(self) -> None:
        await self.processes.guard()
        await self.open_lanes()
        self._start_engines()
        async with asyncio.TaskGroup() as tasks:
            packages = tasks.create_task(self._build_packages())
            await self._start_control_plane()
            await self._register()
            for pop in self.plan.pops:
                lanes = {site: lane.port for (p, site), lane in self.lanes.items() if p == pop.name}
                self.processes.start(launch.router(self.plan, self.layout, pop, lanes))
                tasks.create_task(self._await_router(pop))
            for site in self.plan.sites:
                lanes = {p: lane.port for (p, s), lane in self.lanes.items() if s == site.name}
                self.processes.start(launch.agent(self.plan, self.layout, site, lanes))
            await self._deploy(await packages)
            tasks.create_task(self._await_warm())
        await self._await_routes()

    async def open_lanes(self) -> None:
        """Open the wide area: one lane between each router and each region."""
        for spec in self.plan.lanes:
            site, pop = self._site(spec.site), self.plan.pop(spec.pop)
            name, port = f"{spec.pop} to {spec.site}", site.agent_port
            if site.connectivity is Connectivity.REVERSE and pop is not None:
                name, port = f"{spec.site} to {spec.pop}", pop.reverse_port
            dice = random.Random(name)  # noqa: S311 - jitter
            lane = Lane(name, ("127.0.0.1", port), Delay(spec.rtt_ms), dice)
            await lane.start()
            self.lanes[spec.pop, spec.site] = lane

    def _start_engines(self) -> None:
        for site in self.plan.sites:
            write_atomic(self.layout.site(site) / "inventory.json", launch.inventory(site))
            if site.engine is EngineKind.RAY_SERVE:
                token = token_hex(16)
                write_atomic(self.layout.ray_token(site), token.encode(), mode=0o600)
                self.processes.start(launch.ray_cluster(self.layout, site, token).command())
            elif self._triton is not None:
                self.layout.triton_repository(site).mkdir(parents=True, exist_ok=True)
                self.processes.start(launch.triton(self.layout, site, self._triton))

    async def _build_packages(self) -> list[tuple[str, int, Path]]:
        return await asyncio.to_thread(build_packages, None, self.layout.root / "packages")

    async def _start_control_plane(self) -> None:
        self.processes.start(launch.control_plane(self.plan, self.layout))
        await self._until(self.api.ready, "the control plane", CONTROL_PLANE)
        self.screen.step("control plane", f"{self.plan.control_plane_url}  (SQLite)")

    async def _await_router(self, pop: Pop) -> None:
        url = f"http://127.0.0.1:{pop.admin_port}/readyz"
        await self._until(lambda: self.answers(url), pop.router_name, pop.router_name)
        self.screen.step(pop.router_name, f"{pop.url}  (at {pop.cloud_region})")

    async def _register(self) -> None:
        for site in self.plan.sites:
            place = site.location
            location = {"latitude": place.latitude, "longitude": place.longitude}
            await self.api.put("Region", "regions", site.name, {"location": location})
            spec = {
                "region": site.name,
                "labels": {"demo": "true"},
                "allow_code": True,
                "connectivity": site.connectivity.value,
            }
            token = await self.api.register("clusters", site.name, spec)
            write_atomic(self.layout.join_token(site), token.encode(), mode=0o600)
        for pop in self.plan.pops:
            token = await self.api.register("routers", pop.router_name, {})
            write_atomic(self.layout.router_join_token(pop), token.encode(), mode=0o600)
        await self.api.put("Tenant", "tenants", "demo", {})
        key = await self.api.create_key("demo", "demo")
        write_atomic(self.layout.inference_key, key.encode(), mode=0o600)
        self.inference_key = key
        self.screen.step("regions", f"{len(self.plan.sites)} registered, one cluster in each")

    async def _deploy(self, packages: Sequence[tuple[str, int, Path]]) -> None:
        for model, version, directory in packages:
            await self.api.push(directory, f"demo:{model}-{version}")
        self.screen.step("models", "pushed: " + ", ".join(f"{m} v{v}" for m, v, _ in packages))
        for model in MODELS:
            spec = {"model": model, "version": 2, "pinned_versions": [1]}
            await self.api.put("Deployment", "deployments", model, spec)

    async def _await_warm(self) -> None:
        waiting = {site.name: site for site in self.plan.sites}

        async def all_warm() -> bool:
            for document in await self.api.items("clusters"):
                name, status = document["metadata"]["name"], document["status"]
                models = status["models"]
                if name in waiting and status["ready"] and models["warm"] == self.wanted_versions:
                    site = waiting.pop(name)
                    detail = f"{self.wanted_versions} model versions warm on {_title(site)}"
                    self.screen.step(name, detail)
            return not waiting

        async def told() -> str:
            documents = await self.api.items("clusters")
            lines = [f"{d['metadata']['name']}: {_why(d['status'])}" for d in documents]
            return "; ".join(line for line in lines if line.split(":")[0] in waiting)

        names = [name for s in self.plan.sites for name in (s.engine_name, s.agent_name)]
        try:
            await self._until(all_warm, "the models", *names, limit_s=self._deadlines.warm_s)
        except Unavailable as error:
            raise Unavailable(f"{error.message} {await told()}", hint=error.hint) from None

    @property
    def wanted_versions(self) -> int:
        """Return how many model versions each cluster shall hold."""
        return 2 * len(MODELS)

    async def _await_routes(self) -> None:
        """Wait until both routers measured every region and answer for every model."""

        async def routed() -> bool:
            models = [f"{p.url}/v2/models/{m}/ready" for p in self.plan.pops for m in MODELS]
            known = await self.rtt_ms()
            wanted = len(self.plan.pops) * len(self.plan.sites)
            return len(known) == wanted and all([await self.answers(url) for url in models])

        names = [pop.router_name for pop in self.plan.pops]
        await self._until(routed, "the routers' view of all regions", *names)

    async def rtt_ms(self) -> dict[tuple[str, str], float]:
        """Return the round trips that the routers measured, by (router, cluster)."""
        measured = {}
        for document in await self.api.items("clusters"):
            for router, value in (document["status"].get("rtt_ms") or {}).items():
                measured[router, document["metadata"]["name"]] = float(value)
        return measured

    async def answers(self, url: str) -> bool:
        """Return whether GET `url` is answered with 200."""
        try:
            async with self.http.get(url, headers=self.authorization()) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def authorization(self) -> dict[str, str]:
        """Return the header that opens the routers, once there is a key."""
        return {"authorization": f"Bearer {self.inference_key}"} if self.inference_key else {}

    async def _until(
        self,
        done: Callable[[], Awaitable[bool]],
        what: str,
        *names: str,
        limit_s: float | None = None,
    ) -> None:
        """Poll until done; raises Unavailable, with the end of a log, when a process gives up."""
        limit_s = limit_s or self._deadlines.process_s
        end_s = self.screen.elapsed_s() + limit_s
        while not await done():
            for name in names:
                keeper = self.processes[name]
                if keeper.failure or len(keeper.exits) >= _CRASHES:
                    told = keeper.failure or self.processes.tail(name)
                    hint = f"The whole log: {self.processes.log_of(name)}"
                    raise Unavailable(f"{name} does not stay up: {told}", hint=hint)
            if self.screen.elapsed_s() > end_s:
                hint = f"The logs are in {self.layout.root / 'logs'}"
                raise Unavailable(f"waited {limit_s:.0f} s for {what}.", hint=hint)
            await asyncio.sleep(_POLL_S)

    # ------------------------------------------------------------ break and mend

    def _site(self, name: str) -> Site:
        site = self.plan.site(name)
        if site is None:
            hint = did_you_mean(name, (site.name for site in self.plan.sites))
            raise Invalid(f"the demo has no region {name!r}.", hint=hint)
        return site

    def _lanes_to(self, target: str) -> list[Lane]:
        self._site(target)
        return [lane for (_, site), lane in self.lanes.items() if site == target]

    async def cut(self, target: str) -> tuple[str, ...]:
        """Cut the wide area between all routers and a region."""
        lanes = self._lanes_to(target)
        await asyncio.gather(*(lane.cut() for lane in lanes))
        return tuple(lane.name for lane in lanes)

    async def heal(self, target: str) -> tuple[str, ...]:
        """Join a region to the wide area again."""
        lanes = self._lanes_to(target)
        await asyncio.gather(*(lane.start() for lane in lanes))
        return tuple(lane.name for lane in lanes)

    def lane_report(self) -> list[Json]:
        """Return each lane as a row of words."""
        return [
            {"lane": lane.name, "up": lane.up, "rtt_ms": lane.delay.rtt_ms}
            for lane in self.lanes.values()
        ]

    def members(self, target: str) -> tuple[str, ...]:
        """Return the names of the processes behind a target; raises Invalid with near misses."""
        if target not in self.plan.targets():
            hint = did_you_mean(target, self.plan.targets())
            raise Invalid(f"the demo has no {target!r}.", hint=hint)
        site = self.plan.site(target)
        return (site.engine_name, site.agent_name) if site else (target,)

    def _started(self, target: str) -> tuple[str, ...]:
        names = self.members(target)
        for name in names:
            if name not in self.processes:
                raise Invalid(f"{name} is not started yet.", hint="Try again in a moment.")
        return names

    async def kill(self, target: str) -> tuple[str, ...]:
        """`kill -9` what is behind a target; it stays down until it is restored."""
        names = self._started(target)
        await asyncio.gather(*(self.processes[name].kill(hold=True) for name in names))
        return names

    def restore(self, target: str) -> tuple[str, ...]:
        """Let what is behind a target start again."""
        names = self._started(target)
        for name in names:
            self.processes[name].release()
        return names

    # ------------------------------------------------------------ down

    async def down(self) -> None:
        """Stop everything; remove all files, unless something failed."""
        sites = {site.engine_name for site in self.plan.sites}
        with contextlib.suppress(aiohttp.ClientError):
            await self.http.close()
        await self.api.close()
        if self._keep_files:
            self.processes.tell_watchdog("keep")
        await self.processes.stop(
            [
                lambda name: name.startswith(("router-", "agent-")),
                lambda name: name in sites,
            ]
        )
        await asyncio.gather(*(lane.cut() for lane in self.lanes.values()))
        await asyncio.to_thread(sweep)
        if not self._keep_files:
            await asyncio.to_thread(shutil.rmtree, self.layout.root, ignore_errors=True)


def _title(site: Site) -> str:
    return "Ray Serve" if site.engine is EngineKind.RAY_SERVE else "Triton"


def _why(status: Json) -> str:
    """Return in words what a cluster still waits for."""
    versions = [
        f"{v['model']} v{v['version']} {v['state']} {v.get('reason', '')}".strip()
        for v in status.get("versions", [])
        if v["state"] != "warmed"
    ]
    return ", ".join([*([status["reason"]] if status.get("reason") else []), *versions]) or "ready"
