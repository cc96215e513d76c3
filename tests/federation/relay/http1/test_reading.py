import asyncio

import pytest

from federation.relay.http1.reading import PieceReader


class Noting(PieceReader):
    piece_bytes = 10_000

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)


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
    server.close()


def test_it_is_nothing_by_itself() -> None:
    with pytest.raises(NotImplementedError):
        PieceReader().buffer_updated(1)
