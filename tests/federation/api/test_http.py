import asyncio
from pathlib import Path

from federation.app import ControlPlane
from tests.fakes.control_plane import Operator, operator, running


async def test_configured_host_names_are_served(tmp_path: Path) -> None:
    async with running(tmp_path, allowed_hosts=("fed.example",)) as plane, operator(plane) as api:
        for host, status in (("fed.example", 200), ("fed.example:443", 200), ("x.example", 403)):
            answer = await api.call("GET", "/healthz", headers={"Host": host})
            assert answer.status == status


async def test_stopping_ends_the_watchers_at_once(tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        async with running(tmp_path) as plane, operator(plane) as api:
            url = f"{api.base}/api/v1/regions?watch=true"
            headers = {"Authorization": f"Bearer {api.token}"}
            response = await api.session.get(url, headers=headers)
            stopped = asyncio.create_task(plane.api.app.shutdown())
            assert await response.content.read() == b""
            await stopped


async def test_no_two_routes_share_a_path(plane: ControlPlane, api: Operator) -> None:
    paths = [(route.method, route.path) for route in plane.api.routes]
    assert len(paths) == len(set(paths))
    assert (await api.call("GET", "/api/v1/routes/explain")).status == 400
