"""Workers split off in a process that has no thread and no loop, as a keeper has none yet."""

import subprocess
import sys

SCRIPT = """
import asyncio, contextlib, os, signal, sys
from router.settings import Settings
from router.workers.places import Doors, hold
from router.workers.splitting import split_off

settings = Settings(control_plane="127.0.0.1:1", reverse_listen="127.0.0.1:0")
with (
    contextlib.closing(hold("127.0.0.1:0")) as place,
    contextlib.closing(Doors(settings, 3)) as doors,
):
    with split_off(3, place, doors) as begun:
        first, second, third = (one.process for one in begun)
        assert repr(first) == f"Part({first.pid}, runs)"
        begun[0].link.close()  # its keeper is gone: it ends, whoever was split off later
        assert asyncio.run(first.wait()) == 0
        assert second.returncode is None and third.returncode is None
        second.kill()
        assert asyncio.run(second.wait()) == -signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            second.kill()
            raise AssertionError("it had ended")
    assert third.returncode == -signal.SIGKILL
    assert doors.sockets[1].fileno() >= 0 and place.held.fileno() >= 0
with contextlib.suppress(ChildProcessError):
    os.waitpid(-1, os.WNOHANG)
    raise AssertionError("somebody is left")
print("fine")
"""


def test_they_wait_for_their_keeper_and_end_with_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
