"""A real Triton server for tests: the fixture `triton_server`, one per test session.

A pytest plugin, see tests/conftest.py. Tests that break the server start one of their own with
`TritonServer`.
"""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from federation.demo.fetch import FetchFailed
from federation.demo.triton_install import (
    TritonInstallation,
    TritonPorts,
    TritonUnavailable,
    ensure_triton,
)
from tests.engines.ports import free_block
from tests.engines.process import EngineProcess, log_tail, refuse_or_skip


class TritonServer:
    """One server with an empty repository; `start` again after `kill` takes the same ports."""

    def __init__(
        self,
        installation: TritonInstallation,
        folder: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`environ` are variables that its models see."""
        self._environ = dict(environ or {})
        self.repository = folder / "models"
        self.repository.mkdir(parents=True)
        self._installation = installation
        self._log = folder / "triton.log"
        self._process: EngineProcess | None = None
        self._first_port = 0

    @property
    def url(self) -> str:
        """The base URL of the HTTP API."""
        return f"http://127.0.0.1:{self._first_port}"

    @property
    def metrics_url(self) -> str:
        """The page of its metrics."""
        return f"http://127.0.0.1:{self._first_port + 2}/metrics"

    @property
    def address(self) -> str:
        """The HTTP address as tritonclient wants it."""
        return f"127.0.0.1:{self._first_port}"

    def start(self) -> None:
        """Start and wait until it is live."""
        for _ in range(3):
            self._first_port = self._first_port or free_block(3)
            http = self._first_port
            command = self._installation.command(
                self.repository, TritonPorts(http=http, grpc=http + 1, metrics=http + 2)
            )
            environment = self._installation.environment({**os.environ, **self._environ})
            self._process = EngineProcess(command, environment, self._log)
            if self._process.wait_until(self._is_live, limit_s=30):
                return
            self.kill()
            self._first_port = 0  # perhaps someone else took a port in between
        raise RuntimeError(f"tritonserver did not start:\n{self.tail()}")

    @property
    def pid(self) -> int:
        """Its process; its models are children of it."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it and its models at once."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def stubs(self) -> list[int]:
        """Return the processes that run the models."""
        assert self._process is not None
        found = []
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            children = (task / "children").read_text().split()
            found += [int(child) for child in children]
        return found

    def tail(self) -> str:
        """Return the end of its log."""
        return log_tail(self._log)

    def _is_live(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v2/health/live", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="session")
def triton_installation() -> TritonInstallation:
    """The installed server, fetched into the user's cache the first time."""
    try:
        return ensure_triton()
    except (TritonUnavailable, FetchFailed) as error:
        refuse_or_skip(error.sentence())


@pytest.fixture(scope="session")
def triton_server(
    triton_installation: TritonInstallation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A running server that the whole session shares: do not break it."""
    server = TritonServer(triton_installation, tmp_path_factory.mktemp("triton"))
    server.start()
    yield server
    server.kill()
