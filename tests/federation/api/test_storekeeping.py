import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from federation.api.storecare import live_manifests
from federation.api.storekeeping import Storekeeping
from federation.app import ControlPlane
from tests.fakes.control_plane import Operator, package

VERIFY = "/api/v1/models/m/versions/1/verify"


async def test_a_whole_version_is_found_whole(api: Operator) -> None:
    pushed = (await api.push("m")).json
    answer = await api.call("POST", VERIFY)
    assert (answer.status, answer.json["damage"]) == (200, [])
    assert (answer.json["digest"], answer.json["version"]) == (pushed["digest"], 1)
    assert (await api.call("POST", VERIFY.replace("/1/", "/2/"))).status == 404


async def test_a_flipped_byte_on_the_disk_is_found(api: Operator, tmp_path: Path) -> None:
    await api.push("m", b"weights" * 1000)
    packs = [p for p in (tmp_path / "artifacts" / "packs").iterdir() if "." not in p.name]
    for path in packs:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
    answer = await api.call("POST", VERIFY)
    assert answer.status == 200, answer.body
    assert answer.json["damage"]


async def test_a_manifest_that_lies_about_a_whole_file_is_found(api: Operator) -> None:
    files, manifest, text = package("m", b"weights")
    await api.upload(*files)
    manifest["files"][0]["sha256"] = hashlib.sha256(b"other").hexdigest()
    body = {"package": text, "manifest": manifest}
    assert (await api.call("POST", "/api/v1/models/m/versions", body)).status == 201
    [damage] = (await api.call("POST", VERIFY)).json["damage"]
    assert damage["key"] == "model.onnx"


async def test_garbage_goes_and_what_a_version_needs_stays(
    api: Operator, plane: ControlPlane
) -> None:
    await api.push("m", b"kept" * 1000)
    await api.push("n", b"gone" * 1000)
    assert len(live_manifests(plane.loop.state)) == 2
    assert (await api.call("DELETE", "/api/v1/models/n")).status == 200
    would = await api.call("POST", "/api/v1/gc?dryRun=true", {"graceSeconds": 0})
    assert would.status == 200, would.body
    assert would.json["bytes_freed"] > 0
    late = await api.call("POST", "/api/v1/gc", {})  # it is young: the time of grace
    assert late.json["bytes_freed"] == 0
    await asyncio.sleep(0.01)
    done = await api.call("POST", "/api/v1/gc", {"graceSeconds": 0})
    assert done.json["bytes_freed"] > 0
    assert (await api.call("POST", VERIFY)).json["damage"] == []


@pytest.mark.parametrize("body", [{"graceSeconds": -1}, {"graceSeconds": "1"}, {"grace": 1}])
async def test_bad_questions_are_refused(api: Operator, body: dict[str, object]) -> None:
    assert (await api.call("POST", "/api/v1/gc", body)).status == 400


async def test_one_collection_at_a_time(api: Operator, plane: ControlPlane) -> None:
    route = next(r for r in plane.api.routes if r.path == "/api/v1/gc")
    handler: Any = route.handler
    keeping: Storekeeping = handler.__self__
    async with keeping._care._collecting:
        answer = await api.call("POST", "/api/v1/gc", {})
    assert (answer.status, answer.json["reason"]) == (409, "busy")


async def test_the_audit_log_tells_who_collected_and_who_verified(
    api: Operator, plane: ControlPlane
) -> None:
    await api.push("m")
    await api.call("POST", VERIFY)
    await api.call("POST", "/api/v1/gc?dryRun=true", {})  # changes nothing: it is not told
    await api.call("POST", "/api/v1/gc", {})
    entries = (await api.call("GET", "/api/v1/audit")).json["entries"]
    verified, collected = entries[-2:]
    assert (verified["action"], verified["kind"]) == ("VersionVerified", "ModelVersion")
    assert (verified["name"], verified["message"]) == ("m/1", "found it whole")
    assert (collected["action"], collected["kind"]) == ("StoreCollected", "Store")
    assert collected["message"].startswith("freed 0 bytes")
    assert verified["actor"] == collected["actor"] == "admin/local"
    assert collected["request_id"]
