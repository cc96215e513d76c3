"""A control plane that serves packages to one cluster's agent by mutual TLS, with faults."""

import asyncio
import random
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
from aiohttp import web
from blake3 import blake3

from edge_agent.sync.build import SyncSide, make_sync_side
from federation.chunking.scan import scan_directory
from federation.contract.locations import Locations, PackSource, Place, pack_places
from federation.contract.manifest import (
    chunks_of,
    distinct_chunks,
    manifest_bytes,
    manifest_digest,
)
from federation.contract.release import Release, envelope_bytes, seal
from federation.contract.spiffe import PeerRole
from federation.contract.sync import SyncPeer, SyncSpec
from federation.contract.types import Manifest
from federation.relay.server import ServerLimits, listen, make_runner
from federation.runtime.clock import SystemClock
from federation.trust.peers import peer_from_ssl
from federation.trust.signing import new_signing_key, public_key, sign_envelope
from tests.pki import credentials_for, make_authority, trust_of

MODEL_YAML = """\
name: {model}
runtime: python
inputs: [{{name: X, datatype: FP32, shape: [-1]}}]
outputs: [{{name: X, datatype: FP32, shape: [-1]}}]
"""


def sync_side(server: "PackageServer", folder: Path) -> SyncSide:
    """Return the sync side of the cluster "c", alone in its region, that fetches from this server,
    without caps."""
    side = make_sync_side(
        folder,
        cluster="c",
        url=server.url,
        credentials=server.agent,
        clock=SystemClock(),
        dice=random.Random(1),
    )
    side.syncer.settings_changed(SyncSpec())
    side.syncer.peers_changed((SyncPeer(cluster="c", url=""),))
    return side


class PackageServer:
    """Serves what was added to whoever shows `agent`, the credentials of the cluster "c".

    `faults` maps a path's last part to what goes wrong there once. Each version has a pack of its
    own, `packs[model, version]`; releases are signed by `release_key`, which the agent trusts.
    """

    def __init__(self) -> None:
        self.url = ""
        self._folder = tempfile.TemporaryDirectory()
        self.authority = make_authority(Path(self._folder.name))
        self.agent = credentials_for(self.authority, PeerRole.CLUSTER, "c")
        self._own = credentials_for(self.authority, PeerRole.CONTROL_PLANE, "main")
        self.release_key = new_signing_key()
        trust = trust_of(self.authority, 2)
        self.agent.keep_trust(replace(trust, release_keys=(public_key(self.release_key),)))
        self.packs: dict[str, bytes] = {}
        self.locations: dict[tuple[str, int], bytes] = {}
        self.releases: dict[tuple[str, int], bytes] = {}
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
        self._add_pack(version, manifest, directory)
        return self.add_manifest(version, manifest)

    def _add_pack(self, version: int, manifest: Manifest, directory: Path) -> None:
        content = b"".join((directory / entry.path).read_bytes() for entry in manifest.files)
        found: dict[bytes, bytes] = {}
        pack, at = b"", 0
        for entry in manifest.files:
            for chunk in chunks_of(entry):
                found.setdefault(chunk.digest, content[at : at + chunk.length])
                at += chunk.length
        places = []
        for digest, length in distinct_chunks(manifest).items():
            places.append(Place(0, len(pack), length))
            pack += found[digest]
        name = blake3(pack).hexdigest()
        self.packs[name] = pack
        self.locations[manifest.model, version] = msgspec.json.encode(
            Locations(
                packs=(PackSource(id=name, url=f"/api/v1/packs/{name}"),),
                places=pack_places(places),
                good_for_s=60.0,
            )
        )

    def add_manifest(self, version: int, manifest: Manifest) -> str:
        """Serve a manifest as it is; return its digest."""
        digest = manifest_digest(manifest)
        self.manifests[manifest.model, version] = manifest_bytes(manifest)
        release = Release(
            model=manifest.model, manifest=digest, size=manifest.size, sequence=version, created=1
        )
        self.releases[manifest.model, version] = envelope_bytes(
            sign_envelope(self.release_key, seal(release))
        )
        return digest

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/api/v1/packs/{name}", self._pack)
        for name in ("manifest", "release", "locations"):
            path = f"/api/v1/models/{{model}}/versions/{{version}}/{{document:{name}}}"
            app.router.add_get(path, self._document)
        self._runner = make_runner(app, ServerLimits(shutdown_s=0.1))
        context = self._own.server_context(demand_clients=False)
        _, port = await listen(self._runner, "127.0.0.1:0", context)
        self.url = f"https://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        self._folder.cleanup()

    async def _document(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["model"], int(request.match_info["version"])
        name = request.match_info["document"]
        kept = {"manifest": self.manifests, "release": self.releases, "locations": self.locations}
        return await self._answer(request, name, kept[name].get(key))

    async def _pack(self, request: web.Request) -> web.StreamResponse:
        pack = self.packs.get(request.match_info["name"])
        if pack is None or (asked := request.http_range).start is None:
            return await self._answer(request, "pack", None)
        end = min(asked.stop or len(pack), len(pack))
        answer = await self._answer(request, "pack", pack[asked.start : end])
        if isinstance(answer, web.Response) and answer.status == 200:
            answer.set_status(206)
            answer.headers["Content-Range"] = f"bytes {asked.start}-{end - 1}/{len(pack)}"
        return answer

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
