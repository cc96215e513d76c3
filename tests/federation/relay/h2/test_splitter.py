"""Frames in any pieces say the same; what breaks the rules is found at the same place."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from federation.relay.h2 import wire
from federation.relay.h2.splitter import Splitter
from federation.relay.h2.wire import Broken


class Notes:
    """A sink that writes down what it was told; bodies are joined."""

    def __init__(self) -> None:
        self.closed = False
        self.said: list[tuple[object, ...]] = []

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        if self.said and self.said[-1][:2] == ("data", stream) and not self.said[-1][4]:
            _, _, before, counted, _ = self.said.pop()
            assert isinstance(before, bytes)
            assert isinstance(counted, int)
            data, size = before + data, counted + size
        self.said.append(("data", stream, data, size, ended))

    def on_block(self, stream: int, block: bytes, *, ended: bool) -> None:
        self.said.append(("block", stream, block, ended))

    def take_whole(self, data: bytes, at: int) -> int:
        return at

    def on_reset(self, stream: int, code: int) -> None:
        self.said.append(("reset", stream, code))

    def on_window(self, stream: int, size: int) -> None:
        self.said.append(("window", stream, size))

    def on_settings(self, pairs: list[tuple[int, int]]) -> None:
        self.said.append(("settings", tuple(pairs)))

    def on_settings_taken(self) -> None:
        self.said.append(("taken",))

    def on_ping(self, payload: bytes) -> None:
        self.said.append(("ping", payload))

    def on_pong(self) -> None:
        self.said.append(("pong",))

    def on_goaway(self, last: int, code: int) -> None:
        self.said.append(("goaway", last, code))


def told(data: bytes, cuts: list[int]) -> list[tuple[object, ...]]:
    notes = Notes()
    splitter = Splitter(notes, 1 << 14)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    try:
        for begin, end in itertools.pairwise(places):
            splitter.feed(data[begin:end])
    except Broken as broken:
        notes.said.append(("broken", broken.code, broken.why))
    return notes.said


def padded(kind: int, flags: int, stream: int, payload: bytes, pad: int) -> bytes:
    return wire.frame(kind, flags | wire.PADDED, stream, bytes((pad,)) + payload + bytes(pad))


streams = st.integers(1, 9)
bodies = st.binary(max_size=200)
frames = st.one_of(
    st.builds(wire.frame, st.just(wire.DATA), st.sampled_from([0, 1]), streams, bodies),
    st.builds(
        padded, st.just(wire.DATA), st.sampled_from([0, 1]), streams, bodies, st.integers(0, 50)
    ),
    st.builds(wire.frame, st.just(wire.HEADERS), st.sampled_from([4, 5]), streams, bodies),
    st.builds(padded, st.just(wire.HEADERS), st.just(4), streams, bodies, st.integers(0, 50)),
    st.builds(
        lambda s, a, b: wire.frame(wire.HEADERS, 0, s, a) + wire.frame(wire.CONTINUATION, 4, s, b),
        streams,
        bodies,
        bodies,
    ),
    st.builds(wire.window_update, streams, st.integers(1, 99)),
    st.builds(wire.reset, streams, st.integers(0, 20)),
    st.builds(wire.frame, st.just(wire.PING), st.just(0), st.just(0), st.just(bytes(8))),
    st.builds(wire.frame, st.integers(10, 255), st.integers(0, 255), streams, bodies),
)
BEGIN = wire.settings(((3, 100),))


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 2000), max_size=12))
def test_pieces_do_not_matter(sent: list[bytes], cuts: list[int]) -> None:
    data = BEGIN + b"".join(sent)
    whole = told(data, [])
    assert told(data, cuts) == whole
    assert told(data, list(range(len(data)))) == whole


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_nonsense_is_refused_alike_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    def without_data(said: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
        return [one for one in said if one[0] != "data"]

    assert without_data(told(BEGIN + data, cuts)) == without_data(told(BEGIN + data, []))


def test_it_tells_whether_something_is_not_complete() -> None:
    splitter = Splitter(Notes(), 1 << 14)
    splitter.feed(BEGIN)
    assert not splitter.partial
    splitter.feed(b"\0")
    assert splitter.partial


def test_a_sink_that_closed_is_told_nothing_more() -> None:
    notes = Notes()
    splitter = Splitter(notes, 1 << 14)
    notes.closed = True
    splitter.feed(BEGIN + wire.window_update(1, 1))
    assert [one[0] for one in notes.said] == ["settings"]
