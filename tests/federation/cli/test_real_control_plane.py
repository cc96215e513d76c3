"""`fed` against the real control plane, as processes: this keeps the fake one honest."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.federation.cli.test_packages import MODEL_YAML

FED = [sys.executable, "-c", "import sys; from federation.cli import main; sys.exit(main())"]


@contextmanager
def control_plane(state: Path, listen: str = "127.0.0.1:0") -> Iterator[tuple[str, int]]:
    """Run a control plane; yields its address and its pid."""
    command = [sys.executable, "-m", "federation", "--state-dir", str(state)]
    command += ["--http-listen", listen, "--grpc-listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            line = next(text for text in process.stderr if '"listening"' in text)
            yield json.loads(line)["http"], process.pid
        finally:
            process.terminate()


class Shell:
    """Runs `fed` with its own file of contexts."""

    def __init__(self, folder: Path) -> None:
        self.env = {"PATH": os.environ["PATH"], "FED_CONFIG": str(folder / "config.yaml")}

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run to the end and return stdout; the exit code must be `code`."""
        done = subprocess.run(
            [*FED, *words], env=self.env, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    @contextmanager
    def running(self, *words: str) -> Iterator["subprocess.Popen[str]"]:
        """Start, yield the process, and see to it that it ends."""
        started = subprocess.Popen([*FED, *words], env=self.env, stdout=subprocess.PIPE, text=True)
        with started:
            try:
                yield started
            finally:
                started.kill()


def next_name(watching: "subprocess.Popen[str]") -> str:
    """Return the name of the object in the next line that a watch prints."""
    assert watching.stdout
    name: str = json.loads(watching.stdout.readline())["object"]["metadata"]["name"]
    return name


def use(fed: Shell, state: Path, address: str) -> None:
    told = fed("login", f"https://{address}", "--state-dir", str(state), "--context", "t")
    assert "admin/local (admin)" in told


def test_the_life_of_a_fleet(tmp_path: Path) -> None:
    fed, state, package = Shell(tmp_path), tmp_path / "state", tmp_path / "package"
    package.mkdir()
    (package / "model.yaml").write_text(MODEL_YAML)
    (package / "model.onnx").write_bytes(b"onnx" * 100_000)
    with control_plane(state) as (address, _):
        use(fed, state, address)
        assert "control-plane 0" in fed("version")
        assert fed("region", "create", "eu", "--location", "53.3,-6.3") == "region/eu created\n"
        fed("cluster", "register", "eu-1", "--region", "nowhere", code=3)
        joined = fed("cluster", "register", "eu-1", "--region", "eu", "--label", "tier=gold")
        assert "fed-edge-agent --cluster eu-1" in joined
        fed("cluster", "register", "eu-1", "--region", "eu", code=5)
        fed("cluster", "register", "eu-1", "--rejoin")
        spec = json.loads(fed("get", "cluster", "eu-1", "-o", "json"))["spec"]
        assert (spec["region"], spec["labels"]) == ("eu", {"tier": "gold"})
        assert "its agent has not joined" in fed("get", "clusters")
        assert "version 1" in fed("model", "push", str(package))
        assert "exists" in fed("model", "push", str(package))
        fed("model", "alias", "filetype", "champion", "1")
        fed("deploy", "filetype@champion", "--regions", "eu")
        fed("deploy", "filetype", "--wait", "--timeout", "0.5s", code=7)
        assert "1 (champion)" in fed("get", "deployments")
        assert "DeploymentCreated" in fed("describe", "deployment", "filetype")
        document = tmp_path / "deployment.yaml"
        document.write_text(fed("get", "dep", "filetype", "-o", "yaml"))
        assert fed("apply", "-f", str(document)) == "deployment/filetype unchanged\n"
        document.write_text(document.read_text().replace("replicas: 1", "replicas: 2"))
        assert "+  replicas: 2" in fed("diff", "-f", str(document), code=8)
        fed("apply", "-f", str(document), "--dry-run=server")
        assert fed("apply", "-f", str(document)) == "deployment/filetype configured\n"
        fed("route", "explain", "--model", "filetype", "--from", "203.0.113.7", code=6)
        fed("cluster", "cordon", "eu-1")
        assert "cordoned" in fed("get", "clusters")
        fed("cluster", "drain", "eu-1", "--wait", "--timeout", "5s")
        fed("delete", "region", "eu", code=5)
        fed("get", "clusters", "--token-file", "/dev/null", code=1)
        assert "cluster/eu-1 deleted" in fed("cluster", "remove", "eu-1")
        assert "ClusterRegistered" in fed("events")
    fed("get", "clusters", code=6)


def test_a_push_that_is_killed_twice_sends_each_chunk_once(tmp_path: Path) -> None:
    fed, state, package = Shell(tmp_path), tmp_path / "state", tmp_path / "package"
    package.mkdir()
    (package / "model.yaml").write_text(MODEL_YAML)
    size = 24 << 20
    (package / "model.onnx").write_bytes(random.Random(0).randbytes(size))
    with control_plane(state) as (address, _):
        use(fed, state, address)
        words = ("model", "push", str(package), "--no-compress")
        for part in (size // 5, size // 2):
            with fed.running(*words) as pushing:
                until_stored(state / "artifacts", part)
                pushing.kill()
        settled = until_quiet(state / "artifacts")
        told = json.loads(fed(*words, "-o", "json"))
        assert told["version"] == 1
        # Each chunk is there once: what the last push sent is what the others had not.
        assert told["newBytes"] + settled == pytest.approx(told["size"], abs=100_000)
        assert told["newBytes"] < size // 2 + (8 << 20)
        packs = stored(state / "artifacts" / "packs")
        assert packs == pytest.approx(told["size"], abs=100_000)
        fed("model", "pull", "filetype", str(tmp_path / "pulled"))
        assert "0 B of" in fed("model", "diff", "filetype@1", "filetype")
        assert "is whole" in fed("model", "verify", "filetype")
    for name in ("model.yaml", "model.onnx"):
        assert (tmp_path / "pulled" / name).read_bytes() == (package / name).read_bytes()


def stored(folder: Path) -> int:
    """Return the bytes of all files below a folder, which may change meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def until_stored(folder: Path, size: int) -> None:
    deadline = time.monotonic() + 30
    while stored(folder) < size:
        assert time.monotonic() < deadline, stored(folder)
        time.sleep(0.005)


def until_quiet(folder: Path) -> int:
    """Wait until nothing is half-written any more; return the bytes of what is stored."""
    deadline = time.monotonic() + 30
    while any((folder / "incoming").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    return stored(folder / "packs")


def test_a_stranger_is_refused(tmp_path: Path) -> None:
    fed, state, token = Shell(tmp_path), tmp_path / "state", tmp_path / "token"
    token.write_text("fed_admin_local_" + "x" * 43)
    with control_plane(state) as (address, _):
        known = ["--endpoint", f"https://{address}", "--ca-file", str(state / "ca.pem")]
        for more in ([], ["--token-file", str(token)]):
            fed("get", "clusters", *known, *more, code=4)
        fed("get", "clusters", "--endpoint", f"https://{address}", code=4)
        fed("get", "clusters", "--endpoint", f"http://{address}", code=6)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_watch_outlives_a_restart_of_the_control_plane(tmp_path: Path, how: int) -> None:
    fed, state = Shell(tmp_path), tmp_path / "state"
    with ExitStack() as stack:
        with control_plane(state) as (address, pid):
            use(fed, state, address)
            fed("region", "create", "before", "--location", "1,1")
            watching = stack.enter_context(fed.running("get", "regions", "-w", "-o", "json"))
            assert next_name(watching) == "before"
            os.kill(pid, how)
        stack.enter_context(control_plane(state, address))
        fed("region", "create", "after", "--location", "2,2")
        while next_name(watching) != "after":
            pass
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=10) == 130
