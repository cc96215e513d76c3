"""A backend's few connections. More in test_upstream."""

import asyncio

from federation.relay.h2 import wire
from federation.relay.h2.service import SwitchLimits
from tests.federation.relay.h2.rig import CALL, call, rig


async def test_a_retired_backend_ends_what_runs_and_takes_no_more() -> None:
    async with rig(modes=("silent", "ok")) as r:
        client = await r.client()
        client.write(CALL)
        await client.until(lambda: bool(r.places[0].bodies))
        backend, peer = r.service.backends[0], r.places[0].peers[0]
        r.switch.drop(backend)
        client.write(call(3))
        assert (await client.outcome(3)).status == 0  # elsewhere
        assert len(r.places[1].bodies) == 1
        peer.mode = "ok"
        peer.answer(1)
        assert (await client.outcome(1)).status == 0
        await client.until(lambda: peer.eof)
        await client.until(lambda: backend.unused)
        assert repr(backend) == "Backend(silent, 0 connections, 0 calls, 0 waiting)"


async def test_one_that_does_not_greet_is_left() -> None:
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, w: writers.append(w), "127.0.0.1", 0)
    async with rig(limits=SwitchLimits(connect_s=0.2)) as r:
        dialler = r.service.backends[0].dialler
        dialler.port = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        client = await r.client()
        client.write(CALL)
        outcome = await client.outcome()
        assert outcome.status == 0
        kinds = [f.kind.value for f in r.service.handlers[0].failures]
        assert kinds == ["unreachable"]
    for writer in writers:
        writer.close()
    server.close()
    await server.wait_closed()


async def test_streams_that_wait_can_leave() -> None:
    async with rig(modes=("silent",), limits=SwitchLimits(connections=1)) as r:
        r.places[0].settings = wire.settings(((3, 1),))[9:]
        client = await r.client()
        client.write(CALL + call(3))
        await client.until(lambda: r.service.backends[0].waiting == 1)
        client.write(wire.reset(3, 8))
        await client.until(lambda: r.service.backends[0].waiting == 0)
