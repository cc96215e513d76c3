"""Keeps a number of inferences in flight at the engine for a moment, and says what came out of it.

Input: a loaded version with its package's warm-up sample. Output: Measured, for the ramp of
`policy.calibration`. It asks the engine where the gateway would, but beside it: none of it counts
as a request.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_agent.backends.base import Backend, BackendError, StagedVersion, Verb
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.backends.warmup import ask_tensors, ask_text, sample_request
from edge_agent.policy.calibration import Measured
from edge_agent.serving.v2_terms import Tensor
from federation.contract.types import ModelProtocol

TOKENS = 16  # of each answer of a text model


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One inference: what it gave, and how long its answer (of text: the first token) took."""

    units: int
    latency_s: float


class Probe:
    """Inferences of one version; `unit` is what they are counted in."""

    def __init__(
        self, http: EngineHttp, ask: Callable[[], Awaitable[Answered]], *, unit: str
    ) -> None:
        self._http = http
        self._ask = ask
        self.unit = unit

    def __repr__(self) -> str:
        return f"Probe({self._http.url}, {self.unit})"

    async def step(self, concurrency: int, seconds: float) -> Measured:
        """Keep so many in flight for a while, and wait for the last ones; raises BackendError."""
        loop = asyncio.get_running_loop()
        answers: list[Answered] = []
        started_s = loop.time()

        async def ask_again() -> None:
            while True:
                answers.append(await self._ask())
                if loop.time() - started_s >= seconds:
                    return

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(ask_again())
        except ExceptionGroup as group:  # raising inside `except*` would wrap it in a group again
            failed, others = group.split(BackendError)
            if failed is None or others is not None:
                raise
            raise BackendError(str(failed.exceptions[0])) from None
        return Measured(
            concurrency=concurrency,
            units=sum(each.units for each in answers),
            seconds=loop.time() - started_s,
            latency_ms=1000 * statistics.median(each.latency_s for each in answers),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


async def make_probe(backend: Backend, staged: StagedVersion) -> Probe:
    """Return a probe of a loaded version; raises BackendError if there is no way to ask it."""
    text = staged.package.protocol is ModelProtocol.TEXT
    http, path = way_to(backend, staged, Verb.GENERATE_STREAM if text else Verb.INFER)
    loop, sample = asyncio.get_running_loop(), staged.package.warmup

    async def ask_for_text() -> Answered:
        tokens, first_s = await ask_text(http, path, sample, tokens=TOKENS)
        return Answered(units=tokens, latency_s=first_s)

    if text:
        return Probe(http, ask_for_text, unit="tokens")
    try:
        body = sample_request(await _inputs(backend, staged), sample)
    except BaseException:
        await http.close()
        raise

    async def ask_for_tensors() -> Answered:
        started_s = loop.time()
        await ask_tensors(http, path, body)
        return Answered(units=1, latency_s=loop.time() - started_s)

    return Probe(http, ask_for_tensors, unit="inferences")


def way_to(backend: Backend, staged: StagedVersion, verb: Verb) -> tuple[EngineHttp, str]:
    """Return a client of the engine and the verb's path; raises BackendError if it has none."""
    route = backend.route(staged.model, staged.version, verb, staged.package.protocol)
    if route is None:
        raise BackendError(f"the engine has no {verb.value} for it")
    url = urlsplit(route.url)
    http = EngineHttp(f"{url.scheme}://{url.netloc}", headers=route.headers)
    return http, route.url.removeprefix(http.url)


async def _inputs(backend: Backend, staged: StagedVersion) -> tuple[Tensor, ...]:
    """Return what the package declares, else what the engine tells."""
    declared = staged.package.inputs
    if declared:
        return tuple(Tensor(name=t.name, datatype=t.datatype, shape=t.shape) for t in declared)
    http, path = way_to(backend, staged, Verb.METADATA)
    try:
        answer = await http.ask("GET", path)
        told = answer.json() if answer.status == 200 else {}
    finally:
        await http.close()
    inputs = told.get("inputs", []) if isinstance(told, dict) else []
    return tuple(
        Tensor(name=t["name"], datatype=t["datatype"], shape=tuple(t["shape"])) for t in inputs
    )
