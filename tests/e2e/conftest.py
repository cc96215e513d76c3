"""One running demo for the tests of a module: the real thing, started with `fed demo`."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FED = Path(sys.executable).with_name("fed")
START_S = 300


@dataclass(frozen=True)
class RunningDemo:
    """Addresses of a running demo, and `fed` as its user runs it."""

    state: dict[str, Any]
    environ: dict[str, str]

    @property
    def routers(self) -> list[str]:
        return [router["url"] for router in self.state["routers"]]

    @property
    def key(self) -> str:
        """The demo's own key for inference."""
        return Path(self.state["inference_key"]).read_text("ascii")

    def router_tls(self) -> ssl.SSLContext:
        """TLS as a router speaks it: only so does a gateway let anybody in."""
        identity = Path(self.state["directory"]) / "router-eu" / "identity" / "identity.pem"
        context = ssl.create_default_context(cafile=self.state["ca_file"])
        context.load_cert_chain(identity)
        context.check_hostname = False
        return context

    def site(self, engine: str) -> dict[str, str]:
        return next(site for site in self.state["sites"] if site["engine"] == engine)

    def fed(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FED, *words],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="module")
def running_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    with demo_started_by([str(FED), "demo"], tmp_path_factory.mktemp("runtime")) as demo:
        yield demo


@contextmanager
def demo_started_by(command: list[str], folder: Path, **environ: str) -> Iterator[RunningDemo]:
    """Run `command` until the demo that it starts is ready; end it with Ctrl-C."""
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(folder), **environ}
    log = folder / "demo.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            demo = RunningDemo(*_wait(folder, process, log, environ))
            yield demo
        finally:
            for note in folder.glob("fed-demo-*.json"):
                os.kill(json.loads(note.read_text())["pid"], signal.SIGINT)
            code = process.wait(60)
        assert code == 0, log.read_text()


def _wait(
    folder: Path, process: subprocess.Popen[bytes], log: Path, environ: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Wait until the demo has written the configuration for `fed`: its last step."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        for note in folder.glob("fed-demo-*.json"):
            state = json.loads(note.read_text())
            if Path(state["fed_config"]).exists():
                return state, {**environ, "FED_CONFIG": state["fed_config"]}
        time.sleep(0.2)
    pytest.fail(f"the demo did not start:\n{log.read_text()}")
