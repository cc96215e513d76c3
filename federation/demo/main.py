"""From options to a running demo and back: `fed demo`, from the first line to the last.

Input: Options. Output: a federation that runs until Ctrl-C, `fed demo down` or the end of the
check; the exit code. Other terminals reach it through the note that `control` keeps.
"""

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from federation.contract.errors import Invalid
from federation.contract.types import EngineKind
from federation.demo import control
from federation.demo.control import Json
from federation.demo.geography import load_geography
from federation.demo.launch import Layout
from federation.demo.plan import default_engines, make_plan, parse_engines
from federation.demo.ports import PortTaker
from federation.demo.running import Demo
from federation.demo.screen import Screen
from federation.demo.story import Story, StoryOptions
from federation.demo.summary import show
from federation.demo.triton_install import TritonInstallation, TritonUnavailable, ensure_triton
from federation.runtime.files import write_atomic
from federation.runtime.supervise import stop_on_signals

INTERRUPTED = 130
# Unix socket names are limited to about 100 bytes, and Ray adds 60 of its own.
_SHORT = Path("/tmp")  # noqa: S108 - a fresh directory of mode 0700 is made below it


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user may choose. `check` = None runs until it is stopped."""

    name: str = "demo"
    engines: str = ""
    check: StoryOptions | None = None


async def run(options: Options, screen: Screen) -> int:
    """Run the demo and return the exit code; raises FederationError when it cannot start."""
    control.refuse_second(options.name)
    with stop_on_signals() as stop:
        triton, engines = await asyncio.to_thread(_engines, options, screen)
        if stop.is_set():
            return INTERRUPTED
        geography, ports = load_geography(), PortTaker()
        plan = make_plan(engines, geography, ports)
        if options.check and len(plan.sites) < 2:
            raise Invalid("--check needs two regions: one that fails, one that takes over.")
        for text in ports.notes:
            screen.note(text)
        layout = Layout(_new_directory())
        demo = Demo(plan, layout, screen, triton=triton)
        story = Story(demo, geography, options.check) if options.check else None
        note = control.state_path(options.name)
        try:
            server = await control.serve(demo.layout.socket, _Commands(demo, stop).handle)
            async with server:
                control.write_state(note, describe(demo))
                done = await unless(stop, _play(demo, story))
                if done and story is None:
                    await stop.wait()
        finally:
            note.unlink(missing_ok=True)
            screen.line("\n  stopping ...")
            await demo.down()
    if story is None:
        return 0 if done else INTERRUPTED
    return await story.finish() if done else INTERRUPTED


async def _play(demo: Demo, story: Story | None) -> None:
    await demo.up()
    write_atomic(demo.layout.fed_config, yaml.safe_dump(fed_config(demo)).encode(), mode=0o600)
    await show(demo, what_next=story is None)
    if story is not None:
        await story.play()


async def unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do `work` unless `stop` is set before it ends; return whether it was done."""
    loop = asyncio.get_running_loop()
    doing, stopping = loop.create_task(work), loop.create_task(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
        return doing.done()
    finally:
        doing.cancel()
        stopping.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)


def _engines(
    options: Options, screen: Screen
) -> tuple[TritonInstallation | None, dict[EngineKind, int]]:
    """Return what the engines need and how many of each; fetches Triton the first time."""
    wished = parse_engines(options.engines) if options.engines else None
    triton = None
    if wished is None or wished.get(EngineKind.TRITON):
        try:
            triton = ensure_triton(say=screen.note)
        except TritonUnavailable as error:
            if wished is not None:
                raise Invalid(error.message, hint="Use --engines ray=2.") from None
            screen.note(f"{error.sentence()} Fewer regions, all on Ray Serve.")
    return triton, wished or default_engines(triton_available=triton is not None)


def _new_directory() -> Path:
    base = _SHORT if _SHORT.is_dir() else None
    return Path(tempfile.mkdtemp(prefix="fed-", dir=base))


def fed_config(demo: Demo) -> Json:
    """Return a configuration of `fed` with the demo as its current context."""
    context = {
        "endpoint": demo.plan.control_plane_url,
        "token_file": str(demo.layout.admin_token),
        "ca_file": str(demo.layout.ca_file),
    }
    return {"current_context": "demo", "contexts": {"demo": context}}


def describe(demo: Demo) -> Json:
    """Return what other terminals need to know of the demo."""
    return {
        "pid": os.getpid(),
        "socket": str(demo.layout.socket),
        "directory": str(demo.layout.root),
        "fed_config": str(demo.layout.fed_config),
        "inference_key": str(demo.layout.inference_key),
        "ca_file": str(demo.layout.ca_file),
        "admin_token": str(demo.layout.admin_token),
        "control_plane": demo.plan.control_plane_url,
        "routers": [
            {"name": pop.router_name, "url": pop.url, "location": asdict(pop.location)}
            for pop in demo.plan.pops
        ],
        "sites": [
            {
                "name": site.name,
                "engine": site.engine.value,
                "connectivity": site.connectivity.value,
                "gateway": f"https://127.0.0.1:{site.agent_port}" if site.agent_port else "",
                "admin": f"http://127.0.0.1:{site.agent_admin_port}",
            }
            for site in demo.plan.sites
        ],
    }


class _Commands:
    """What other terminals may ask for."""

    def __init__(self, demo: Demo, stop: asyncio.Event) -> None:
        self._demo = demo
        self._stop = stop

    async def handle(self, verb: str, target: str) -> Json:
        """Do what was asked; raises Invalid."""
        demo = self._demo
        match verb:
            case "down":
                self._stop.set()
                return {"done": []}
            case "status":
                return {"processes": demo.processes.report(), "lanes": demo.lane_report()}
            case "kill":
                return {"done": await demo.kill(target)}
            case "restore":
                return {"done": demo.restore(target)}
            case "cut":
                return {"done": await demo.cut(target)}
            case "heal":
                return {"done": await demo.heal(target)}
            case _:
                raise Invalid(f"the demo cannot {verb!r}.")
