"""A federation of several regions as processes, each a real Triton behind agent and fault proxy.

Input: a directory. Output: a running federation that serves `work` (tensors, a known service time)
and `poet` (text, token by token). Both note what they do in files of their own, one for each
region: the engines' own record of what was executed. A file `REGION.temper` makes a region's models
slow or failing.
"""

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from federation.demo.triton_install import TritonInstallation
from tests.e2e.small_federation import SmallFederation, federation_of
from tests.engines.triton import TritonServer
from tests.fakes.control_plane import LOCATION, Operator
from tests.fakes.fault_proxy import FaultProxy, fault_proxy

REGIONS = ("eu", "us", "ap")
SERVICE_S = 0.1
REPLICAS = 2  # at each cluster, one request at a time each
TOKEN_S = 0.02

WORK = '''
import os
import random
import time
from pathlib import Path

REGION = os.environ["FED_TEST_REGION"]


def temper(folder):
    try:
        return (folder / f"{REGION}.temper").read_text()
    except OSError:
        return ""


def note(folder, words):
    file = os.open(folder / f"{REGION}.notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{words}\\n".encode())
    os.close(file)


class Model:
    """Takes a number, and its time; says the number again."""

    def __init__(self, directory, parameters):
        self.folder, self.service_s = Path(parameters["folder"]), parameters["service_s"]

    def infer(self, inputs):
        number, now = int(inputs["number"][0]), temper(self.folder)
        note(self.folder, f"began {number}")
        time.sleep(self.service_s * (10 if now == "slow" else 1))
        if now == "failing" and random.random() < 0.5:
            note(self.folder, f"failed {number}")
            raise RuntimeError("told to fail")
        note(self.folder, f"ended {number}")
        return {"number": inputs["number"]}

    def count_tokens(self, text):
        return len(text.split())

    def generate(self, prompt, *, max_tokens, temperature, seed):
        note(self.folder, f"began {prompt}")
        for number in range(max_tokens):
            time.sleep(self.service_s)
            yield f"{number} "
        note(self.folder, f"ended {prompt}")
'''


@dataclass
class Regions:
    """What runs, and what the engines wrote."""

    made: SmallFederation
    proxies: dict[str, FaultProxy]  # between the router and the gateway of a region
    engines: dict[str, TritonServer]
    notes: Path
    key: str

    @property
    def router(self) -> str:
        return self.made.router

    @property
    def router_pid(self) -> int:
        return self.made.processes["router"].pid

    def temper(self, region: str, words: str) -> None:
        """Make the models of a region "slow" or "failing", or well again ("")."""
        fresh = self.notes / f"{region}.new"
        fresh.write_text(words)
        fresh.rename(self.notes / f"{region}.temper")

    def executed(self, verb: str, regions: Sequence[str] = REGIONS) -> Counter[str]:
        """Return how often each number or prompt "began", "ended" or "failed" at the engines."""
        counts: Counter[str] = Counter()
        for region in regions:
            path = self.notes / f"{region}.notes"
            lines = path.read_text().splitlines() if path.exists() else []
            counts.update(line.partition(" ")[2] for line in lines if line.startswith(verb))
        return counts

    async def avoided(self, session: aiohttp.ClientSession, model: str = "work") -> dict[str, str]:
        """Return why the router avoids a region or tries it out; "" = it does neither."""
        admin = f"http://127.0.0.1:{self.made.ports['router-admin']}/explain?model={model}"
        async with session.get(admin) as answer:
            told = await answer.json()
        found = dict.fromkeys(REGIONS, "it is not known")
        for one in told.get("candidates", ()):
            state = "" if one["state"] == "closed" else one["state"]
            found[one["region"]] = one["excluded"] or state
        return found

    async def gauge(self, session: aiohttp.ClientSession, name: str) -> float:
        """Return the sum of a metric of the router over its labels."""
        admin = f"http://127.0.0.1:{self.made.ports['router-admin']}/metrics"
        async with session.get(admin) as answer:
            lines = (await answer.text()).splitlines()
        mine = [line for line in lines if re.match(rf"{name}[ {{]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in mine)


@asynccontextmanager
async def regions(root: Path, installation: TritonInstallation) -> AsyncIterator[Regions]:
    """Start everything, and wait until both models are warm everywhere."""
    roles = ("http", "grpc", "router", "router-admin", "reverse")
    names = (*roles, *(f"{door}-{r}" for r in REGIONS for door in ("gateway", "admin")))
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(federation_of(root, names))
        notes = root / "notes"
        notes.mkdir()
        engines = {
            region: TritonServer(
                installation, root / f"triton-{region}", {"FED_TEST_REGION": region}
            )
            for region in REGIONS
        }
        for engine in engines.values():
            stack.callback(engine.kill)
        await asyncio.gather(*(asyncio.to_thread(engine.start) for engine in engines.values()))
        proxies = {
            region: await stack.enter_async_context(
                fault_proxy("127.0.0.1", made.ports[f"gateway-{region}"])
            )
            for region in REGIONS
        }
        session = await stack.enter_async_context(aiohttp.ClientSession())
        key = await _joined(made, session, engines, proxies)
        built = Regions(made, proxies, engines, notes, key)
        await _deployed(built, session)
        yield built


async def _joined(
    made: SmallFederation,
    session: aiohttp.ClientSession,
    engines: dict[str, TritonServer],
    proxies: dict[str, FaultProxy],
) -> str:
    """Register everybody and start agents and router; returns a key for inference."""
    await made.fed("login", made.api, "--state-dir", str(made.state))
    token = (made.state / "admin.token").read_text().strip()
    connector = aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(connector=connector) as api_session:
        api = Operator(api_session, made.api, token)
        for region in REGIONS:
            await api.put("Region", region, {"location": LOCATION})
            spec = {"region": region, "allow_code": True}
            path = f"/api/v1/clusters/{region}-1/register"
            (made.root / f"{region}.token").write_text(await api.join_token(path, {"spec": spec}))
        (made.root / "router.token").write_text(await api.register_router("r1"))
        await api.put("Tenant", "acme", {})
        key = (await api.call("POST", "/api/v1/keys/prod", {"tenant": "acme"})).json["text"]
    found = re.search(r"sha256:[0-9a-f]{64}", await made.fed("ca", "get"))
    assert found is not None
    shared = {
        "control-plane": f"127.0.0.1:{made.ports['grpc']}",
        "control-plane-url": made.api,
        "ca-pin": found[0],
    }
    for region in REGIONS:
        gateway = f"127.0.0.1:{made.ports[f'gateway-{region}']}"
        flags = {
            **shared,
            "cluster": f"{region}-1",
            "state-dir": made.root / f"agent-{region}",
            "join-token-file": made.root / f"{region}.token",
            "listen": gateway,
            "advertise-url": f"https://{gateway}",
            "admin-listen": f"127.0.0.1:{made.ports[f'admin-{region}']}",
            "engine-url": engines[region].url,
            "triton-repository": engines[region].repository,
            "inventory": "none",
            "calibrate-s": 1,
        }
        made.start(f"agent-{region}", "edge_agent", flags)
    away = {
        f"127.0.0.1:{made.ports[f'gateway-{region}']}": f"127.0.0.1:{proxy.port}"
        for region, proxy in proxies.items()
    }
    flags = {
        **shared,
        "name": "r1",
        "state-dir": made.root / "router",
        "join-token-file": made.root / "router.token",
        "listen": f"127.0.0.1:{made.ports['router']}",
        "admin-listen": f"127.0.0.1:{made.ports['router-admin']}",
        "reverse-listen": f"127.0.0.1:{made.ports['reverse']}",
        "connect-to": tuple(f"{near}={far}" for near, far in away.items()),
    }
    made.start("router", "router", flags)
    for region in REGIONS:
        admin = f"http://127.0.0.1:{made.ports[f'admin-{region}']}/readyz"
        await made.until(f"agent-{region}", session, admin)
    admin = f"http://127.0.0.1:{made.ports['router-admin']}/readyz"
    await made.until("router", session, admin)
    return str(key)


async def _deployed(built: Regions, session: aiohttp.ClientSession) -> None:
    number = {"name": "number", "datatype": "INT64", "shape": [1]}
    packages: dict[str, dict[str, object]] = {
        "work": {"inputs": [number], "outputs": [number]},
        "poet": {"protocol": "text", "warmup": {"prompt": "warm"}},
    }
    service_s = {"work": SERVICE_S, "poet": TOKEN_S}
    for name, more in packages.items():
        folder = built.made.root / name
        folder.mkdir()
        (folder / "model.py").write_text(WORK)
        parameters = {"folder": str(built.notes), "service_s": service_s[name]}
        document = {"name": name, "runtime": "python", "parameters": parameters, **more}
        (folder / "model.yaml").write_text(yaml.safe_dump(document))
        told = await built.made.fed("model", "push", str(folder))
        assert "version 1" in told, told
    documents = [
        {
            "apiVersion": "federation/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"model": name, "replicas": REPLICAS if name == "work" else 1},
        }
        for name in packages
    ]
    path = built.made.root / "deployments.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    await built.made.fed("apply", "-f", str(path))
    await until_well(built, session, *packages)


async def until_well(
    built: Regions, session: aiohttp.ClientSession, *models: str, within_s: float = 60
) -> None:
    """Wait until the router has a healthy replica of each of these models in each region."""
    try:
        async with asyncio.timeout(within_s):
            for model in models:
                while any((await built.avoided(session, model)).values()):
                    await asyncio.sleep(0.1)
    except TimeoutError:
        logs = [path.read_text()[-2000:] for path in built.made.root.glob("*.log")]
        told = "; ".join([str(await built.avoided(session, name)) for name in models])
        raise AssertionError("\n".join([told, *logs])) from None


def seconds() -> float:
    """How long each fault lasts."""
    return float(os.environ.get("FED_TEST_FAILURE_S", "3"))
