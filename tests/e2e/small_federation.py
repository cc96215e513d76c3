"""A whole federation as processes, small enough for any test: a control plane, an agent in front of
an engine that only talks, and a router. No Triton, no Ray.

Input: a directory. Output: a running federation, and `Record`, which keeps all that it says.
"""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.engines.ports import free_block
from tests.fakes.control_plane import Answer

FED = Path(sys.executable).with_name("fed")
PATIENCE_S = 60.0


@dataclass
class Record:
    """Everything that anybody could read, and where it stood."""

    said: list[tuple[str, str]] = field(default_factory=list)

    def keep(self, where: str, text: str | bytes) -> None:
        self.said.append((where, text if isinstance(text, str) else text.decode(errors="replace")))

    def places_of(self, secret: str) -> list[str]:
        return [where for where, text in self.said if secret in text]


@dataclass(frozen=True)
class SmallFederation:
    """Where its parts listen, which processes they are, and where they keep their files."""

    root: Path
    record: Record
    ports: Mapping[str, int]
    processes: dict[str, subprocess.Popen[bytes]]
    heads: list[dict[str, str]]  # what the engine was sent

    @property
    def state(self) -> Path:
        return self.root / "control-plane"

    @property
    def api(self) -> str:
        return f"https://127.0.0.1:{self.ports['http']}"

    @property
    def router(self) -> str:
        return f"http://127.0.0.1:{self.ports['router']}"

    async def fed(self, *words: str, kept: bool = True, config: str = "fed.yaml") -> str:
        """Run `fed`; returns all that it wrote, which is kept unless it shows a secret once."""
        environ = {**os.environ, "FED_CONFIG": str(self.root / config), "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(
            FED,
            *words,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
        if kept:
            self.record.keep(f"fed {' '.join(words)}", out)
        return out.decode()

    async def call(
        self, session: aiohttp.ClientSession, method: str, url: str, **more: Any
    ) -> Answer:
        """Make a call and keep its answer, headers included."""
        async with asyncio.timeout(PATIENCE_S), session.request(method, url, **more) as response:
            answer = Answer(response.status, await response.read(), response.headers)
        where = f"{method} {url.partition('?')[0]} {answer.status}"
        self.record.keep(where, f"{dict(answer.headers)}".encode() + answer.body)
        return answer

    def start(self, name: str, module: str, flags: Mapping[str, object]) -> None:
        """Start a role at its most talkative; what it writes goes to `<name>.log`. A flag whose
        value is a tuple is given once for each."""
        argv = [sys.executable, "-m", module]
        for flag, value in flags.items():
            each = value if isinstance(value, tuple) else (value,)
            argv += [f"--{flag}={one}" for one in each]
        self._spawn(name, [*argv, "--log-level=debug"])

    def _spawn(self, name: str, argv: list[str]) -> None:
        with (self.root / f"{name}.log").open("ab") as out:
            self.processes[name] = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)

    async def restart(self, name: str) -> None:
        """End a process as an operator does, and start it again."""
        process = self.processes[name]
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
        assert isinstance(process.args, list)
        self._spawn(name, process.args)

    async def until(self, name: str, session: aiohttp.ClientSession, url: str, **more: Any) -> None:
        """Wait until `url` is answered with 200."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                told = (self.root / f"{name}.log").read_text()
                assert self.processes[name].poll() is None, told
                try:
                    async with session.get(url, **more) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        """End all processes as an operator does, and keep their logs."""
        for process in self.processes.values():
            process.terminate()
        for name, process in self.processes.items():
            try:
                process.wait(20)
            finally:
                process.kill()
                process.wait()
                self.record.keep(f"log of {name}", (self.root / f"{name}.log").read_bytes())


@asynccontextmanager
async def small_federation(
    root: Path, engine_token: str, heads: list[dict[str, str]] | None = None
) -> AsyncIterator[SmallFederation]:
    """Start the engine and a control plane; agent and router are started by `join`.

    `heads` takes what the engine is sent.
    """
    names = ("http", "grpc", "router", "router-admin", "reverse", "gateway", "agent-admin")
    heads = [] if heads is None else heads
    async with (
        talking_engine(engine_token, heads) as engine,
        federation_of(root, names, heads, engine=engine) as made,
    ):
        yield made


@asynccontextmanager
async def federation_of(
    root: Path,
    names: Sequence[str],
    heads: list[dict[str, str]] | None = None,
    **known: int,
) -> AsyncIterator[SmallFederation]:
    """Start a control plane. `names` get free ports beside the `known` ones; "http" and "grpc" are
    its own."""
    ports = dict(zip(names, itertools.count(free_block(len(names))))) | known
    made = SmallFederation(root, Record(), ports, {}, [] if heads is None else heads)
    async with AsyncExitStack() as stack:
        stack.callback(made.stop)
        flags = {"http-listen": _at(ports["http"]), "grpc-listen": _at(ports["grpc"])}
        made.start("control-plane", "federation", {"state-dir": made.state, **flags})
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await made.until("control-plane", session, f"{made.api}/readyz", ssl=False)
        yield made


async def join(
    made: SmallFederation,
    pin: str,
    session: aiohttp.ClientSession,
    engine: Mapping[str, object] | None = None,
) -> None:
    """Start agent and router with the tokens in `agent.token` and `router.token`.

    `engine` are the agent's flags for another engine than the one that only talks.
    """
    ports = made.ports
    shared = {
        "control-plane": _at(ports["grpc"]),
        "control-plane-url": made.api,
        "ca-pin": pin,
    }
    made.start(
        "agent",
        "edge_agent",
        {
            **shared,
            "cluster": "c1",
            "state-dir": made.root / "agent",
            "join-token-file": made.root / "agent.token",
            "listen": _at(ports["gateway"]),
            "advertise-url": f"https://{_at(ports['gateway'])}",
            "admin-listen": _at(ports["agent-admin"]),
            **(
                engine
                or {
                    "engine": "static",
                    "engine-url": f"http://{_at(ports['engine'])}",
                    "engine-token-file": made.root / "engine.token",
                }
            ),
        },
    )
    made.start(
        "router",
        "router",
        {
            **shared,
            "name": "r1",
            "state-dir": made.root / "router",
            "join-token-file": made.root / "router.token",
            "listen": _at(ports["router"]),
            "advertise-url": made.router,
            "admin-listen": _at(ports["router-admin"]),
            "reverse-listen": _at(ports["reverse"]),
        },
    )
    await made.until("agent", session, f"http://{_at(ports['agent-admin'])}/readyz")
    await made.until("router", session, f"http://{_at(ports['router-admin'])}/readyz")


def _at(port: int) -> str:
    return f"127.0.0.1:{port}"


@asynccontextmanager
async def talking_engine(token: str, heads: list[dict[str, str]]) -> AsyncIterator[int]:
    """An OpenAI-compatible engine that wants `token`; "fail" makes it fail. Yields its port."""

    async def answer(request: web.Request) -> web.Response:
        heads.append({name.lower(): value for name, value in request.headers.items()})
        if request.headers.get("Authorization") != f"Bearer {token}":
            return web.json_response({"error": {"message": "who are you?"}}, status=401)
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "echo"}]})
        asked = await request.json()
        if "fail" in str(asked):
            return web.json_response({"error": {"message": "it broke"}}, status=500)
        said = {"role": "assistant", "content": "hello"}
        return web.json_response({"choices": [{"index": 0, "message": said}]})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def chat(words: str, model: str = "echo") -> dict[str, object]:
    """Return the body of a chat completion."""
    return {"model": model, "messages": [{"role": "user", "content": words}]}


def seen_from_outside(processes: Sequence[subprocess.Popen[bytes]]) -> str:
    """What other users of the machine see of processes, and what their own user sees."""
    files = [f"/proc/{each.pid}/{file}" for each in processes for file in ("cmdline", "environ")]
    return "\n".join(Path(file).read_text(errors="replace") for file in files)
