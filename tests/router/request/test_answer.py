import pytest

from federation.relay.forward import BrokenMidway, Deadlines, Forwarder, Outgoing
from router.request import answer as answers
from tests.fakes.http_peers import raw_upstream, reply


async def answer_of(raw: bytes) -> answers.Answer:
    async def script(head: bytes, reader: object, writer: object) -> None:
        writer.write(raw)  # type: ignore[attr-defined]

    forwarder = Forwarder()
    try:
        async with raw_upstream(script) as upstream:
            outgoing = Outgoing(method="GET", url=upstream.url + "/x")
            async with forwarder.send(outgoing, deadlines=Deadlines(idle_s=2)) as got:
                return await answers.begin(got)
    finally:
        await forwarder.close()


async def test_a_small_answer_is_read_whole_and_a_large_one_begun() -> None:
    small = await answer_of(reply(b"abc", head=b"X-Fed-Load: 3\r\nX-Model: 1\r\n"))
    assert (small.first, small.rest, small.length) == (b"abc", None, 3)
    assert "x-fed-load" not in small.headers
    assert small.headers["x-model"] == "1"
    large = await answer_of(reply(b"a" * 100_000))
    assert large.rest is not None
    assert large.length == 100_000
    assert 0 < len(large.first) <= 100_000


async def test_an_answer_that_breaks_before_its_first_piece_is_an_error() -> None:
    for raw in (reply(b"ab", length=3), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with pytest.raises(BrokenMidway):
            await answer_of(raw)


@pytest.mark.parametrize(
    ("head", "is_events"),
    [
        (b"Content-Type: text/event-stream\r\n", True),
        (b"Content-Type: text/event-stream; charset=utf-8\r\n", True),
        (b"Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n", False),
        (b"Content-Type: application/json\r\n", False),
        (b"", False),
    ],
)
async def test_only_readable_event_streams_are_cut(head: bytes, is_events: bool) -> None:
    assert (await answer_of(reply(b"x", head=head))).is_events is is_events
