"""Asks each warm version the golden inputs of its package before it gets traffic, and a canary
again and again: engines decay.

Input: the versions on the board, their packages on disk, the assignment. Output: GoldenResults for
the reports. An input counts as wrong if at least two of three answers are: what does not repeat is
no fact; nor is it one that a canary with traffic has too much to do.
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
from edge_agent.policy.asking import Asking, intervals, next_to_ask
from edge_agent.policy.events import Key
from edge_agent.probe import way_to
from edge_agent.serving.sse import EventReader
from federation.contract.errors import Invalid
from federation.contract.golden import GoldenInput, parse_golden, wrong_tensors, wrong_text
from federation.contract.package import Golden
from federation.contract.rollout import GoldenResult
from federation.contract.types import Assignment, ModelProtocol, ObservedVersion
from federation.runtime.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 0.2  # between two looks for something to ask
TRIES = 3
WRONG = 2  # of them, and the input is answered wrongly
_RETRY_S = 2.0
_BUSY = frozenset({429, 503})
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
        clock: Clock,
    ) -> None:
        self._backend = backend
        self._board = board
        self._staged = staged
        self._clock = clock
        self._results: dict[str, GoldenResult] = {}  # by digest
        self._asked_s: dict[str, float] = {}  # likewise
        self._every_s: dict[Key, int] = {}
        self.on_news: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        wrong = sum(result.wrong > 0 for result in self._results.values())
        return f"GoldenAsker({len(self._results)} asked, {wrong} wrong)"

    def result(self, seen: ObservedVersion) -> GoldenResult | None:
        """Return what came out for a version; None if it has no golden inputs, or was not asked."""
        return self._results.get(seen.digest)

    def assigned(self, assignment: Assignment) -> None:
        """Take over how often versions are asked again; called in a thread."""
        self._every_s = intervals(assignment)

    async def run(self) -> None:
        """Ask those whose turn it is, one version at a time, for ever."""
        while True:
            now_s = self._clock.monotonic_s()
            subject = next_to_ask(
                self._board.versions, self._asked_s, self._every_s, now_s, has_golden=self._has
            )
            await asyncio.sleep(LOOK_S if subject is None or await self._ask(subject) else _RETRY_S)

    def _has(self, seen: ObservedVersion) -> bool:
        return self._subject(seen) is not None

    def _subject(self, seen: ObservedVersion) -> tuple[StagedVersion, Golden] | None:
        """Return a version's package and its golden inputs, if it is here and has any."""
        staged = self._staged(seen.model, seen.version)
        if staged is None or staged.digest != seen.digest or staged.package.golden is None:
            return None
        return staged, staged.package.golden

    async def _ask(self, asking: Asking) -> bool:
        """Ask all of a version's inputs; return False if the engine could not be asked."""
        found = self._subject(asking.version)
        if found is None:
            return False
        staged, golden = found
        name = f"{staged.model}@{staged.version}"
        try:
            wanted = await asyncio.to_thread(_read, staged, golden)
            result = await self._asked(staged, wanted, golden.tolerance, again=asking.again)
        except Invalid as error:
            result = GoldenResult(inputs=1, wrong=1, words=error.sentence())
        except (EngineUnreachable, _BusyError) as error:
            log.info("the golden inputs of %s could not be asked: %s", name, error)
            return False
        self._keep(staged.digest, result)
        log.info("%s answered %d of %d golden inputs wrongly", name, result.wrong, result.inputs)
        return True

    def _keep(self, digest: str, result: GoldenResult) -> None:
        """Remember what came out, and tell of it if it is news."""
        known = self._results.pop(digest, None)
        while len(self._results) >= _KEPT:
            oldest = next(iter(self._results))
            del self._results[oldest], self._asked_s[oldest]
        self._results[digest], self._asked_s[digest] = result, self._clock.monotonic_s()
        if result != known:
            for hear in self.on_news:
                hear()

    async def _asked(
        self,
        staged: StagedVersion,
        wanted: tuple[GoldenInput, ...],
        tolerance: float,
        *,
        again: bool,
    ) -> GoldenResult:
        text = staged.package.protocol is ModelProtocol.TEXT
        http, path = way_to(self._backend, staged, Verb.GENERATE_STREAM if text else Verb.INFER)
        asker = _TextAsker(http, path) if text else _TensorAsker(http, path, staged, tolerance)
        wrong, words = 0, ""
        try:
            for each in wanted:
                if found := await _repeatedly(asker, each, may_be_busy=again):
                    wrong += 1
                    words = words or f"{'asked again, ' if again else ''}{each.name}: {found}"
        finally:
            await http.close()
        return GoldenResult(inputs=len(wanted), wrong=wrong, words=words)


class _BusyError(Exception):
    """The engine refuses a request, since it has too many."""


def _failure(answer: Answer) -> str:
    """Return what went wrong, in words; raises _BusyError if it is only too much."""
    words = f"it failed: {reason_of(answer)}"
    if answer.status in _BUSY:
        raise _BusyError(words)
    return words


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
            return _failure(answer)
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
                return _failure(Answer(response.status, await response.read()))
            async for chunk in response.content.iter_any():
                for event in reader.feed(chunk):
                    told = Answer(200, event.encode()).json()
                    if "error" in told:
                        return f"it failed: {one_line(str(told['error']))}"
                    pieces.append(str(told.get("text_output", "")))
        return wrong_text(wanted, "".join(pieces))


async def _repeatedly(
    asker: _TensorAsker | _TextAsker, wanted: GoldenInput, *, may_be_busy: bool
) -> str:
    """Return what is wrong with most of the answers to one input; "" if they are right.

    Raises _BusyError if the engine has too much to do and has traffic that explains it.
    """
    found: list[str] = []
    for number in range(TRIES):
        try:
            words = await asker(wanted)
        except _BusyError as error:
            if may_be_busy:
                raise
            words = str(error)
        if words:
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
