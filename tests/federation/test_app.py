import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from federation.app import main
from federation.contract.errors import Conflict, Invalid
from tests.fakes.control_plane import operator, running

PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """`main` sets up the logs of its process, which here is the one of all tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(logging.NOTSET)
    logging.getLogger("aiohttp.access").setLevel(logging.NOTSET)


class Process:
    """`python -m federation` on any free ports."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.url = ""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # `end` closes it
        listen = ["--http-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"]
        command = [sys.executable, "-m", "federation", "--state-dir", str(state_dir), *listen]
        self.process = subprocess.Popen(command, stderr=self._stderr)

    async def until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for line in self._said().splitlines():
                if '"listening"' in line and line.endswith("}"):
                    self.url = f"https://{json.loads(line)['http']}"
            if self.url:
                async with self.session() as session, session.get(f"{self.url}/readyz") as answer:
                    if answer.status == 200:
                        return
            assert self.process.poll() is None, self.end()
            await asyncio.sleep(0.02)
        raise AssertionError("not ready in time")

    def _said(self) -> str:
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode()

    def session(self, **settings: Any) -> aiohttp.ClientSession:
        """Return a session that trusts the roots which the process wrote down."""
        context = ssl.create_default_context(cafile=str(self.state_dir / "ca.pem"))
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), **settings)

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send a signal, if any, and return the exit code and what was said on stderr."""
        if number is not None:
            self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            said = self._said()
            self._stderr.close()
        return self.process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_starts_serves_and_stops_when_asked(tmp_path: Path, number: int) -> None:
    process = Process(tmp_path / "state")
    await process.until_ready()
    secrets = ("admin.token", "pepper", "links.key", "release/key.pem", "ca/root-0001.key")
    for name in secrets:
        assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == 0o600
    token = (tmp_path / "state" / "admin.token").read_text().strip()
    url = f"{process.url}/api/v1/clusters"
    async with (
        process.session(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(f"{url}?watch=true"),
        session.get(url) as listed,
    ):
        assert (await listed.json())["kind"] == "ClusterList"
        started = time.monotonic()
        code, said = await asyncio.to_thread(process.end, number)
    assert code == 0, said
    assert time.monotonic() - started < 10
    assert "Traceback" not in said
    assert token not in said


async def test_two_processes_do_not_share_a_state_directory(tmp_path: Path) -> None:
    first = Process(tmp_path)
    await first.until_ready()
    code, said = await asyncio.to_thread(Process(tmp_path).end)
    assert code == 1
    assert "uses the state directory" in said
    assert said.count("\n") == 1
    assert first.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("flag", ["--http-listen", "--grpc-listen"])
def test_a_port_in_use_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        arguments = ["--state-dir", str(tmp_path), flag, taken]
        other = "--grpc-listen" if flag == "--http-listen" else "--http-listen"
        assert main([*arguments, other, "127.0.0.1:0", "--store", "memory"]) == 1
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert taken in lines[0]
    assert "in use" in lines[0]
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--state-dir"),
        (["--state-dir", "x", "--trust-domain", "No_Domain"], "No_Domain"),
        (["--state-dir", "x", "--name", "a.b"], "a.b"),
        (["--state-dir", "x", "--leaf-seconds", "0"], "--leaf-seconds"),
        (["--state-dir", "x", "--renew-grace-days", "-1"], "--renew-grace-days"),
        (["--state-dir", "x", "--http-listen", "nowhere"], "HOST:PORT"),
        (["--state-dir", "x", "--http-listen", "127.0.0.1:99999"], "HOST:PORT"),
        (["--state-dir", "x", "--store", "paper"], "store"),
        (["--state-dir", "x", "--lease-seconds", "1"], "two report intervals"),
        (["--state-dir", "x", "--lease-seconds", "0"], "at least 1"),
        (["--state-dir", "x", "--log-level", "loud"], "loud"),
    ],
)
def test_bad_settings(
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_an_unusable_state_directory_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert main(["--state-dir", str(tmp_path / "file" / "state")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


async def test_packages_lie_where_they_shall(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    async with (
        running(tmp_path / "a", store_url=str(elsewhere)) as plane,
        operator(plane) as api,
    ):
        assert (await api.push("m")).status == 201
    assert list((elsewhere / "packs").iterdir())
    assert not (tmp_path / "a" / "artifacts").exists()
    with pytest.raises(Invalid, match="no store"):
        async with running(tmp_path / "b", store_url="nope://x"):
            pass


async def test_what_was_pushed_outlives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        pushed = (await api.push("m")).json
        keys = (await api.call("GET", "/api/v1/trust")).json["releaseKeys"]
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        assert (await api.call("GET", "/api/v1/trust")).json["releaseKeys"] == keys
        again = await api.push("m")
        assert (again.json["digest"], again.json["created"]) == (pushed["digest"], False)
        verified = await api.call("POST", "/api/v1/models/m/versions/1/verify")
        assert verified.json["damage"] == []


async def test_two_control_planes_live_in_one_process(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a") as first,
        running(tmp_path / "b") as second,
        operator(first) as api,
        operator(second) as other,
    ):
        await api.register("a")
        assert len((await api.call("GET", "/api/v1/clusters")).json["items"]) == 1
        assert (await other.call("GET", "/api/v1/clusters")).json["items"] == []


async def test_plain_http_is_not_spoken(tmp_path: Path) -> None:
    async with running(tmp_path) as plane, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://{plane.http_address}/healthz")


async def test_clients_may_dial_by_the_names_that_were_allowed(tmp_path: Path) -> None:
    async with running(tmp_path, allowed_hosts=("fed.example.com",)) as plane:
        _, trust = plane.keyring.credentials.require()
        context = ssl.create_default_context(cadata=trust.bundle)
        for name in ("fed.example.com", "control-plane.federation.internal", "localhost"):
            async with aiohttp.ClientSession() as session:
                url = f"https://{plane.http_address}/healthz"
                async with session.get(url, ssl=context, server_hostname=name) as answer:
                    assert answer.status == 200


async def test_the_trust_domain_is_for_good(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    with pytest.raises(Invalid, match="trust domain"):
        async with running(tmp_path, trust_domain="other.test"):
            pass


async def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        await api.register("a")
        await api.push("m")
        before = (await api.call("GET", "/api/v1/models/m")).json
        with pytest.raises(Conflict, match="state directory"):
            async with running(tmp_path, store="sqlite"):
                pass
    async with running(tmp_path, store="sqlite") as plane, operator(plane) as api:
        assert (await api.call("GET", "/api/v1/models/m")).json == before
        assert (await api.call("GET", "/api/v1/clusters/a")).status == 200
