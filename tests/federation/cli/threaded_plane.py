"""A real control plane over HTTPS in a thread of its own, for commands that run in the test's."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from federation.app import ControlPlane
from tests.fakes.control_plane import running


@dataclass(frozen=True, slots=True)
class Threaded:
    """A running control plane and its state directory."""

    plane: ControlPlane
    state_dir: Path

    @property
    def url(self) -> str:
        """Where its operator API is."""
        return f"https://{self.plane.http_address}"

    @property
    def pin(self) -> str:
        """The pin of the root that signs."""
        authority = self.plane.keyring.authority
        return authority.roots[authority.signing].pin


@contextmanager
def threaded(state_dir: Path) -> Iterator[Threaded]:
    """Run a control plane until the context ends."""
    started, ended = threading.Event(), asyncio.Event()
    planes: list[ControlPlane] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with running(state_dir) as plane:
            planes.append(plane)
            started.set()
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(20)
        assert planes, "the control plane did not start"
        yield Threaded(planes[0], state_dir)
    finally:
        if planes and not loops[0].is_closed():
            loops[0].call_soon_threadsafe(ended.set)
        thread.join(20)
        assert not thread.is_alive(), "the control plane did not stop"
