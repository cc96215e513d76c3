import asyncio

import pytest

from federation.relay.http1.outbox import Outbox


class Noting:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, pieces: tuple[bytes, ...]) -> None:
        if pieces == (b"bad",):
            raise OSError("broken")
        self.sent.append(b"".join(pieces))


async def test_messages_leave_together_at_the_end_of_the_turn_in_their_order() -> None:
    outbox, one = Outbox(asyncio.get_running_loop()), Noting()
    outbox.put(one, (b"a", b"b"))
    outbox.put(one, (b"c",))
    assert one.sent == []
    assert "2 messages" in repr(outbox)
    await asyncio.sleep(0)
    assert one.sent == [b"ab", b"c"]
    outbox.put(one, (b"d",))
    await asyncio.sleep(0)
    assert one.sent == [b"ab", b"c", b"d"]


async def test_what_is_put_while_others_leave_goes_with_the_next_turn() -> None:
    outbox, last = Outbox(asyncio.get_running_loop()), Noting()

    class Answering(Noting):
        def send(self, pieces: tuple[bytes, ...]) -> None:
            super().send(pieces)
            outbox.put(last, pieces)

    outbox.put(Answering(), (b"a",))
    await asyncio.sleep(0)
    assert last.sent == []
    await asyncio.sleep(0)
    assert last.sent == [b"a"]


async def test_one_that_cannot_be_sent_does_not_keep_back_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outbox, one = Outbox(asyncio.get_running_loop()), Noting()
    outbox.put(one, (b"bad",))
    outbox.put(one, (b"good",))
    await asyncio.sleep(0)
    assert one.sent == [b"good"]
    assert "could not be sent" in caplog.text
