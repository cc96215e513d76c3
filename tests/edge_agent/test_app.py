"""A whole agent over the fake engine, with a real control plane; and the process around it."""

import asyncio
import hashlib
import json
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_agent.app import Addresses, main, serve
from edge_agent.backends.fake import FakeBackend, FakeEngine
from edge_agent.settings import Settings
from federation.app import ControlPlane
from federation.contract.errors import Conflict
from federation.contract.spiffe import PeerId, PeerRole
from federation.trust.credentials import Credentials
from tests.engines.ports import free_block
from tests.fakes.control_plane import Operator, operator, running
from tests.fakes.enrolling import EnrollingPlane
from tests.pki import TRUST_DOMAIN, credentials_for, make_authority


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    engine = FakeEngine()
    await engine.start()
    yield engine
    await engine.stop()


@asynccontextmanager
async def agent(settings: Settings, engine: FakeEngine) -> AsyncIterator[Addresses]:
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.get_running_loop().create_task(
        serve(
            settings,
            stop=stop,
            backend=FakeBackend(engine),
            on_listening=listening.set_result,
        )
    )
    await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if listening.done():
            yield listening.result()
    finally:
        stop.set()
        await task


async def eventually(look: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await look():
            await asyncio.sleep(0.05)


def settings_for(folder: Path, **more: Any) -> Settings:
    values: dict[str, Any] = {
        "cluster": "eu",
        "state_dir": str(folder / "agent"),
        "join_token_file": str(folder / "token"),
        "ca_pin": "sha256:" + "0" * 64,
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "inventory_file": str(folder / "devices.json"),
    }
    (folder / "devices.json").write_text('{"devices": [{"product": "T4", "memory_mib": 15360}]}')
    return Settings(**(values | more))


async def settings_to_join(
    folder: Path, plane: ControlPlane, api: Operator, **more: Any
) -> Settings:
    """Register the cluster; return the settings with which its agent joins."""
    (folder / "token").write_text(await api.register("eu"))
    roots = plane.keyring.credentials.require()[1].roots
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(roots[0])).hexdigest()
    return settings_for(
        folder,
        control_plane=plane.grpc_address,
        control_plane_url=f"https://{plane.http_address}",
        ca_pin=f"sha256:{digest}",
        **more,
    )


async def ask(port: int, credentials: Credentials, server: str, path: str) -> tuple[int, Any]:
    """Ask a gateway as a router does."""
    context = credentials.client_context()
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            "POST" if path.endswith("infer") else "GET",
            f"https://127.0.0.1:{port}{path}",
            json={"inputs": []} if path.endswith("infer") else None,
            ssl=context,
            server_hostname=server,
        ) as response,
    ):
        return response.status, await response.json()


async def status_of(api: Operator) -> Any:
    return (await api.call("GET", "/api/v1/clusters/eu")).json["status"]


async def test_from_a_join_token_to_an_answer(tmp_path: Path, engine: FakeEngine) -> None:
    async with running(tmp_path / "plane") as plane, operator(plane) as api:
        settings = await settings_to_join(tmp_path, plane, api)
        pushed = await api.push("echo")
        assert pushed.status == 201, pushed.body
        deployed = await api.put("Deployment", "echo", {"model": "echo"})
        assert deployed.status in (200, 201), deployed.body
        async with agent(settings, engine) as (gateway, admin):
            assert gateway

            async def warm() -> bool:
                models = (await status_of(api))["models"]
                return bool(models == {"warm": 1, "assigned": 1, "staged": 0})

            await eventually(warm)
            status = await status_of(api)
            assert (status["ready"], status["gpus"]) == (True, 1)
            assert status["url"] == f"https://127.0.0.1:{gateway[1]}"
            router = await api.member("r1", PeerRole.ROUTER)
            domain = router.require()[1].trust_domain
            name = PeerId(domain, PeerRole.CLUSTER, "eu").dns_name
            path = "/v2/models/echo/versions/1/infer"
            answered, document = await ask(gateway[1], router, name, path)
            assert (answered, document["model_name"]) == (200, "echo")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{admin[1]}/readyz") as response:
                    facts = await response.json()
                    assert facts["link"]["state"] == "joined"
                    assert facts["certificate"]["identity"] == f"spiffe://{domain}/cluster/eu"
                async with session.get(f"http://127.0.0.1:{admin[1]}/metrics") as response:
                    page = await response.text()
                    assert "fed_agent_loads_total 1.0" in page
                    assert "fed_gateway_requests_total" in page
        assert set(engine.models) == {("echo", 1)}, "the agent's end unloads nothing"
        async with agent(settings, engine):

            async def back() -> bool:
                now = await status_of(api)
                return bool(now["lease"]["epoch"] > status["lease"]["epoch"]) and await warm()

            await eventually(back)
    assert engine.loads == {("echo", 1): 1}


async def test_what_was_undeployed_is_unloaded(tmp_path: Path, engine: FakeEngine) -> None:
    async with running(tmp_path / "plane") as plane, operator(plane) as api:
        settings = await settings_to_join(tmp_path, plane, api)
        await api.push("echo")
        await api.put("Deployment", "echo", {"model": "echo"})
        async with agent(settings, engine):

            async def loaded() -> bool:
                return bool(engine.models)

            async def unloaded() -> bool:
                return not engine.models

            await eventually(loaded)
            await api.call("DELETE", "/api/v1/deployments/echo")
            await eventually(unloaded)


async def test_the_link_moves_with_each_renewal(tmp_path: Path, engine: FakeEngine) -> None:
    async with running(tmp_path / "plane", leaf_seconds=2) as plane, operator(plane) as api:
        settings = await settings_to_join(tmp_path, plane, api)
        async with agent(settings, engine):

            async def moved() -> bool:
                answer = await api.call("GET", "/api/v1/clusters/eu")
                if answer.json["status"]["lease"] is None:
                    return False
                epochs.append(answer.json["status"]["lease"]["epoch"])
                return bool(epochs[-1] >= epochs[0] + 4)

            epochs: list[int] = []
            await eventually(moved)
            assert (await status_of(api))["ready"]


async def test_without_a_control_plane_what_it_knew_is_served_from_the_first_second(
    tmp_path: Path, engine: FakeEngine
) -> None:
    authority = make_authority(tmp_path)
    identity = tmp_path / "agent" / "identity"
    credentials_for(authority, PeerRole.CLUSTER, "eu", directory=identity)
    settings = settings_for(
        tmp_path,
        join_token_file="",
        ca_pin="",
        control_plane="127.0.0.1:1",
        control_plane_url="https://127.0.0.1:1",
    )
    router = credentials_for(authority, PeerRole.ROUTER, "r1")
    name = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "eu").dns_name
    async with agent(settings, engine) as (gateway, _):
        assert gateway
        answer = await ask(gateway[1], router, name, "/v2/health/ready")
        assert answer == (200, {"ready": True, "load": {}})


async def test_before_it_joined_it_serves_nobody_and_says_what_it_waits_for(
    tmp_path: Path, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    doors = EnrollingPlane(make_authority(tmp_path))
    await doors.start()
    doors.waiting = True
    (tmp_path / "token").write_text(doors.admit(PeerRole.CLUSTER, "eu"))
    settings = settings_for(
        tmp_path, control_plane="127.0.0.1:1", control_plane_url=doors.url, ca_pin=doors.pin
    )
    router = credentials_for(doors.authority, PeerRole.ROUTER, "r1")
    name = PeerId(TRUST_DOMAIN, PeerRole.CLUSTER, "eu").dns_name
    async with agent(settings, engine) as (gateway, admin):
        assert gateway
        port = gateway[1]

        async def waits() -> bool:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{admin[1]}/readyz") as response,
            ):
                return "operator" in (await response.json())["reason"]

        await eventually(waits)
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(port, router, name, "/v2/health/live")
        doors.waiting = False

        async def serves() -> bool:
            try:
                return (await ask(port, router, name, "/v2/health/live"))[0] == 200
            except aiohttp.ClientConnectorError:
                return False

        await eventually(serves)
    await doors.stop()
    told = [r for r in caplog.records if "An operator has to accept it." in r.getMessage()]
    assert len(told) == 1


async def test_reversed_nothing_listens(tmp_path: Path, engine: FakeEngine) -> None:
    credentials_for(
        make_authority(tmp_path), PeerRole.CLUSTER, "eu", directory=tmp_path / "agent" / "identity"
    )
    settings = settings_for(
        tmp_path, connectivity="reverse", control_plane_url="https://127.0.0.1:1"
    )
    async with agent(settings, engine) as (gateway, admin):
        assert gateway is None
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{admin[1]}/metrics") as response,
        ):
            assert "fed_reverse_connections" in await response.text()


async def test_a_port_in_use_is_one_sentence(tmp_path: Path, engine: FakeEngine) -> None:
    (tmp_path / "token").write_text("fed_join_eu_" + "x" * 32)
    taken = socket.create_server(("127.0.0.1", 0))
    settings = settings_for(tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}")
    with taken, pytest.raises(Conflict, match="in use by another process"):
        await serve(settings, stop=asyncio.Event(), backend=FakeBackend(engine))


@pytest.fixture
def _no_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the logs of this test process as they are."""
    monkeypatch.setattr("edge_agent.app.set_up_logging", lambda *_, **__: None)


@pytest.mark.usefixtures("_no_logging")
@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 2, "--cluster"),
        (["--cluster=eu", "--state-dir={}/s", "--engine=static"], 2, "--join-token-file"),
        (["--cluster=eu", "--state-dir={}/s", "--engine=nope"], 2, "engine"),
        (["--cluster=eu", "--state-dir={}/file/s", "--engine=static"], 1, "state directory"),
    ],
)
def test_a_bad_start_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, words: str
) -> None:
    (tmp_path / "file").write_text("")
    assert main([flag.format(tmp_path) for flag in argv]) == code
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told


def test_a_look_at_the_devices_needs_no_federation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "devices.yaml").write_text("devices: [{product: L4, memory_mib: 23034}]")
    assert main(["inventory", f"--inventory-file={tmp_path}/devices.yaml"]) == 0
    assert "1 GPU can be used." in capsys.readouterr().out
    assert main(["inventory", "--inventory=declared"]) == 2
    assert "needs --inventory-file" in capsys.readouterr().err


async def test_the_process_stops_when_asked(tmp_path: Path) -> None:
    admin = free_block(1)
    (tmp_path / "token").write_text("fed_join_eu_" + "x" * 32)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "edge_agent", "--cluster=eu", f"--state-dir={tmp_path}/s", "--engine=static"),
        *(f"--join-token-file={tmp_path}/token", "--listen=127.0.0.1:0"),
        *("--control-plane-url=https://127.0.0.1:1", f"--ca-pin=sha256:{'0' * 64}"),
        *(f"--admin-listen=127.0.0.1:{admin}", "--control-plane=127.0.0.1:1"),
        *("--engine-url=http://127.0.0.1:1",),
        stderr=asyncio.subprocess.PIPE,
    )
    try:

        async def lives() -> bool:
            async with aiohttp.ClientSession() as session:
                try:
                    async with session.get(f"http://127.0.0.1:{admin}/readyz") as answer:
                        return bool((await answer.json())["engine"]["kind"] == "static")
                except aiohttp.ClientError:
                    return False

        await eventually(lives)
        process.send_signal(signal.SIGTERM)
        _, told = await asyncio.wait_for(process.communicate(), 15)
        assert process.returncode == 0
        lines = [json.loads(line) for line in told.decode().splitlines()]
        assert "the engine keeps its models" in lines[-1]["msg"]
    finally:
        if process.returncode is None:
            process.kill()
