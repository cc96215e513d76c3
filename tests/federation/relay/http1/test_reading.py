import asyncio

from federation.relay.http1.reading import InPieces


class Noting(asyncio.Protocol):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_protocol(InPieces(self, 10_000))

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


async def test_what_comes_is_given_in_bounded_pieces_and_kept_apart() -> None:
    made: list[Noting] = []

    def make() -> Noting:
        made.append(Noting())
        return made[-1]

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    sent = [bytes([number]) * 300_000 for number in (1, 2)]
    writers = []
    for content in sent:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(content)
        writers.append(writer)
    async with asyncio.timeout(10):
        while sum(len(b"".join(one.pieces)) for one in made) < 600_000:
            await asyncio.sleep(0.01)
    assert sorted(b"".join(one.pieces) for one in made) == sent
    assert max(len(piece) for one in made for piece in one.pieces) <= 10_000
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(10):
        while not all(one.lost for one in made):
            await asyncio.sleep(0.01)
    server.close()
