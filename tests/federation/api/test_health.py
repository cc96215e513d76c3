from pathlib import Path

from federation.app import control_plane
from federation.settings import Settings
from tests.fakes.control_plane import Operator, operator


async def test_a_ready_control_plane_says_so(api: Operator) -> None:
    no_token = {"Authorization": ""}
    assert (await api.call("GET", "/healthz", headers=no_token)).json == {"status": "ok"}
    assert (await api.call("GET", "/readyz", headers=no_token)).json == {"status": "ready"}


async def test_what_is_not_loaded_is_not_answered_as_absent(tmp_path: Path) -> None:
    settings = Settings(
        state_dir=str(tmp_path / "other"),
        http_listen="127.0.0.1:0",
        grpc_listen="127.0.0.1:0",
        store="memory",
    )
    async with control_plane(settings) as starting, operator(starting) as api:
        await starting.loop.ready()
        starting.loop._ready.clear()
        assert (await api.call("GET", "/healthz")).status == 200
        for path in ("/readyz", "/api/v1/regions", "/api/v1/regions/x"):
            answer = await api.call("GET", path)
            assert (answer.status, answer.json["reason"]) == (503, "unavailable")
