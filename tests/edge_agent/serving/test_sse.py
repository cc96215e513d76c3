from hypothesis import given
from hypothesis import strategies as st

from edge_agent.serving.sse import EventReader, frame


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
