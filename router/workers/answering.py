"""What a worker answers when its keeper asks.

Input: an Ask; the state and the records of a worker. Output: an Answer: documents as JSON, numbers
as MessagePack; or the error, as data.
"""

import msgspec

from federation.contract import errors
from federation.contract.errors import FederationError
from router.explain import explain
from router.geo import Locator
from router.state import RouterState
from router.workers.frames import Answer, Ask, pack


class Answers:
    """Answers of one worker."""

    def __init__(self, state: RouterState, locator: Locator) -> None:
        self._state = state
        self._locator = locator

    def __repr__(self) -> str:
        return f"Answers({self._state.name})"

    def answer(self, ask: Ask) -> Answer:
        """Return the answer to anything but `report` and `metrics`."""
        try:
            return Answer(ask.id, self._data(ask))
        except FederationError as error:
            kind = type(error).__mro__
            known = next(c.__name__ for c in kind if getattr(errors, c.__name__, None) is c)
            return Answer(
                ask.id, kind=known, message=error.message, hint=error.hint, reason=error.reason
            )

    def _data(self, ask: Ask) -> bytes:
        state, given = self._state, ask.arguments
        match ask.what:
            case "in-flight":
                endpoints = state.table.endpoints if state.table is not None else {}
                counts = {name: state.signals.in_flight(name) for name in endpoints}
                return pack({name: count for name, count in counts.items() if count})
            case "record":
                return msgspec.json.encode(
                    state.records.tell(given["request"], state.name, state.clock)
                )
            case "explain":
                return msgspec.json.encode(explain(state, self._locator, **given))
            case _:
                raise errors.Invalid(f"A worker cannot answer {ask.what!r}.")


def raise_for(answer: Answer) -> Answer:
    """Return an answer, or raise the error that it is."""
    if not answer.kind:
        return answer
    kind: type[FederationError] = getattr(errors, answer.kind, FederationError)
    raise kind(answer.message, hint=answer.hint, reason=answer.reason)
