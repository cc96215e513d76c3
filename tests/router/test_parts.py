import asyncio
import contextlib
import os
import random
import signal
from pathlib import Path

import msgspec

from federation.runtime.clock import SystemClock
from router import parts
from router.settings import Settings
from router.state import RouterState
from tests.router.fakes import eventually, make_snapshot


def test_where_clients_reach_a_router() -> None:
    assert parts.join(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert parts.join(("::1", 80)) == "[::1]:80"
    assert parts.url(Settings(), ("127.0.0.1", 80)) == "http://127.0.0.1:80"
    assert parts.url(Settings(tls_certificate="c"), ("::1", 80)) == "https://[::1]:80"
    assert parts.url(Settings(advertise_url="https://x"), ("::1", 80)) == "https://x"


async def test_a_hangup_has_the_table_read_again_and_a_bad_one_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    state = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0))
    settings = Settings(table=str(path))
    path.write_bytes(msgspec.json.encode(make_snapshot({"eu-1": "http://h:1"})))
    parts.read_table(settings, state)
    with parts.hangups() as hung_up:
        following = asyncio.get_running_loop().create_task(
            parts.follow_table(settings, state, hung_up.table)
        )
        for text, version in (("{", 1), (msgspec.json.encode(make_snapshot({}, version=2)), 2)):
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            os.kill(os.getpid(), signal.SIGHUP)
            await eventually(lambda: hung_up.certificate.is_set() and not hung_up.table.is_set())
            hung_up.certificate.clear()
            await eventually(lambda: state.require_table().version == version)  # noqa: B023
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
