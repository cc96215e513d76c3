"""A control plane that serves packages to one cluster's agent by mutual TLS, with faults."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path

from aiohttp import web

from federation.contract.manifest import manifest_bytes, manifest_digest, scan_directory
from federation.contract.spiffe import PeerRole
from federation.contract.types import Manifest
from federation.relay.server import ServerLimits, listen, make_runner
from federation.trust.peers import peer_from_ssl
from tests.pki import credentials_for, make_authority

MODEL_YAML = """\
name: {model}
runtime: python
inputs: [{{name: X, datatype: FP32, shape: [-1]}}]
outputs: [{{name: X, datatype: FP32, shape: [-1]}}]
"""


class PackageServer:
    """Serves what was added to whoever shows `agent`, the credentials of the cluster "c".

    `faults` maps a path's last part to what goes wrong there once.
    """

    def __init__(self) -> None:
        self.url = ""
        self._folder = tempfile.TemporaryDirectory()
        self.authority = make_authority(Path(self._folder.name))
        self.agent = credentials_for(self.authority, PeerRole.CLUSTER, "c")
        self._own = credentials_for(self.authority, PeerRole.CONTROL_PLANE, "main")
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, int], bytes] = {}
        self.faults: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self._runner: web.AppRunner | None = None

    def add(self, folder: Path, model: str, version: int, files: dict[str, bytes]) -> str:
        """Serve a package with these files and a model.yaml; return its digest."""
        directory = folder / "made" / f"{model}-{version}"
        for name, content in {
            "model.yaml": MODEL_YAML.format(model=model).encode(),
            **files,
        }.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
        manifest = scan_directory(directory, model)
        for entry in manifest.files:
            self.blobs[entry.blake3] = (directory / entry.path).read_bytes()
        return self.add_manifest(version, manifest)

    def add_manifest(self, version: int, manifest: Manifest) -> str:
        """Serve a manifest as it is; return its digest."""
        self.manifests[manifest.model, version] = manifest_bytes(manifest)
        return manifest_digest(manifest)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/v1/blobs/{digest}", self._blob)
        app.router.add_get("/api/v1/models/{model}/versions/{version}/manifest", self._manifest)
        self._runner = make_runner(app, ServerLimits(shutdown_s=0.1))
        context = self._own.server_context(demand_clients=False)
        _, port = await listen(self._runner, "127.0.0.1:0", context)
        self.url = f"https://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        self._folder.cleanup()

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["model"], int(request.match_info["version"])
        return await self._answer(request, "manifest", self.manifests.get(key))

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        return await self._answer(request, digest, self.blobs.get(digest))

    async def _answer(
        self, request: web.Request, name: str, data: bytes | None
    ) -> web.StreamResponse:
        self.asked[name] += 1
        assert request.transport is not None
        if peer_from_ssl(request.transport.get_extra_info("peercert")).id.name != "c":
            return web.json_response({"detail": "This is not for you."}, status=403)
        if data is None:
            return web.json_response({"detail": "There is no such thing."}, status=404)
        match self.faults.pop(name, ""):
            case "500":
                return web.Response(status=500, text="boom")
            case "redirect":
                return web.Response(status=302, headers={"Location": "https://127.0.0.1:1/"})
            case "flipped":
                data = bytes([data[0] ^ 1]) + data[1:]
            case "longer":
                data += b"more"
            case "shorter":
                data = data[:-1]
            case "truncated":
                response = web.StreamResponse(headers={"Content-Length": str(len(data))})
                await response.prepare(request)
                await response.write(data[:-1])
                request.transport.close()
                return response
            case "stalls":
                await asyncio.sleep(3600)
            case _:
                pass
        return web.Response(body=data)
