from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.serving.generation import generate
from edge_agent.serving.text import GenerateCall, TextDialect


class Scripted:
    """Says its pieces, whatever it is asked."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = pieces
        self.closed = False
        self.said = 0

    def generate(self, prompt: str, **_: Any) -> Iterator[str]:
        try:
            for piece in self.pieces:
                self.said += 1
                yield piece
        finally:
            self.closed = True


def call(*stops: str, max_tokens: int = 100) -> GenerateCall:
    return GenerateCall(
        dialect=TextDialect.GENERATE,
        prompt="p",
        model="m",
        version="1",
        stop=stops,
        max_tokens=max_tokens,
    )


def test_without_stops_each_piece_comes_as_it_is() -> None:
    assert list(generate(Scripted(["a", "b"]), call())) == ["a", "b"]


def test_a_stop_that_spans_pieces_is_cut_out_and_ends_the_model() -> None:
    model = Scripted(["one E", "N", "D two", "never"])
    assert list(generate(model, call("END"))) == ["one ", "", ""]
    assert model.closed
    assert model.said == 3


def test_what_only_looked_like_a_stop_is_shown_later() -> None:
    assert list(generate(Scripted(["a E", "N", "x"]), call("END"))) == ["a ", "", "ENx"]
    assert list(generate(Scripted(["a E"]), call("END"))) == ["a ", "E"]
    assert list(generate(Scripted(["a E", "b"]), call("END", max_tokens=1))) == ["a E"]


def test_a_model_that_ignores_max_tokens_is_stopped() -> None:
    model = Scripted(["a"] * 10)
    assert len(list(generate(model, call(max_tokens=3)))) == 3
    assert model.said == 3


def test_closing_early_closes_the_model() -> None:
    model = Scripted(["a", "b", "c"])
    pieces = generate(model, call())
    assert next(pieces) == "a"
    pieces.close()  # type: ignore[attr-defined]  # it is a generator
    assert model.closed
    assert model.said == 1


@pytest.mark.parametrize("stops", [["ab"], ["aab", "b"], ["aaa"], ["ba", "abab"]])
@given(text=st.text("ab", max_size=30), data=st.data())
def test_any_cut_into_pieces_gives_the_text_before_the_first_stop(
    stops: list[str], text: str, data: st.DataObject
) -> None:
    pieces: list[str] = []
    while text and len("".join(pieces)) < len(text):
        done = len("".join(pieces))
        pieces.append(text[done : done + data.draw(st.integers(1, 4))])
    said = "".join(generate(Scripted(pieces), call(*stops)))
    # Text comes as a stream: the stop that is complete first wins.
    ends = [at + len(stop) for stop in stops if (at := text.find(stop)) >= 0]
    assert text.startswith(said)
    assert not any(stop in said for stop in stops)
    assert (said == text) == (not ends)
