"""What both sides of a switch do alike."""

from collections.abc import Callable

import pytest

from federation.relay.h2 import wire
from federation.relay.h2.connection import Connection, streams_of
from federation.relay.h2.service import SwitchLimits
from federation.relay.h2.wire import Broken
from tests.federation.relay.h2.rig import BIG_BYTES, CALL, rig


async def test_settings_change_what_is_sent() -> None:
    async with rig(modes=("big",)) as r:
        client = await r.client()
        client.write(wire.settings(((4, 1 << 24), (5, 1 << 20))) + wire.window_update(0, 1 << 24))
        client.write(CALL)
        assert (await client.outcome()).status == 0
        assert len(client.body(1)) == BIG_BYTES
        assert max(len(f.payload) for f in client.of(wire.DATA)) <= 1 << 16
        blocks = [f.payload for f in client.of(wire.HEADERS)]
        assert blocks[0][:1] == b"\x20"  # "we index nothing": once after each SETTINGS
        assert blocks[1][:1] != b"\x20"


async def test_pings_are_answered() -> None:
    async with rig() as r:
        client = await r.client()
        client.write(wire.frame(wire.PING, 0, 0, b"12345678"))
        await client.until(lambda: bool(client.of(wire.PING)))
        assert client.of(wire.PING)[0].payload == b"12345678"
        assert client.of(wire.PING)[0].flags == wire.ACK


async def test_the_connections_window_is_bounded() -> None:
    async with rig(limits=SwitchLimits(connection_window=100_000)) as r:
        connection = Connection(r.switch)
        connection.charge(20_000)
        assert not r.switch.dirty
        connection.charge(20_000)  # a quarter: given back at once
        assert r.switch.dirty == [connection]
        with pytest.raises(Broken):
            connection.charge(100_001)
        assert streams_of(connection) == []
        r.switch.flush()


async def test_a_bare_connection_knows_no_streams() -> None:
    async with rig() as r:
        connection = Connection(r.switch)
        calls: tuple[Callable[[], None], ...] = (
            lambda: connection.on_block(1, b"", ended=False),
            lambda: connection.on_data(1, b"", 0, ended=False),
            lambda: connection.on_reset(1, 0),
            lambda: connection.on_goaway(1, 0),
            lambda: connection.on_window(1, 1),
            lambda: connection.end(""),
            connection.on_settings_taken,
        )
        for call in calls:
            with pytest.raises(NotImplementedError):
                call()
