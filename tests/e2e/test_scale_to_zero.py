"""Scale to zero, with real processes and a real Triton: asleep, woken by requests, all answered."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from edge_agent.backends.base import StagedVersion
from tests.e2e.small_federation import SmallFederation, join, small_federation
from tests.engines.triton import TritonServer

DOWN_S = 1.0
QUESTION = {
    "inputs": [{"name": "bytes", "shape": [1, 2048], "datatype": "INT32", "data": [65] * 2048}]
}


@pytest.mark.e2e
@pytest.mark.triton
@pytest.mark.timeout(400)
async def test_a_model_sleeps_and_is_woken(
    tmp_path: Path,
    triton_server: TritonServer,
    filetype_packages: dict[int, StagedVersion],
) -> None:
    package = filetype_packages[2].directory
    async with small_federation(tmp_path, "unused") as made, aiohttp.ClientSession() as session:
        key = await set_up(made, session, triton_server, package)
        ask = Asker(made, session, key)
        assert (await ask.infer(made))[0] == 200  # waits for the first load

        await until_asleep(made, session, triton_server.url)
        shown = await made.fed("get", "deployments")
        assert "asleep" in shown
        assert "the first request wakes it" in shown

        answers = await asyncio.gather(*(ask.infer(made) for _ in range(5)))
        assert [status for status, _ in answers] == [200] * 5
        page = await ask.metrics(made.ports["router-admin"])
        assert metric(page, 'fed_router_wake_ups_total{model="filetype"}') in (1, 2)
        assert metric(page, 'fed_router_held_requests{model="filetype"}') == 0
        async with session.get(f"{made.api}/metrics", ssl=False) as answer:
            told = await answer.text()
        assert metric(told, 'fed_deployment_wake_ups_total{deployment="filetype"}') == 1

        await until_asleep(made, session, triton_server.url)
        made.processes["control-plane"].terminate()
        await asyncio.to_thread(made.processes["control-plane"].wait, 20)
        status, words = await ask.infer(made, {"x-fed-deadline-ms": "1500"})
        assert status == 503
        assert "was not awake after" in words["error"]
        assert "out of contact" in words["error"]


class Asker:
    """A client of the router."""

    def __init__(self, made: SmallFederation, session: aiohttp.ClientSession, key: str) -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {key}"}

    async def infer(
        self, made: SmallFederation, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        answer = await made.call(
            self._session,
            "POST",
            f"{made.router}/v2/models/filetype/infer",
            json=QUESTION,
            headers={**self._headers, **(headers or {})},
        )
        return answer.status, answer.json

    async def metrics(self, port: int) -> str:
        async with self._session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return await answer.text()


def metric(page: str, name: str) -> float:
    return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


async def set_up(
    made: SmallFederation, session: aiohttp.ClientSession, triton: TritonServer, package: Path
) -> str:
    """Register everybody, push the model and deploy it so that it may sleep; returns a key."""
    root = made.root
    for words in (
        ("login", made.api, "--state-dir", str(made.state)),
        ("region", "create", "eu", "--location", "53,-6"),
        ("cluster", "register", "c1", "--region", "eu", "--token-file", f"{root}/agent.token"),
        ("router", "register", "r1", "--token-file", f"{root}/router.token"),
        ("tenant", "create", "acme"),
        ("key", "create", "prod", "--tenant", "acme", "--key-file", f"{root}/acme.key"),
    ):
        await made.fed(*words)
    pin = re.search(r"sha256:[0-9a-f]{64}", await made.fed("ca", "get"))
    assert pin is not None
    engine = {
        "engine": "triton",
        "engine-url": triton.url,
        "triton-repository": triton.repository,
        "calibrate-s": 0,
    }
    await join(made, pin[0], session, engine)
    assert "filetype" in await made.fed("model", "push", str(package))
    scaling = {"mode": "auto", "min": 0, "max": 2, "down_s": DOWN_S}
    document = {
        "apiVersion": "federation/v1",
        "kind": "Deployment",
        "metadata": {"name": "filetype"},
        "spec": {"model": "filetype", "scaling": scaling},
    }
    (root / "deployment.yaml").write_text(yaml.safe_dump(document))
    await made.fed("apply", "-f", f"{root}/deployment.yaml")
    return (root / "acme.key").read_text().strip()


async def until_asleep(made: SmallFederation, session: aiohttp.ClientSession, engine: str) -> None:
    """Wait until the deployment sleeps and its engine has let go of it."""
    async with asyncio.timeout(120):
        while True:
            async with session.get(f"{made.api}/metrics", ssl=False) as answer:
                sleeps = 'fed_deployment_asleep{deployment="filetype"} 1' in await answer.text()
            async with session.get(f"{engine}/v2/models/filetype--v1/ready") as answer:
                if sleeps and answer.status != 200:
                    return
            await asyncio.sleep(0.2)
