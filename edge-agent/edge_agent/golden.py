"""Asks each warm version the golden inputs of its package, once, before it gets traffic.

Input: the versions on the board, their packages on disk. Output: GoldenResults for the reports. An
input counts as wrong if at least two of three answers are: what does not repeat is no fact.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_agent.backends.base import Backend, EngineUnreachable, StagedVersion, Verb
from edge_agent.backends.engine_http import Answer, EngineHttp, one_line
from edge_agent.backends.warmup import reason_of
from edge_agent.board import Board
from edge_agent.probe import way_to
from edge_agent.serving.sse import EventReader
from federation.contract.errors import Invalid
from federation.contract.golden import GoldenInput, parse_golden, wrong_tensors, wrong_text
from federation.contract.package import Golden
from federation.contract.rollout import GoldenResult
from federation.contract.types import ModelProtocol, ObservedVersion, VersionState

log = logging.getLogger(__name__)

LOOK_S = 0.2  # between two looks for something to ask
TRIES = 3
WRONG = 2  # of them, and the input is answered wrongly
_RETRY_S = 2.0
_ANSWER_S = 60.0
_KEPT = 512  # results; the oldest go


class GoldenAsker:
    """The golden inputs of one agent; `run` never returns."""

    def __init__(
        self,
        *,
        backend: Backend,
        board: Board,
        staged: Callable[[str, int], StagedVersion | None],
    ) -> None:
        self._backend = backend
        self._board = board
        self._staged = staged
        self._results: dict[str, GoldenResult] = {}  # by digest
        self.on_news: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        wrong = sum(result.wrong > 0 for result in self._results.values())
        return f"GoldenAsker({len(self._results)} asked, {wrong} wrong)"

    def result(self, seen: ObservedVersion) -> GoldenResult | None:
        """Return what came out for a version; None if it has no golden inputs, or was not asked."""
        return self._results.get(seen.digest)

    async def run(self) -> None:
        """Ask those that are warm and were not asked, one version at a time, for ever."""
        while True:
            subject = self._next()
            await asyncio.sleep(
                LOOK_S if subject is None or await self._ask(*subject) else _RETRY_S
            )

    def _next(self) -> tuple[StagedVersion, Golden] | None:
        for seen in self._board.versions:
            staged = self._staged(seen.model, seen.version)
            if (
                seen.state is VersionState.WARMED
                and seen.digest not in self._results
                and staged is not None
                and staged.digest == seen.digest
                and staged.package.golden is not None
            ):
                return staged, staged.package.golden
        return None

    async def _ask(self, staged: StagedVersion, golden: Golden) -> bool:
        """Ask all of a version's inputs; return False if the engine could not be asked."""
        name = f"{staged.model}@{staged.version}"
        try:
            wanted = await asyncio.to_thread(_read, staged, golden)
            result = await self._asked(staged, wanted, golden.tolerance)
        except Invalid as error:
            result = GoldenResult(inputs=1, wrong=1, words=error.sentence())
        except EngineUnreachable as error:
            log.info("the golden inputs of %s could not be asked: %s", name, error)
            return False
        while len(self._results) >= _KEPT:
            del self._results[next(iter(self._results))]
        self._results[staged.digest] = result
        log.info("%s answered %d of %d golden inputs wrongly", name, result.wrong, result.inputs)
        for hear in self.on_news:
            hear()
        return True

    async def _asked(
        self, staged: StagedVersion, wanted: tuple[GoldenInput, ...], tolerance: float
    ) -> GoldenResult:
        text = staged.package.protocol is ModelProtocol.TEXT
        http, path = way_to(self._backend, staged, Verb.GENERATE_STREAM if text else Verb.INFER)
        asker = _TextAsker(http, path) if text else _TensorAsker(http, path, staged, tolerance)
        wrong, words = 0, ""
        try:
            for each in wanted:
                if found := await _repeatedly(asker, each):
                    wrong += 1
                    words = words or f"{each.name}: {found}"
        finally:
            await http.close()
        return GoldenResult(inputs=len(wanted), wrong=wrong, words=words)


class _TensorAsker:
    """Asks one version of a tensor model, in JSON."""

    def __init__(
        self, http: EngineHttp, path: str, staged: StagedVersion, tolerance: float
    ) -> None:
        self._http, self._path, self._tolerance = http, path, tolerance
        self._types = {tensor.name: tensor.datatype for tensor in staged.package.inputs}

    def __repr__(self) -> str:
        return f"_TensorAsker({self._http.url}{self._path})"

    async def __call__(self, wanted: GoldenInput) -> str:
        """Return what is wrong with its answer, "" if nothing is."""
        inputs = [
            {
                "name": name,
                "datatype": self._types[name],
                "shape": list(wanted.shapes[name]),
                "data": list(values),
            }
            for name, values in wanted.inputs.items()
        ]
        outputs = [{"name": name} for name in wanted.outputs]
        body = {"inputs": inputs, "outputs": outputs}
        answer = await self._http.ask("POST", self._path, body=body, timeout_s=_ANSWER_S)
        if answer.status != 200:
            return f"it failed: {reason_of(answer)}"
        return wrong_tensors(wanted, _outputs(answer.json()), self._tolerance)


class _TextAsker:
    """Asks one version of a text model."""

    def __init__(self, http: EngineHttp, path: str) -> None:
        self._http, self._path = http, path

    def __repr__(self) -> str:
        return f"_TextAsker({self._http.url}{self._path})"

    async def __call__(self, wanted: GoldenInput) -> str:
        """Return what is wrong with its answer, "" if nothing is."""
        body: dict[str, Any] = {
            "text_input": wanted.prompt,
            "max_tokens": wanted.max_tokens,
            "temperature": wanted.temperature,
        }
        if wanted.seed is not None:
            body["seed"] = wanted.seed
        reader, pieces = EventReader(), list[str]()
        async with self._http.open("POST", self._path, body=body, timeout_s=_ANSWER_S) as response:
            if response.status != 200:
                return f"it failed: {reason_of(Answer(response.status, await response.read()))}"
            async for chunk in response.content.iter_any():
                for event in reader.feed(chunk):
                    told = Answer(200, event.encode()).json()
                    if "error" in told:
                        return f"it failed: {one_line(str(told['error']))}"
                    pieces.append(str(told.get("text_output", "")))
        return wrong_text(wanted, "".join(pieces))


async def _repeatedly(asker: _TensorAsker | _TextAsker, wanted: GoldenInput) -> str:
    """Return what is wrong with most of the answers to one input; "" if they are right."""
    found: list[str] = []
    for number in range(TRIES):
        if words := await asker(wanted):
            found.append(words)
        right = number + 1 - len(found)
        if len(found) >= WRONG or right > TRIES - WRONG:
            break
    return found[0] if len(found) >= WRONG else ""


def _outputs(answer: Mapping[str, Any]) -> dict[str, list[Any]]:
    found = {}
    for output in answer.get("outputs", []):
        data = output.get("data", [])
        found[str(output.get("name"))] = list(_flat(data))
    return found


def _flat(data: list[Any]) -> list[Any]:
    if not any(isinstance(each, list) for each in data):
        return data
    return [value for each in data for value in _flat(each if isinstance(each, list) else [each])]


def _read(staged: StagedVersion, golden: Golden) -> tuple[GoldenInput, ...]:
    """Read the golden inputs of a package; raises Invalid."""
    path = Path(staged.directory, golden.file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"the golden inputs {golden.file!r} cannot be read: {error}.") from None
    return parse_golden(text, staged.package, source=golden.file)
