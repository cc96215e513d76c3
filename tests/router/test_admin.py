import json
import random
from dataclasses import replace

import aiohttp

from federation.contract.access import Access, Tenant
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from router.admin import Admin
from router.answering import Here
from router.geo import Locator
from router.metrics.requests import Metrics
from router.policy import table as tables
from router.state import RouterState
from tests.router.fakes import make_snapshot


async def test_the_admin_pages() -> None:
    state = RouterState(name="r1", clock=SystemClock(), dice=random.Random(0))
    locator = Locator()
    here = Here(state, Metrics(state), locator)
    here.listening = True
    admin = Admin(state=state, answering=here)
    runner = make_runner(admin.application(), ServerLimits(shutdown_s=0.1))
    host, port = await listen(runner, "127.0.0.1:0")
    async with aiohttp.ClientSession(f"http://{host}:{port}") as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(path) as response:
                return response.status, await response.text()

        assert await get("/healthz") == (200, "ok")
        status, text = await get("/readyz")
        assert (status, "no routing table" in text) == (503, True)
        assert (await get("/table"))[0] == 503
        access = Access(pepper="5ec2e7", tenants=(Tenant(name="acme"),))
        snapshot = make_snapshot({"eu-1": "http://h:1"}, version=3)
        state.swap(tables.build(replace(snapshot, access=access)))
        assert await get("/readyz") == (200, "ready")
        state.allow_anonymous = True
        assert "without a key are served" in (await get("/readyz"))[1]
        shown = json.loads((await get("/table"))[1])
        assert shown["snapshot"]["version"] == 3
        assert "access" not in shown["snapshot"]
        assert "5ec2e7" not in (await get("/table"))[1]
        assert shown["clusters"]["eu-1"]["healthy"] is True
        status, text = await get("/explain?request=abc-1")
        assert (status, "remembers no request 'abc-1'" in text) == (404, True)
        status, text = await get("/explain?model=digits&from=133.11.0.1")
        assert (status, json.loads(text)["chosen"]) == (200, "eu-1")
        assert (await get("/explain?model=digits&tenant=acme"))[0] == 200
        assert (await get("/explain?model=digits&tenant=nobody"))[0] == 404
        assert (await get("/explain"))[0] == 400
        assert (await get("/explain?model=digit"))[0] == 404
        assert "fed_router_snapshot_version 3.0" in (await get("/metrics"))[1]
        assert (await get("/other"))[0] == 404
    await runner.cleanup()
    locator.close()
