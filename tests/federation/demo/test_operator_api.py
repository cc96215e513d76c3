import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from federation.contract.errors import Conflict, FederationError, Unavailable
from federation.demo.models import build_shakespeare
from federation.demo.operator_api import Json, OperatorApi


class _ControlPlane:
    """The far end of the operator API, with one blob already stored."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.stored = 0
        self.versions: list[Json] = []
        self.tokens: set[str] = set()
        self.problem: Json | None = None

    @web.middleware
    async def _gate(self, request: web.Request, handler: object) -> web.StreamResponse:
        self.tokens.add(request.headers.get("authorization", ""))
        if request.method != "GET":
            assert request.headers["idempotency-key"]
        if self.problem:
            return web.json_response(
                self.problem, status=409, content_type="application/problem+json"
            )
        return await handler(request)  # type: ignore[operator,no-any-return]

    async def _missing(self, request: web.Request) -> web.Response:
        digests = (await request.json())["digests"]
        return web.json_response({"missing": digests[1:]})

    async def _blob(self, request: web.Request) -> web.Response:
        self.blobs[request.match_info["digest"]] = await request.read()
        return web.Response(status=204)

    async def _version(self, request: web.Request) -> web.Response:
        self.versions.append(await request.json())
        return web.json_response({"version": len(self.versions)}, status=201)

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"joinToken": f"token of {asked['spec']['region']}"})

    async def _items(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [{"metadata": {"name": request.match_info["plural"]}}]})

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application(middlewares=[self._gate])
        app.router.add_post("/api/v1/blobs/missing", self._missing)
        app.router.add_put("/api/v1/blobs/{digest}", self._blob)
        app.router.add_post("/api/v1/models/{model}/versions", self._version)
        app.router.add_post("/api/v1/clusters/{name}/register", self._register)
        app.router.add_get("/api/v1/{plural}", self._items)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "admin.token"
    path.write_text("fed_admin_x_secret\n")
    return path


async def test_a_push_sends_what_is_missing_and_then_the_manifest(
    tmp_path: Path, token: Path
) -> None:
    control_plane = _ControlPlane()
    directory = build_shakespeare(tmp_path)[0][2]
    async with control_plane.served() as url, OperatorApi(url, token) as api:
        assert await api.push(directory, "demo:test") == 1
    entries = control_plane.versions[0]["manifest"]["files"]
    assert {e["path"] for e in entries} == {p.name for p in directory.iterdir()}
    assert len(control_plane.blobs) == len(entries) - 1
    assert control_plane.versions[0]["source"] == "demo:test"
    assert control_plane.tokens == {"Bearer fed_admin_x_secret"}


async def test_registering_returns_the_token_and_listing_the_documents(token: Path) -> None:
    async with _ControlPlane().served() as url, OperatorApi(url, token) as api:
        assert await api.register("eu-west", {"region": "europe"}) == "token of europe"
        assert await api.items("regions") == [{"metadata": {"name": "regions"}}]
        assert not await api.ready()  # it has no such page


async def test_a_problem_becomes_an_error_with_its_own_words(token: Path) -> None:
    control_plane = _ControlPlane()
    control_plane.problem = {"detail": "it changed.", "reason": "conflict", "hint": "Read it."}
    async with control_plane.served() as url, OperatorApi(url, token) as api:
        with pytest.raises(Conflict) as conflict:
            await api.items("clusters")
        assert conflict.value.sentence() == "it changed. Read it."
        control_plane.problem = {"title": "odd"}
        with pytest.raises(FederationError, match="odd"):
            await api.items("clusters")


async def test_a_control_plane_that_is_gone_is_unavailable(token: Path) -> None:
    async with OperatorApi("http://127.0.0.1:1", token) as api:
        assert not await api.ready()
        with pytest.raises(Unavailable, match="does not answer"):
            await api.items("clusters")
