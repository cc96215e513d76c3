import asyncio
import json
import random
import signal
import socket
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec

from federation.contract.access import Access
from federation.contract.spiffe import PeerRole
from router.app import Addresses, serve
from router.membership import tablefile
from router.membership.watch import SNAPSHOT_FILE
from router.policy import table as tables
from router.settings import Settings
from tests.engines.ports import free_block
from tests.pki import credentials_for, make_authority
from tests.router.fakes import FakeGateway, eventually, gateways, make_snapshot, router_for
from tests.router.processes import finished, infer, router_process


async def test_it_runs_by_a_file_alone_and_reads_it_again_on_sighup(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    async with gateways("eu-1", "us-1") as fakes:
        path.write_bytes(msgspec.json.encode(make_snapshot({"eu-1": fakes["eu-1"].url})))
        async with router_process("--table", str(path), "--allow-anonymous") as router:
            assert await infer(router.url) == (200, "eu-1")
            path.write_text("version: 2\nmodel: []\n")
            router.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.3)
            assert await infer(router.url) == (200, "eu-1")
            after = make_snapshot({"us-1": fakes["us-1"].url}, version=2)
            path.write_bytes(msgspec.json.encode(after))
            router.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(15):
                while await infer(router.url) != (200, "us-1"):
                    await asyncio.sleep(0.05)
            router.process.terminate()
            _, stderr = await router.process.communicate()
            assert router.process.returncode == 0
            lines = [json.loads(line) for line in stderr.decode().splitlines()]
            told = [line["msg"] for line in lines if line["level"] == "error"]
            assert len(told) == 1
            assert "line 2: unknown key 'model'" in told[0]
            assert any("compiled reader" in line["msg"] for line in lines)


async def test_it_restarts_from_disk_without_a_control_plane(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    state = tmp_path / "state"
    credentials_for(authority, PeerRole.ROUTER, "r1", directory=state / "identity")
    nowhere = free_block(1)
    argv = (
        *("--control-plane", f"127.0.0.1:{nowhere}", "--name", "r1"),
        *("--control-plane-url", f"https://127.0.0.1:{nowhere}"),
        *("--state-dir", str(state), "--reverse-listen", "127.0.0.1:0"),
        "--allow-anonymous",
    )
    async with gateways("eu-1", authority=authority) as fakes:
        access = Access(pepper="5ec2e7")
        snapshot = replace(make_snapshot({"eu-1": fakes["eu-1"].url}, version=9), access=access)
        tablefile.save(state / SNAPSHOT_FILE, snapshot)
        async with router_process(*argv) as router:
            assert await infer(router.url) == (200, "eu-1")
            router.process.terminate()
            _, stderr = await router.process.communicate()
            assert router.process.returncode == 0
            assert b"5ec2e7" not in stderr


async def test_a_router_that_has_not_joined_says_what_it_waits_for(tmp_path: Path) -> None:
    nowhere = free_block(1)
    token = tmp_path / "token"
    token.write_text("fed_routerjoin_r1_verysecret")
    argv = (
        *("--control-plane", f"127.0.0.1:{nowhere}", "--name", "r1", "--reverse-listen", ""),
        *("--control-plane-url", f"https://127.0.0.1:{nowhere}", "--join-token-file", str(token)),
        *("--ca-pin", "sha256:" + "0" * 64, "--state-dir", str(tmp_path / "state")),
        "--allow-anonymous",
    )
    async with router_process(*argv, until=503) as router, aiohttp.ClientSession() as session:
        for url in (router.admin + "/readyz", router.url + "/v2/health/ready"):
            async with session.get(url) as response:
                text = await response.text()
                assert (response.status, "has not joined the federation yet" in text) == (503, True)
        async with asyncio.timeout(15):
            while True:
                async with session.get(router.admin + "/readyz") as response:
                    if "cannot reach the control plane" in await response.text():
                        break
        router.process.terminate()
        _, stderr = await router.process.communicate()
        assert b"verysecret" not in stderr


async def test_a_graceful_stop_finishes_what_is_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    async with gateways("eu-1") as fakes:
        fakes["eu-1"].delay_s = 0.7
        path.write_bytes(msgspec.json.encode(make_snapshot({"eu-1": fakes["eu-1"].url})))
        async with router_process("--table", str(path), "--allow-anonymous") as router:
            running = [asyncio.get_running_loop().create_task(infer(router.url)) for _ in range(5)]
            await eventually(lambda: fakes["eu-1"].inferences == 5)
            router.process.terminate()
            assert await asyncio.gather(*running) == [(200, "eu-1")] * 5
            async with asyncio.timeout(15):
                assert await router.process.wait() == 0


async def test_what_keeps_it_from_running_is_one_sentence(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_bytes(msgspec.json.encode(make_snapshot({"eu-1": "http://127.0.0.1:1"})))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = await finished(
            *("--table", str(table), "--listen", f"127.0.0.1:{port}"),
            *("--admin-listen", "127.0.0.1:0"),
        )
        assert code == 1
        last = text.splitlines()[-1]
        assert last.startswith(f"fed-router: 127.0.0.1:{port} is in use by another process.")
    ports = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
    cases = (
        (("--table", str(tmp_path / "none")), "Cannot read"),
        ((), "--control-plane or --table"),
        (
            ("--control-plane", "h:1", "--state-dir", str(tmp_path)),
            "has not joined yet, and there is no join token. Give --join-token-file and --ca-pin",
        ),
        (("--table", str(table), "--location", "here"), "is no place"),
        (("--table", str(table), "--connect-to", "x"), "--connect-to 'x' is not understood"),
    )
    ended = await asyncio.gather(*(finished(*argv, *ports) for argv, _ in cases))
    for (code, text), (_, words) in zip(ended, cases, strict=True):
        assert (code, "Traceback" in text) == (2, False)
        assert words in text.splitlines()[-1]


async def test_several_routers_live_in_one_process(tmp_path: Path) -> None:
    stop, ready = asyncio.Event(), asyncio.Queue[Addresses]()
    authority = make_authority(tmp_path)
    async with gateways("eu-1", authority=authority) as fakes, asyncio.TaskGroup() as group:
        for name in ("a", "b", "c"):
            state = tmp_path / name
            credentials_for(authority, PeerRole.ROUTER, name, directory=state / "identity")
            tablefile.save(state / SNAPSHOT_FILE, make_snapshot({"eu-1": fakes["eu-1"].url}))
            settings = Settings(
                name=name,
                control_plane="127.0.0.1:1",
                control_plane_url="https://127.0.0.1:1",
                state_dir=str(state),
                reverse_listen="127.0.0.1:0",
                allow_anonymous=True,
                listen="127.0.0.1:0",
                admin_listen="127.0.0.1:0",
            )
            group.create_task(serve(settings, stop=stop, on_listening=ready.put_nowait))
        for _ in range(3):
            (host, port), _ = await ready.get()
            assert await infer(f"http://{host}:{port}") == (200, "eu-1")
        stop.set()


async def test_churn_costs_no_request() -> None:
    """Clusters die, return, come and go in the table, while clients keep asking."""
    names = ("eu-1", "eu-2", "us-1", "ap-1")
    async with gateways(*names) as fakes:
        urls = {name: fake.url for name, fake in fakes.items()}
        async with router_for(urls) as router:
            statuses: list[int] = []
            churning = True

            async def client() -> None:
                while churning:
                    statuses.append((await router.infer(body=b"{}" * 100))[0])

            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(client())
                await _churn(fakes, urls, router.state.swap)
                churning = False
            assert len(statuses) > 100
            assert set(statuses) == {200}


async def _churn(fakes: dict[str, FakeGateway], urls: dict[str, str], swap: object) -> None:
    dice = random.Random(5)
    for version in range(2, 12):
        victim = fakes[dice.choice(list(fakes))]
        await victim.kill()
        await asyncio.sleep(0.05)
        kept = {name: url for name, url in urls.items() if name != dice.choice(list(urls))}
        swap(tables.build(make_snapshot(kept, version=version)))  # type: ignore[operator]
        await asyncio.sleep(0.05)
        await victim.start()
