import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.serving.sse import MAX_EVENT_BYTES, EventReader, frame


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))),
    st.data(),
)
def test_events_survive_any_cut(events: list[str], data: st.DataObject) -> None:
    wire = b"".join(frame(event) for event in events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    reader, seen = EventReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        seen += reader.feed(wire[start:end])
    assert seen == events


def test_comments_and_other_fields_are_no_events() -> None:
    reader = EventReader()
    assert reader.feed(b": hello\n\nevent: x\ndata: 1\ndata: 2\n\nid: 3\n\n") == ["1\n2"]
    assert reader.feed(b"data:3\r\n\r\n") == ["3"]
    assert reader.feed(b"data: never finished") == []
    assert repr(reader) == "EventReader(20 bytes held)"


def test_bytes_that_are_no_text_do_not_break_a_stream() -> None:
    assert EventReader().feed(b"data: \xff\xfe\n\ndata: a\n\n") == ["\ufffd\ufffd", "a"]


def test_a_line_end_may_be_cut_anywhere() -> None:
    reader = EventReader()
    assert [reader.feed(bytes((b,))) for b in b"data: a\r\n\r\n"] == [[]] * 10 + [["a"]]


def test_an_endless_event_is_refused_and_read_in_linear_time() -> None:
    reader, started = EventReader(), time.thread_time()
    with pytest.raises(ValueError, match="longer than"):
        for _ in range(MAX_EVENT_BYTES // 16 + 1):
            reader.feed(b"a" * 16)
    assert time.thread_time() - started < 2
