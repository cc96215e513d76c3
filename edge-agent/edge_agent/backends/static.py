"""An engine that already serves models and that someone else runs: it is only looked at.

Input: the engine's own lists: GET /v1/models (vLLM and every other OpenAI-compatible server), or
else POST /v2/repository/index (Triton), or else GET /v2/models. Output: each model as version 1 of
its name; routes that are the engine's own paths.
"""

from collections.abc import Mapping
from typing import Any

from edge_agent.backends.base import (
    BackendError,
    EngineRoute,
    EngineUnreachable,
    LoadedVersion,
    StagedVersion,
    Verb,
)
from edge_agent.backends.engine_http import EngineHttp
from federation.contract.types import EngineKind, EngineStatus, ModelProtocol
from federation.relay.paths import OPENAI_PATHS

VERSION = 1
_TENSOR_PATHS: dict[Verb, str] = {
    Verb.METADATA: "",
    Verb.READY: "/ready",
    Verb.INFER: "/infer",
    Verb.GENERATE: "/generate",
    Verb.GENERATE_STREAM: "/generate_stream",
}
_TEXT_PATHS: dict[Verb, str] = {Verb(verb.value): path for verb, path in OPENAI_PATHS.items()}


class StaticBackend:
    """The Backend protocol over a running engine; load and unload are refused."""

    kind = EngineKind.STATIC

    def __init__(self, url: str, *, token: str = "") -> None:
        self._headers = {"authorization": f"Bearer {token}"} if token else None
        self._http = EngineHttp(url, headers=self._headers, timeout_s=3.0)

    def __repr__(self) -> str:
        return f"StaticBackend({self._http.url})"

    async def status(self) -> EngineStatus:
        """Return whether the engine lists its models; never raises."""
        try:
            await self.loaded()
        except BackendError as error:
            return EngineStatus(kind=self.kind, reason=str(error))
        return EngineStatus(kind=self.kind, ready=True)

    async def identity(self) -> str:
        """Return "": what is loaded there is not this agent's business."""
        return ""

    async def loaded(self) -> tuple[LoadedVersion, ...]:
        """Return what the engine serves; raises EngineUnreachable."""
        if (names := _openai_names(await self._json("GET", "/v1/models"))) is not None:
            return _versions(names, ModelProtocol.TEXT)
        if (names := _triton_names(await self._json("POST", "/v2/repository/index"))) is not None:
            return _versions(names, ModelProtocol.TENSOR)
        if (names := _v2_names(await self._json("GET", "/v2/models"))) is not None:
            return _versions(names, ModelProtocol.TENSOR)
        raise EngineUnreachable(f"{self._http.url} lists no models, neither as OpenAI nor as V2")

    async def load(self, staged: StagedVersion) -> None:
        """Refuse: raises BackendError."""
        raise BackendError("this engine is read-only: models are loaded by whoever runs it")

    async def warm_up(self, staged: StagedVersion) -> None:
        """Refuse: raises BackendError."""
        raise BackendError("this engine is read-only: it is warmed by whoever runs it")

    async def unload(self, model: str, version: int) -> None:
        """Refuse: raises BackendError."""
        raise BackendError("this engine is read-only: models are unloaded by whoever runs it")

    def route(
        self, model: str, version: int, verb: Verb, protocol: ModelProtocol
    ) -> EngineRoute | None:
        """Return the engine's own path; text models have the OpenAI verbs, others those of V2."""
        if protocol is ModelProtocol.TEXT:
            path = _TEXT_PATHS.get(verb)
        else:
            part = _TENSOR_PATHS.get(verb)
            path = None if part is None else f"/v2/models/{model}{part}"
        if path is None:
            return None
        return EngineRoute(url=self._http.url + path, headers=self._headers)

    async def close(self) -> None:
        """Close connections; the engine keeps running."""
        await self._http.close()

    async def _json(self, method: str, path: str) -> Any:
        """Return what the engine answers; None if it has no such path."""
        body = {"ready": True} if method == "POST" else None
        answer = await self._http.ask(method, path, body=body)
        if answer.status in (401, 403):
            raise EngineUnreachable(
                f"{self._http.url}{path} answered {answer.status}: it wants a token"
            )
        if answer.status >= 500:
            raise EngineUnreachable(f"{self._http.url}{path} answered {answer.status}")
        try:
            return answer.json() if answer.status == 200 else None
        except BackendError:
            return None


def _openai_names(document: Any) -> list[str] | None:
    if isinstance(document, Mapping) and isinstance(document.get("data"), list):
        return _strings(document["data"], "id")
    return None


def _triton_names(document: Any) -> list[str] | None:
    if not isinstance(document, list):
        return None
    ready = [m for m in document if isinstance(m, Mapping) and m.get("state", "READY") == "READY"]
    return _strings(ready, "name")


def _v2_names(document: Any) -> list[str] | None:
    models = document.get("models") if isinstance(document, Mapping) else None
    if not isinstance(models, list):
        return None
    return [m for m in models if isinstance(m, str)] + _strings(models, "name")


def _strings(items: list[Any], key: str) -> list[str]:
    values = (item.get(key) for item in items if isinstance(item, Mapping))
    return [value for value in values if isinstance(value, str) and value]


def _versions(names: list[str], protocol: ModelProtocol) -> tuple[LoadedVersion, ...]:
    return tuple(
        LoadedVersion(model=name, version=VERSION, protocol=protocol) for name in sorted(set(names))
    )
