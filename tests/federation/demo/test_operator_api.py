import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from blake3 import blake3

from federation.api.frames import frames_of
from federation.contract.errors import Conflict, FederationError, Unavailable
from federation.contract.manifest import distinct_chunks
from federation.contract.spiffe import PeerRole
from federation.contract.types import Manifest
from federation.demo.models import build_shakespeare
from federation.demo.operator_api import Json, OperatorApi
from tests.pki import credentials_for, make_authority, trust_of


class _ControlPlane:
    """The far end of the operator API, with one chunk already stored."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = make_authority(directory)
        self.chunks: dict[bytes, bytes] = {}
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
        count = len(await request.read()) // 32
        return web.Response(body=b"\0" + b"\1" * (count - 1))

    async def _chunks(self, request: web.Request) -> web.Response:
        async for frame, stored in frames_of(request.content.iter_any()):
            self.chunks[frame.digest] = stored
        return web.json_response({})

    async def _version(self, request: web.Request) -> web.Response:
        self.versions.append(await request.json())
        return web.json_response({"version": len(self.versions)}, status=201)

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"joinToken": f"token of {asked['spec']['region']}"})

    async def _items(self, request: web.Request) -> web.Response:
        return web.json_response({"items": [{"metadata": {"name": request.match_info["plural"]}}]})

    async def _key(self, request: web.Request) -> web.Response:
        tenant = (await request.json())["tenant"]
        return web.json_response({"text": f"key of {tenant}"}, status=201)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[OperatorApi]:
        app = web.Application(middlewares=[self._gate])
        app.router.add_post("/api/v1/chunks/missing", self._missing)
        app.router.add_post("/api/v1/chunks", self._chunks)
        app.router.add_post("/api/v1/models/{model}/versions", self._version)
        app.router.add_post("/api/v1/clusters/{name}/register", self._register)
        app.router.add_post("/api/v1/keys/{name}", self._key)
        app.router.add_get("/api/v1/{plural}", self._items)
        runner = web.AppRunner(app)
        await runner.setup()
        server = credentials_for(self._authority, PeerRole.CONTROL_PLANE, "main")
        context = server.server_context(demand_clients=False)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        port = runner.addresses[0][1]
        ca_file = self._directory / "ca.pem"
        ca_file.write_text(trust_of(self._authority).bundle)
        token_file = self._directory / "admin.token"
        token_file.write_text("fed_admin_x_secret\n")
        try:
            async with OperatorApi(
                f"https://127.0.0.1:{port}", ca_file=ca_file, token_file=token_file
            ) as api:
                yield api
        finally:
            await runner.cleanup()


@pytest.fixture
def control_plane(tmp_path: Path) -> _ControlPlane:
    return _ControlPlane(tmp_path)


async def test_a_push_sends_what_is_missing_and_then_the_manifest(
    tmp_path: Path, control_plane: _ControlPlane
) -> None:
    directory = build_shakespeare(tmp_path / "packages")[0][2]
    async with control_plane.served() as api:
        assert await api.push(directory, "demo:test") == 1
    entries = control_plane.versions[0]["manifest"]["files"]
    assert {e["path"] for e in entries} == {p.name for p in directory.iterdir()}
    manifest = msgspec.convert(control_plane.versions[0]["manifest"], Manifest)
    digests = list(distinct_chunks(manifest))
    assert list(control_plane.chunks) == digests[1:]
    assert all(blake3(data).digest() == d for d, data in control_plane.chunks.items())
    assert control_plane.versions[0]["source"] == "demo:test"
    assert control_plane.tokens == {"Bearer fed_admin_x_secret"}


async def test_registering_returns_the_token_and_listing_the_documents(
    control_plane: _ControlPlane,
) -> None:
    async with control_plane.served() as api:
        assert await api.register("clusters", "eu-west", {"region": "europe"}) == "token of europe"
        assert await api.create_key("demo", "t1") == "key of t1"
        assert await api.items("regions") == [{"metadata": {"name": "regions"}}]
        assert not await api.ready()  # it has no such page


async def test_a_problem_becomes_an_error_with_its_own_words(
    control_plane: _ControlPlane,
) -> None:
    control_plane.problem = {"detail": "it changed.", "reason": "conflict", "hint": "Read it."}
    async with control_plane.served() as api:
        with pytest.raises(Conflict) as conflict:
            await api.items("clusters")
        assert conflict.value.sentence() == "it changed. Read it."
        control_plane.problem = {"title": "odd"}
        with pytest.raises(FederationError, match="odd"):
            await api.items("clusters")


async def test_a_control_plane_that_is_gone_or_not_there_yet_is_unavailable(
    tmp_path: Path,
) -> None:
    token, ca_file = tmp_path / "admin.token", tmp_path / "ca.pem"
    async with OperatorApi("https://127.0.0.1:1", ca_file=ca_file, token_file=token) as api:
        assert not await api.ready()  # it has not written its roots yet
        token.write_text("fed_admin_x_secret\n")
        ca_file.write_text(trust_of(make_authority(tmp_path)).bundle)
        assert not await api.ready()
        with pytest.raises(Unavailable, match="does not answer"):
            await api.items("clusters")
