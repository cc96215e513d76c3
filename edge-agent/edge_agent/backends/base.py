"""What the agent asks of a serving engine: one protocol over Triton, Ray Serve and static engines.

Input: verified package directories from the worker. Output: loaded and warmed versions, and for the
gateway the engine's own address of each inference verb. Every implementation, the fake included,
passes tests/contract/test_backend.py.

Each version is loaded under an engine-side name of its own, `<model>--v<version>`: versions may
differ in signature, and loading or losing one must never disturb another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from federation.contract.capacity import Resources
from federation.contract.package import ModelPackage
from federation.contract.types import EngineKind, EngineStatus, ModelProtocol


class Verb(StrEnum):
    """The inference verbs that pass the gateway; there are no others."""

    METADATA = "metadata"  # GET  /v2/models/{m}/versions/{v}
    READY = "ready"  # GET  /v2/models/{m}/versions/{v}/ready
    INFER = "infer"  # POST /v2/models/{m}/versions/{v}/infer
    GENERATE = "generate"  # POST /v2/models/{m}/versions/{v}/generate
    GENERATE_STREAM = "generate_stream"  # POST /v2/models/{m}/versions/{v}/generate_stream
    COMPLETIONS = "completions"  # POST /v1/completions
    CHAT = "chat"  # POST /v1/chat/completions
    EMBEDDINGS = "embeddings"  # POST /v1/embeddings
    RESPONSES = "responses"  # POST /v1/responses
    RERANK = "rerank"  # POST /v1/rerank
    SCORE = "score"  # POST /v1/score


# Engines that others run may offer these; models that the federation packages do not.
OTHERS_ONLY = frozenset({Verb.EMBEDDINGS, Verb.RESPONSES, Verb.RERANK, Verb.SCORE})


class Dialect(StrEnum):
    """What the engine speaks at a route."""

    NATIVE = "native"  # relay the bytes as they are
    TRITON_TEXT = "triton-text"  # a text model of Triton: only generate_stream exists, translate


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRoute:
    """Where a verb of one model version lives at the engine.

    `engine_model` is the name that the engine puts into answers in place of the model's name; empty
    when it already answers with the model's name.
    """

    url: str
    dialect: Dialect = Dialect.NATIVE
    engine_model: str = ""
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcRoute:
    """Where V2 gRPC of one model version is: HOST:PORT, and the engine's name of the version."""

    address: str
    engine_model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedVersion:
    """A verified package on the agent's disk, ready to be loaded."""

    model: str
    version: int
    digest: str
    directory: Path
    package: ModelPackage
    replicas: int = 1
    max_replicas: int = 0  # above 0: the engine's autoscaler decides, from `replicas` on
    needs: Resources = field(default_factory=Resources)  # what each replica was given room for

    @property
    def resources(self) -> Resources:
        """Return what a replica asks for: what it has room for, else what the package says."""
        return self.needs if self.needs != Resources() else self.package.resources


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVersion:
    """A version that the engine itself says it has loaded. `digest` is empty where unknown."""

    model: str
    version: int
    digest: str = ""
    protocol: ModelProtocol = ModelProtocol.TENSOR
    replicas: int = 1


class BackendError(Exception):
    """The engine refused or failed; the argument tells why, in one line of words."""


class EngineUnreachable(BackendError):
    """The engine did not answer at all: nothing is known about what it has loaded."""


class Backend(Protocol):
    """One serving engine."""

    kind: EngineKind

    async def status(self) -> EngineStatus:
        """Return how the engine is; never raises. `ready` False when it does not answer."""
        ...

    async def identity(self) -> str:
        """Return a value that changes when the engine restarted, or "" if it has none."""
        ...

    async def loaded(self) -> tuple[LoadedVersion, ...]:
        """Return what the engine has loaded of ours; raises EngineUnreachable."""
        ...

    async def load(self, staged: StagedVersion) -> None:
        """Load a version and return when the engine calls it ready; raises BackendError.

        One that is loaded with another number of replicas serves on while that changes, and also
        if it cannot be changed.
        """
        ...

    async def warm_up(self, staged: StagedVersion) -> None:
        """Answer one real inference on the package's sample; raises BackendError."""
        ...

    async def unload(self, model: str, version: int) -> None:
        """Unload a version and return when it is gone; no error if it was not loaded."""
        ...

    def route(
        self, model: str, version: int, verb: Verb, protocol: ModelProtocol
    ) -> EngineRoute | None:
        """Return where the verb lives at the engine, or None if this engine has no such verb."""
        ...

    async def close(self) -> None:
        """Close connections; the engine keeps running."""
        ...


@runtime_checkable
class SpeaksGrpc(Protocol):
    """An engine that also speaks V2 gRPC."""

    def grpc_route(self, model: str, version: int, protocol: ModelProtocol) -> GrpcRoute | None:
        """Return where a version's gRPC is, None if it has none."""
        ...


def engine_name(model: str, version: int) -> str:
    """Return the engine-side name of a version."""
    return f"{model}--v{version}"


def parse_engine_name(name: str) -> tuple[str, int] | None:
    """Return (model, version) of an engine-side name, or None if it is not one of ours."""
    model, separator, digits = name.rpartition("--v")
    return (model, int(digits)) if separator and model and digits.isdigit() else None
