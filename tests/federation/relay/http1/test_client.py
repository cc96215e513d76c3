import asyncio

from federation.relay.failures import ForwardError
from federation.relay.http1.client import ClientConnection
from federation.relay.http1.reading import InPieces
from tests.fakes.requests import QuietTransport

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nx-fed-load: %d\r\n\r\n"


class Taking:
    """An exchange that notes what it is told."""

    def __init__(self) -> None:
        self.fed = b""
        self.over: list[str] = []

    def feed(self, data: bytes) -> None:
        self.fed += data

    def lost(self, error: Exception | None) -> None:
        self.over.append(f"lost {error}")

    def expired(self) -> None:
        self.over.append("expired")

    def give_up(self, error: ForwardError) -> None:
        self.over.append(f"given up {error}")


class Transport(QuietTransport):
    """Notes which protocol reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.reader = protocol


def connected() -> tuple[ClientConnection, Transport]:
    connection, transport = ClientConnection(), Transport()
    connection.connection_made(transport)
    return connection, transport


async def test_what_comes_goes_to_the_exchange_and_unasked_it_ends_the_connection() -> None:
    connection, transport = connected()
    connection.exchange = taking = Taking()
    connection.data_received(b"abc")
    connection.exchange = None
    assert (taking.fed, transport.closed) == (b"abc", False)
    connection.data_received(b"more")
    assert transport.closed
    assert connection.should_close


async def test_its_end_and_its_alarm_are_told() -> None:
    connection, _ = connected()
    connection.exchange = taking = Taking()
    connection.alarm.set(0.0)
    async with asyncio.timeout(5):
        while not taking.over:
            await asyncio.sleep(0.001)
    connection.connection_lost(OSError("gone"))
    assert taking.over == ["expired", "lost gone"]


async def test_a_head_like_the_last_one_is_not_read_again() -> None:
    connection, _ = connected()
    first = connection.like_before(HEAD % (5, 3))
    again = connection.like_before(HEAD % (77, 41))
    assert first is not None
    assert again is not None
    assert again[0] is first[0]
    assert again[1].values[:2] == [b"77", b"41"]
    assert (
        connection.like_before(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") is not None
    )
    assert connection.like_before(b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n") is None


async def test_it_reads_bounded_pieces_as_long_as_it_is_told_to() -> None:
    connection, transport = connected()
    connection.read_in_pieces(bounded=False)
    assert transport.reader is None
    connection.read_in_pieces(bounded=True)
    assert isinstance(transport.reader, InPieces)
    connection.read_in_pieces(bounded=False)
    assert transport.reader is connection
