import pytest

from federation.relay.forward import (
    ConnectFailed,
    Deadlines,
    Forwarder,
    ForwardError,
    Outgoing,
    Phase,
    SentNoAnswer,
    TimedOut,
)
from router.policy.retry import Failed
from router.policy.signals import Ending
from router.request import verdict
from tests.fakes.http_peers import raw_upstream, reply

LOAD = b"x-fed-load: 1\r\n"


@pytest.mark.parametrize(
    ("status", "head", "ending", "reason"),
    [
        ("503 No", LOAD + b"x-fed-refused: draining\r\n", Ending.REFUSED, "draining"),
        ("404 No", LOAD + b"x-fed-refused: not-serving\r\n", Ending.REFUSED, "not-serving"),
        ("500 No", LOAD + b"x-fed-outcome: unknown\r\n", Ending.REFUSED, "under the request"),
        ("502 No", b"", Ending.BROKEN, "status 502"),
        ("503 No", LOAD, Ending.REFUSED, "saturated"),
        ("503 No", b"", Ending.REFUSED, "saturated"),
        ("429 No", LOAD, Ending.REFUSED, "saturated"),
        ("500 No", b"", None, ""),
        ("400 No", LOAD, None, ""),
        ("200 OK", LOAD, None, ""),
    ],
)
async def test_whose_answer_it_is(
    status: str, head: bytes, ending: Ending | None, reason: str
) -> None:
    async def script(_: bytes, reader: object, writer: object) -> None:
        writer.write(reply(b"text", status=status, head=head))  # type: ignore[attr-defined]

    forwarder = Forwarder()
    async with raw_upstream(script) as upstream:
        outgoing = Outgoing(method="GET", url=upstream.url + "/x")
        async with forwarder.send(outgoing, deadlines=Deadlines()) as answer:
            failed = await verdict.of_answer(answer, "a")
    await forwarder.close()
    assert (failed.ending if failed else None) == ending
    assert failed is None or reason in failed.reason


@pytest.mark.parametrize(
    ("error", "own_deadline", "ending"),
    [
        (ConnectFailed("refused"), False, Ending.UNREACHABLE),
        (TimedOut(Phase.CONNECT, 1.0), False, Ending.UNREACHABLE),
        (TimedOut(Phase.FIRST_BYTE, 1.0), False, Ending.BROKEN),
        (TimedOut(Phase.FIRST_BYTE, 1.0), True, Ending.ABANDONED),
        (TimedOut(Phase.IDLE, 1.0), True, Ending.BROKEN),
        (SentNoAnswer("reset"), True, Ending.BROKEN),
    ],
)
def test_whose_fault_an_error_is(error: ForwardError, own_deadline: bool, ending: Ending) -> None:
    failed = verdict.of_error(error, "a", own_deadline=own_deadline)
    late = isinstance(error, TimedOut) and error.phase is Phase.FIRST_BYTE
    status = 504 if late else 502
    assert failed == Failed(cluster="a", ending=ending, reason=str(error), status=status)


async def test_the_last_attempts_answer_is_the_answer() -> None:
    async def script(_: bytes, reader: object, writer: object) -> None:
        writer.write(reply(b"text", status="503 No", head=LOAD))  # type: ignore[attr-defined]

    forwarder = Forwarder()
    async with raw_upstream(script) as upstream:
        outgoing = Outgoing(method="GET", url=upstream.url + "/x")
        async with forwarder.send(outgoing, deadlines=Deadlines()) as answer:
            assert await verdict.of_answer(answer, "a", last=True) is None
    await forwarder.close()
