"""Triton Inference Server in explicit mode, through its HTTP repository API.

Input: verified packages. Output: one Triton model per version, `<model>--v<version>`, in the folder
that Triton reads. What is loaded is asked of Triton itself, never remembered: after its restart the
index is empty, after ours the versions are found again by the digest in their configuration.

A server-wide "ready" is never asked: a strict server denies it during every load.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.backends import triton_inference as inference
from edge_agent.backends import triton_repository as files
from edge_agent.backends.base import (
    BackendError,
    EngineRoute,
    EngineUnreachable,
    GrpcRoute,
    LoadedVersion,
    StagedVersion,
    Verb,
    engine_name,
    parse_engine_name,
)
from edge_agent.backends.engine_http import Answer, EngineHttp, one_line
from federation.contract.types import EngineKind, EngineStatus, ModelProtocol

_POLL_S = 0.1
_UNLOAD_S = 60.0
_LIMITS_S = {"LOADING": 60.0, "UNLOADING": 3.0}  # how long these states are waited for
_FRAME = re.compile(
    r"^load failed for model '[^']*': (version \d+ is at UNAVAILABLE state: )?(Internal: )?"
)


class TritonBackend:
    """One Triton server and the repository folder that it reads."""

    kind = EngineKind.TRITON

    def __init__(
        self,
        http_url: str,
        repository: Path,
        *,
        grpc_address: str = "",
        load_timeout_s: float = 600.0,
    ) -> None:
        self._http = EngineHttp(http_url)
        self._grpc_address = grpc_address
        self._repository = repository
        self._load_timeout_s = load_timeout_s
        self._known: dict[str, LoadedVersion] = {}  # while they stay ready
        files.sweep(repository)

    def __repr__(self) -> str:
        return f"TritonBackend({self._http.url}, {self._repository})"

    async def status(self) -> EngineStatus:
        """Return how the server is; never raises."""
        try:
            live = await self._http.ask("GET", "/v2/health/live")
            about = (await self._http.ask("GET", "/v2")).json()
        except BackendError as error:
            return EngineStatus(kind=self.kind, reason=str(error))
        version = str(about.get("version", "")) if isinstance(about, dict) else ""
        reason = "" if live.status == 200 else f"/v2/health/live answered {live.status}"
        return EngineStatus(kind=self.kind, version=version, ready=not reason, reason=reason)

    async def identity(self) -> str:
        """Return "": Triton tells no start time, its empty index is the sign of a restart."""
        return ""

    async def loaded(self) -> tuple[LoadedVersion, ...]:
        """Return the versions that Triton calls ready; raises EngineUnreachable."""
        ready = {name for name, state in (await self._index()).items() if state == "READY"}
        self._known = {name: known for name, known in self._known.items() if name in ready}
        for name in sorted(ready - self._known.keys()):
            if (found := await self._look_up(name)) is not None:
                self._known[name] = found
        return tuple(self._known.values())

    async def load(self, staged: StagedVersion) -> None:
        """Write the version's files and load it; nothing is done if it is ready already."""
        name, serves = engine_name(staged.model, staged.version), None
        if await self._settled(name) == "READY":
            found = await self._look_up(name)
            if found is not None and found.digest == staged.digest:
                if found.replicas == max(staged.replicas, 1):
                    return
                serves = found  # Triton reads the new configuration and serves on meanwhile
            else:
                await self.unload(staged.model, staged.version)
        await asyncio.to_thread(files.write_model, self._repository, staged)
        self._known.pop(name, None)
        try:
            async with asyncio.timeout(self._load_timeout_s):
                answer = await self._repository_call(name, "load", self._load_timeout_s + 5)
        except TimeoutError:
            await self._put_back(staged, serves)
            limit = f"{self._load_timeout_s:g} s"
            raise BackendError(f"Triton did not load {name} within {limit}") from None
        if answer.status != 200 or await self._settled(name) != "READY":
            await (self._put_back(staged, serves) if serves else self._clean_up(name))
            raise BackendError(_load_error(answer))

    async def warm_up(self, staged: StagedVersion) -> None:
        """Answer one real inference on the package's sample; raises BackendError."""
        await inference.warm_up(self._http, staged)

    async def unload(self, model: str, version: int) -> None:
        """Unload a version, wait until Triton has let it go, and remove its files."""
        name = engine_name(model, version)
        self._known.pop(name, None)
        answer = await self._repository_call(name, "unload", _UNLOAD_S)
        if answer.status != 200 and name in await self._index():
            raise BackendError(f"Triton did not unload {name}: {_message(answer)}")
        if await self._settled(name) == "READY":
            raise BackendError(f"Triton did not unload {name}")
        await asyncio.to_thread(files.remove_model, self._repository, name)

    def route(
        self, model: str, version: int, verb: Verb, protocol: ModelProtocol
    ) -> EngineRoute | None:
        """Return where the verb lives; every text verb is a generate_stream here."""
        return inference.route(self._http.url, (model, version), verb, protocol)

    def grpc_route(self, model: str, version: int, protocol: ModelProtocol) -> GrpcRoute | None:
        """Return where a version's gRPC is, None if Triton's gRPC port is not known."""
        if not self._grpc_address:
            return None
        return GrpcRoute(address=self._grpc_address, engine_model=engine_name(model, version))

    async def close(self) -> None:
        """Close connections; the server keeps running."""
        await self._http.close()

    async def _index(self) -> dict[str, str]:
        """Return the state of each of our models that Triton knows of."""
        answer = await self._http.ask("POST", "/v2/repository/index", body={})
        if answer.status != 200:
            raise EngineUnreachable(f"Triton lists no models: {_message(answer)}")
        entries = answer.json()
        return {
            entry["name"]: str(entry.get("state", ""))
            for entry in (entries if isinstance(entries, list) else [])
            if parse_engine_name(entry["name"]) is not None
        }

    async def _settled(self, name: str) -> str:
        """Return the state of a model once it neither loads nor unloads; "" if unknown.

        After a crash of its process, a model that had a request in flight stays UNLOADING for ever;
        Triton loads it anew beside that, so UNLOADING is not waited for very long.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            state = (await self._index()).get(name, "")
            waited_s = loop.time() - started
            if waited_s > _LIMITS_S.get(state, -1.0):
                break
            await asyncio.sleep(_POLL_S)
        if state == "LOADING":
            raise BackendError(f"Triton is still loading {name} after {waited_s:.0f} s")
        return state

    async def _look_up(self, name: str) -> LoadedVersion | None:
        """Return what Triton's own configuration tells of a model; None if it just went away."""
        parsed = parse_engine_name(name)
        answer = await self._http.ask("GET", f"/v2/models/{name}/config")
        if parsed is None or answer.status != 200:
            return None
        config = answer.json()
        protocol = _parameter(config, files.PROTOCOL_KEY)
        return LoadedVersion(
            model=parsed[0],
            version=parsed[1],
            digest=_parameter(config, files.DIGEST_KEY),
            protocol=ModelProtocol.TEXT if protocol == "text" else ModelProtocol.TENSOR,
            replicas=_replicas(config),
        )

    async def _repository_call(self, name: str, verb: str, timeout_s: float) -> Answer:
        path = f"/v2/repository/models/{name}/{verb}"
        return await self._http.ask("POST", path, body={}, timeout_s=timeout_s)

    async def _put_back(self, staged: StagedVersion, serves: LoadedVersion | None) -> None:
        """Write down again how a version is loaded that could not be changed: it serves on."""
        if serves is not None:
            before = replace(staged, replicas=serves.replicas)
            await asyncio.to_thread(files.write_model, self._repository, before)

    async def _clean_up(self, name: str) -> None:
        """Make Triton forget a version that did not load, so that its files can go."""
        await self._repository_call(name, "unload", _UNLOAD_S)
        await asyncio.to_thread(files.remove_model, self._repository, name)


def _parameter(config: Mapping[str, Any], key: str) -> str:
    return str(config.get("parameters", {}).get(key, {}).get("string_value", ""))


def _replicas(config: Mapping[str, Any]) -> int:
    """Return what was asked for: a package in Triton's own format has instances of its own."""
    noted = _parameter(config, files.REPLICAS_KEY)
    if noted.isdecimal():
        return int(noted)
    return sum(int(g.get("count", 1)) for g in config.get("instance_group", [])) or 1


def _told(answer: Answer) -> str:
    try:
        document = answer.json()
    except BackendError:
        document = None
    told = document.get("error") if isinstance(document, dict) else None
    return str(told or answer.text)


def _message(answer: Answer) -> str:
    return one_line(_told(answer)) or f"status {answer.status}"


def _load_error(answer: Answer) -> str:
    """Return Triton's own reason, without the frame around it and the traceback below it."""
    if answer.status == 200:
        return "Triton answered the load but does not call the version ready"
    reason = _told(answer).split("\n\nAt:")[0]
    return one_line(_FRAME.sub("", reason)) or f"the load answered status {answer.status}"
