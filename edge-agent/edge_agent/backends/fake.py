"""An in-memory engine with a real HTTP server, and the backend that drives it, for tests.

Input: the same calls as every engine, and the fault switches of `FakeEngine`. Output: real answers
on a real socket: tensors come back as they were sent, text models stream the words of the prompt.
"""

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

import aiohttp
from aiohttp import web

from edge_agent.backends.base import (
    OTHERS_ONLY,
    BackendError,
    EngineRoute,
    EngineUnreachable,
    LoadedVersion,
    StagedVersion,
    Verb,
    engine_name,
)
from federation.contract.types import EngineKind, EngineStatus, ModelProtocol

Key = tuple[str, int]
_TEXT_VERBS = {Verb.GENERATE, Verb.GENERATE_STREAM, Verb.COMPLETIONS, Verb.CHAT}
_PATHS = (  # its own, Triton's, Ray Serve's
    "/v2/models/{name}",
    "/v2/models/{name}/versions/{number}",
    "/{name}/v2/models/{model}/versions/{number}",
)
_HEADER_LENGTH = "Inference-Header-Content-Length"


class FakeEngine:
    """A serving engine whose models echo; its public attributes from `fail_load` on are faults.

    `loads` and `unloads` count what happened since the engine was made, restarts included.
    """

    def __init__(self) -> None:
        self.url = ""
        self.loads: Counter[Key] = Counter()
        self.unloads: Counter[Key] = Counter()
        self.requests: Counter[str] = Counter()
        self.abandoned = 0  # streams whose client went away before the end
        self.fail_load: dict[Key, str] = {}  # a load of these is refused, with this reason
        self.crashed: set[Key] = set()  # listed as loaded, but every inference answers 500
        self.load_s = 0.0  # how long a load takes
        self.infer_s = 0.0  # how long an inference, or one token of a stream, takes
        self._awake = asyncio.Event()
        self._awake.set()
        self._starts = 0
        self._models: dict[Key, LoadedVersion] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0

    def __repr__(self) -> str:
        state = "up" if self.running else "down"
        return f"FakeEngine({self.url or 'never started'}, {state}, {sorted(self._models)})"

    @property
    def running(self) -> bool:
        """Whether its socket is open."""
        return self._runner is not None

    @property
    def models(self) -> dict[Key, LoadedVersion]:
        """What is loaded now."""
        return dict(self._models)

    @property
    def identity(self) -> str:
        """A value that changes with every start."""
        return f"start-{self._starts}"

    def hang(self) -> None:
        """Accept connections and answer nothing, until resume(): a frozen engine."""
        self._awake.clear()

    def resume(self) -> None:
        """End hang()."""
        self._awake.set()

    async def start(self) -> None:
        """Listen on the loopback, with nothing loaded; a second start takes the same port."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/v2/health/{what:live|ready}", self._health)
        for path in _PATHS:
            app.router.add_get(path, self._metadata)
            app.router.add_get(f"{path}/ready", self._ready)
            app.router.add_post(f"{path}/infer", self._infer)
            app.router.add_post(f"{path}/generate", self._generate)
            app.router.add_post(f"{path}/generate_stream", self._generate_stream)
        app.router.add_post("/{name}/v1/completions", self._completions)
        app.router.add_post("/{name}/v1/chat/completions", self._completions)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._starts += 1

    async def stop(self) -> None:
        """Close the socket and forget all models, as a crash would."""
        self._models.clear()
        self.crashed.clear()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    # ------------------------------------------------------------ control, called by FakeBackend

    async def load(self, loaded: LoadedVersion) -> None:
        """Load one version; loading it again heals it. Raises BackendError as the switches say."""
        key = (loaded.model, loaded.version)
        await self._reach()
        await asyncio.sleep(self.load_s)
        if reason := self.fail_load.get(key):
            raise BackendError(reason)
        self.loads[key] += 1
        if key not in self._models:
            self.crashed.discard(key)  # as Triton: a plain load does not heal, unload + load does
        self._models[key] = loaded

    async def unload(self, key: Key) -> None:
        """Forget one version."""
        await self._reach()
        self.unloads[key] += 1
        self._models.pop(key, None)

    async def list_loaded(self) -> tuple[LoadedVersion, ...]:
        """Return what is loaded."""
        await self._reach()
        return tuple(self._models.values())

    async def _reach(self) -> None:
        await self._awake.wait()
        if not self.running:
            raise EngineUnreachable("the engine does not answer")

    # ------------------------------------------------------------ data plane

    def _find(self, request: web.Request) -> tuple[LoadedVersion | None, web.Response | None]:
        name = request.match_info["name"]
        self.requests[name] += 1
        for key, loaded in self._models.items():
            if engine_name(*key) == name:
                if key in self.crashed:
                    return None, _error(500, f"the worker of {name!r} is not healthy")
                return loaded, None
        return None, _error(404, f"unknown model {name!r}")

    async def _wait(self) -> None:
        await self._awake.wait()
        await asyncio.sleep(self.infer_s)

    async def _health(self, request: web.Request) -> web.Response:
        await self._awake.wait()
        return web.Response()

    async def _ready(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]  # as Triton: a crashed worker does not show here
        known = any(engine_name(*key) == name for key in self._models)
        return web.Response() if known else _error(400, f"model {name!r} is not ready")

    async def _metadata(self, request: web.Request) -> web.Response:
        loaded, refusal = self._find(request)
        if loaded is None:
            return refusal or web.Response(status=500)
        name = request.match_info["name"]
        return web.json_response({"name": name, "versions": ["1"], "platform": "fake"})

    async def _infer(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self._wait()
        loaded, refusal = self._find(request)
        if loaded is None:
            return refusal or web.Response(status=500)
        length = int(request.headers.get(_HEADER_LENGTH, len(body)))
        try:
            wanted = json.loads(body[:length])
            answer = {
                "model_name": request.match_info["name"],
                "model_version": "1",
                "outputs": wanted["inputs"],
            } | ({"id": wanted["id"]} if "id" in wanted else {})
        except (ValueError, KeyError, TypeError) as error:
            return _error(400, f"malformed request: {error}")
        head = json.dumps(answer).encode()
        tail = body[length:]
        if not tail:
            return web.Response(body=head, content_type="application/json")
        headers = {_HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
        return web.Response(body=head + tail, headers=headers)

    async def _generate(self, request: web.Request) -> web.Response:
        document = await request.json()
        await self._wait()
        loaded, refusal = self._find(request)
        if loaded is None:
            return refusal or web.Response(status=500)
        return web.json_response(
            _generated(request.match_info["name"], str(document.get("text_input", "")))
        )

    async def _generate_stream(self, request: web.Request) -> web.StreamResponse:
        document = await request.json()
        loaded, refusal = self._find(request)
        if loaded is None:
            return refusal or web.Response(status=500)
        name = request.match_info["name"]
        words = str(document.get("text_input", "")).split()
        return await self._stream(request, [_generated(name, word) for word in words], done=False)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        document = await request.json()
        loaded, refusal = self._find(request)
        if loaded is None:
            return refusal or web.Response(status=500)
        chat = "messages" in document
        text = document["messages"][-1]["content"] if chat else document.get("prompt", "")
        name = request.match_info["name"]
        if not document.get("stream"):
            await self._wait()
            return web.json_response(_completion(name, text, chat=chat, chunk=False))
        chunks = [_completion(name, word, chat=chat, chunk=True) for word in text.split()]
        return await self._stream(request, chunks, done=True)

    async def _stream(
        self, request: web.Request, events: list[dict[str, Any]], *, done: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for event in events:
                await self._wait()
                await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            if done:
                await response.write(b"data: [DONE]\n\n")
        except (asyncio.CancelledError, ConnectionError):
            self.abandoned += 1
            raise
        return response


class FakeBackend:
    """The Backend protocol over a FakeEngine: control in memory, warm-up over its socket."""

    kind = EngineKind.TRITON

    def __init__(self, engine: FakeEngine, *, kind: EngineKind = EngineKind.TRITON) -> None:
        self.engine = engine
        self.kind = kind
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"FakeBackend({self.engine!r})"

    async def status(self) -> EngineStatus:
        """Return how the engine is; never raises."""
        with contextlib.suppress(EngineUnreachable):
            await self.engine.list_loaded()
            return EngineStatus(kind=self.kind, version="fake", ready=True)
        return EngineStatus(kind=self.kind, ready=False, reason="the engine does not answer")

    async def identity(self) -> str:
        """Return a value that changes with every start of the engine."""
        return self.engine.identity

    async def loaded(self) -> tuple[LoadedVersion, ...]:
        """Return what the engine has loaded; raises EngineUnreachable."""
        return await self.engine.list_loaded()

    async def load(self, staged: StagedVersion) -> None:
        """Load a version; raises BackendError."""
        loaded = LoadedVersion(
            model=staged.model,
            version=staged.version,
            digest=staged.digest,
            protocol=staged.package.protocol,
            replicas=staged.replicas,
        )
        await self.engine.load(loaded)

    async def warm_up(self, staged: StagedVersion) -> None:
        """Send one real request to the engine's socket; raises BackendError."""
        verb, body = Verb.INFER, json.dumps({"inputs": []})
        if staged.package.protocol is ModelProtocol.TEXT:
            verb, body = Verb.GENERATE, json.dumps({"text_input": "warm"})
        route = self.route(staged.model, staged.version, verb, staged.package.protocol)
        assert route is not None  # noqa: S101  # both verbs always have a route here
        session = self._session = self._session or aiohttp.ClientSession()
        try:
            async with session.post(route.url, data=body) as response:
                text = await response.text()
        except aiohttp.ClientError as error:
            raise EngineUnreachable(f"the engine does not answer: {error}") from None
        if response.status != 200:
            raise BackendError(f"the warm-up inference answered {response.status}: {text}")

    async def unload(self, model: str, version: int) -> None:
        """Unload a version; no error if it was not loaded."""
        await self.engine.unload((model, version))

    def route(
        self, model: str, version: int, verb: Verb, protocol: ModelProtocol
    ) -> EngineRoute | None:
        """Return where the verb lives; tensor models have no text verbs."""
        if verb in OTHERS_ONLY or (verb in _TEXT_VERBS and protocol is not ModelProtocol.TEXT):
            return None
        name = engine_name(model, version)
        path = {
            Verb.METADATA: f"/v2/models/{name}",
            Verb.COMPLETIONS: f"/{name}/v1/completions",
            Verb.CHAT: f"/{name}/v1/chat/completions",
        }.get(verb, f"/v2/models/{name}/{verb.value}")
        return EngineRoute(url=self.engine.url + path, engine_model=name)

    async def close(self) -> None:
        """Close the connections of the warm-up."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _generated(name: str, text: str) -> dict[str, Any]:
    return {"model_name": name, "model_version": "1", "text_output": text}


def _completion(name: str, text: str, *, chat: bool, chunk: bool) -> dict[str, Any]:
    if chat:
        part = {"delta" if chunk else "message": {"role": "assistant", "content": text}}
        kind = "chat.completion.chunk" if chunk else "chat.completion"
    else:
        part, kind = {"text": text}, "text_completion"  # type: ignore[dict-item]
    choice = {"index": 0, "finish_reason": None if chunk else "stop", **part}
    return {"id": "fake-1", "object": kind, "created": 0, "model": name, "choices": [choice]}
