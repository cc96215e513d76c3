from federation.cli.sse import SseEvent, parse_events


def parse(text: str) -> list[SseEvent]:
    return list(parse_events(text.encode().splitlines(keepends=True)))


def test_events_ids_and_data_are_read() -> None:
    text = 'event: ADDED\nid: 7\ndata: {"a": 1}\n\nevent: MODIFIED\ndata: x\ndata: y\n\n'
    assert parse(text) == [
        SseEvent("ADDED", "7", '{"a": 1}'),
        SseEvent("MODIFIED", "7", "x\ny"),
    ]


def test_comments_unknown_fields_and_empty_events_are_nothing() -> None:
    assert parse(": heartbeat\n\nretry: 3\n\nevent: ADDED\n\n") == []


def test_an_event_without_a_name_is_a_message_and_crlf_is_read() -> None:
    assert parse("data:x\r\n\r\n") == [SseEvent("message", "", "x")]


def test_an_unfinished_event_is_dropped() -> None:
    assert parse("data: x\n\ndata: cut") == [SseEvent("message", "", "x")]


def test_bytes_that_are_no_utf8_do_not_end_the_stream() -> None:
    assert [event.data for event in parse_events([b"data: \xff\n", b"\n"])] == ["\ufffd"]
