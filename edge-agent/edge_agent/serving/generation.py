"""Runs a text model for one call, token by token, and stops it in time.

Input: a TextModel and a GenerateCall. Output: one piece per token; empty pieces keep the count
while the text so far might turn out to be the beginning of a stop sequence.
"""

from collections.abc import Iterator, Sequence

from edge_agent.serving.models import TextModel
from edge_agent.serving.text import GenerateCall


def generate(model: TextModel, call: GenerateCall) -> Iterator[str]:
    """Yield the pieces of one answer; closing this iterator closes the model's."""
    pieces = model.generate(
        call.prompt, max_tokens=call.max_tokens, temperature=call.temperature, seed=call.seed
    )
    try:
        yield from _until_stop(pieces, call.max_tokens, call.stop)
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _until_stop(pieces: Iterator[str], max_tokens: int, stops: Sequence[str]) -> Iterator[str]:
    held = ""
    for made, piece in enumerate(pieces, start=1):
        held += piece
        cut = _first(held, stops)
        if cut is not None:
            yield held[:cut]
            return
        last = made >= max_tokens
        shown = len(held) - (0 if last else _beginning(held, stops))
        yield held[:shown]
        held = held[shown:]
        if last:
            return
    if held:
        yield held


def _first(text: str, stops: Sequence[str]) -> int | None:
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return min(found, default=None)


def _beginning(text: str, stops: Sequence[str]) -> int:
    """Return the length of the longest end of `text` that a stop sequence begins with."""
    return max(
        (
            n
            for stop in stops
            for n in range(min(len(stop) - 1, len(text)), 0, -1)
            if text.endswith(stop[:n])
        ),
        default=0,
    )
