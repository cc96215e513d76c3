import asyncio
import socket

from router.workers import frames
from router.workers.link import attach


async def test_messages_go_both_ways_until_one_side_parts() -> None:
    one, other = socket.socketpair()
    keeper, worker = await attach(one, frames.word), await attach(other, frames.order)
    table = frames.Table(1, b"x" * (1 << 20))
    keeper.send(table)
    keeper.send(frames.Go())
    worker.send(frames.Applied(1))
    assert (await anext(worker), await anext(worker)) == (table, frames.Go())
    assert await anext(keeper) == frames.Applied(1)
    worker.put(frames.Stop())  # as a signal does
    assert await anext(worker) == frames.Stop()
    await keeper.close()
    assert [message async for message in worker] == []
    assert not worker.is_open
    worker.send(frames.Applied(2))  # lost, and no error
    await worker.close()


async def test_nonsense_ends_the_link() -> None:
    one, other = socket.socketpair()
    keeper = await attach(one, frames.word)
    other.setblocking(False)
    await asyncio.get_running_loop().sock_sendall(other, b"GET / HTTP/1.1\r\n")
    assert [message async for message in keeper] == []
    other.close()
    await keeper.close()
