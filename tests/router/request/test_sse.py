import time

from hypothesis import given
from hypothesis import strategies as st

from router.request.sse import MAX_HELD_BYTES, WholeEvents

EVENTS = st.lists(
    st.sampled_from([b"data: a\n\n", b"data: b\r\n\r\n", b": ping\r\r", b"id: 1\ndata"])
)


@given(EVENTS, st.data())
def test_nothing_is_lost_or_reordered_and_only_whole_events_pass(
    events: list[bytes], data: st.DataObject
) -> None:
    stream, passed, whole = b"".join(events), b"", WholeEvents()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        out, stream = whole.feed(stream[:size]), stream[size:]
        assert not out or out.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
        passed += out
    assert passed + whole.rest() == b"".join(events)


def test_an_event_passes_with_its_last_byte() -> None:
    whole = WholeEvents()
    assert whole.feed(b"data: 1\n") == b""
    assert whole.feed(b"\ndata: 2") == b"data: 1\n\n"
    assert whole.rest() == b"data: 2"


def test_an_endless_event_is_not_held_forever() -> None:
    whole = WholeEvents()
    assert whole.feed(b"a" * MAX_HELD_BYTES) == b""
    assert len(whole.feed(b"a")) == MAX_HELD_BYTES + 1


def test_an_event_in_tiny_pieces_takes_linear_time() -> None:
    whole, started = WholeEvents(), time.thread_time()
    for _ in range(MAX_HELD_BYTES // 8):
        assert whole.feed(b"a" * 8) == b""
    assert time.thread_time() - started < 1


def test_a_piece_that_ends_with_an_event_passes_uncopied_unless_something_is_held() -> None:
    whole, piece = WholeEvents(), b"data: 1\n\ndata: 2\r\n\r\n"
    assert whole.feed(piece) is piece
    assert whole.feed(b"data: 3") == b""
    assert whole.feed(b"\n\n") == b"data: 3\n\n"
