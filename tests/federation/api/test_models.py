import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from federation.contract.locations import parse_locations, places_of
from federation.contract.manifest import distinct_chunks, parse_manifest
from federation.contract.release import parse_envelope
from federation.trust.signing import verified
from tests.fakes.control_plane import Operator, package

VERSIONS = "/api/v1/models/m/versions"


async def uploaded(api: Operator, content: bytes = b"weights") -> dict[str, Any]:
    files, manifest, text = package("m", content)
    await api.upload(*files)
    return {"package": text, "manifest": manifest, "source": "test"}


async def test_pushes_number_the_versions_and_the_same_content_is_not_pushed_twice(
    api: Operator,
) -> None:
    first = await api.push("m", b"one")
    second = await api.push("m", b"two")
    again = await api.push("m", b"one")
    told = [(a.status, a.json["version"], a.json["created"]) for a in (first, second, again)]
    assert told == [(201, 1, True), (201, 2, True), (201, 1, False)]
    assert again.json["digest"] == first.json["digest"]


async def test_missing_chunks_are_named(api: Operator) -> None:
    files, manifest, text = package("m", b"weights")
    answer = await api.call("POST", VERSIONS, {"package": text, "manifest": manifest})
    assert (answer.status, answer.json["reason"]) == (409, "missing-chunks")
    assert set(answer.json["missing"]) == {blake3(data).hexdigest() for data in files}
    assert (await api.call("GET", "/api/v1/models")).json["items"] == []


async def test_the_manifest_is_served_in_the_bytes_of_its_digest(api: Operator) -> None:
    pushed = (await api.push("m")).json
    answer = await api.call("GET", f"{VERSIONS}/1/manifest")
    assert answer.status == 200
    assert blake3(answer.body).hexdigest() == pushed["digest"]
    assert parse_manifest(answer.body).model == "m"


async def test_the_locations_lead_to_the_bytes_of_every_chunk(api: Operator) -> None:
    await api.push("m", b"weights" * 100)
    manifest = parse_manifest((await api.call("GET", f"{VERSIONS}/1/manifest")).body)
    located = parse_locations((await api.call("GET", f"{VERSIONS}/1/locations")).body)
    chunks = distinct_chunks(manifest)
    places = list(places_of(located))
    assert len(places) == len(chunks) == 2
    for (digest, length), place in zip(chunks.items(), places, strict=True):
        last = place.offset + place.stored - 1
        wanted = {"Range": f"bytes={place.offset}-{last}", "Authorization": ""}
        answer = await api.call("GET", located.packs[place.pack].url, headers=wanted)
        assert (answer.status, len(answer.body)) == (206, length)
        assert blake3(answer.body).digest() == digest


async def test_the_release_is_signed_by_a_key_that_all_are_told_to_trust(api: Operator) -> None:
    pushed = (await api.push("m")).json
    keys = (await api.call("GET", "/api/v1/trust")).json["releaseKeys"]
    assert len(keys) == 1
    envelope = parse_envelope((await api.call("GET", f"{VERSIONS}/1/release")).body)
    release = verified(envelope, keys)
    assert (release.model, release.manifest, release.source) == ("m", pushed["digest"], "test")


async def test_a_version_is_read_by_number_and_alias(api: Operator) -> None:
    await api.push("m", b"one")
    await api.push("m", b"two")
    alias = "/api/v1/models/m/aliases/champion"
    moved = await api.call("PUT", alias, {"version": 1})
    assert moved.json["spec"]["aliases"] == {"champion": 1}
    by_alias = (await api.call("GET", f"{VERSIONS}/champion")).json
    assert by_alias["version"] == 1
    assert [(f["path"], f["chunks"]) for f in by_alias["files"]] == [
        ("model.onnx", 1),
        ("model.yaml", 1),
    ]
    assert by_alias["package"]["file"] == "model.onnx"
    assert (by_alias["created_by"], by_alias["carries_code"]) == ("admin/local", False)
    assert by_alias["release"]["manifest"] == by_alias["digest"]
    removed = await api.call("DELETE", alias)
    assert (removed.status, removed.json["spec"]["aliases"]) == (200, {})
    assert (await api.call("GET", f"{VERSIONS}/champion")).status == 404


@pytest.mark.parametrize("version", ["3", "nope", "-1", "9" * 30, "²"])
async def test_unknown_versions_are_not_found(api: Operator, version: str) -> None:
    await api.push("m")
    for path in ("", "/manifest", "/release", "/locations"):
        assert (await api.call("GET", f"{VERSIONS}/{version}{path}")).status == 404


@pytest.mark.parametrize(
    ("alias", "body", "status"),
    [
        ("champion", {"version": 9}, 404),
        ("champion", {"version": "one"}, 400),
        ("champion", {}, 400),
        ("Bad_Name", {"version": 1}, 400),
    ],
)
async def test_bad_alias_moves(api: Operator, alias: str, body: object, status: int) -> None:
    await api.push("m")
    assert (await api.call("PUT", f"/api/v1/models/m/aliases/{alias}", body)).status == status
    assert (await api.call("GET", "/api/v1/models/m")).json["spec"]["aliases"] == {}


async def test_a_dry_run_of_a_push_keeps_nothing(api: Operator) -> None:
    body = await uploaded(api)
    answer = await api.call("POST", f"{VERSIONS}?dryRun=true", body)
    assert (answer.status, answer.json["version"]) == (201, 1)
    assert (await api.call("GET", "/api/v1/models")).json["items"] == []


async def test_a_repeated_call_with_its_key_gets_the_first_answer(api: Operator) -> None:
    body = await uploaded(api)
    key = {"Idempotency-Key": "k"}
    answers = [await api.call("POST", VERSIONS, body, headers=key) for _ in range(2)]
    assert [a.json["version"] for a in answers] == [1, 1]
    assert answers[0].json == answers[1].json
    other = await api.call("POST", VERSIONS, body | {"source": "x"}, headers=key)
    assert other.status == 400


async def test_a_manifest_of_many_chunks_is_taken(api: Operator) -> None:
    body = await uploaded(api)
    chunks = [i.to_bytes(32, "little") + (1).to_bytes(4, "little") for i in range(120_000)]
    weights = body["manifest"]["files"][0]
    weights["size"] = len(chunks)
    weights["chunks"] = msgspec.json.encode(b"".join(chunks)).decode().strip('"')

    async def large() -> AsyncIterator[bytes]:  # 5.8 MB: larger than other documents may be
        yield json.dumps(body).encode()

    answer = await api.call("POST", VERSIONS, data=large())
    assert (answer.status, answer.json["reason"]) == (409, "missing-chunks")
    assert "120000 chunks" in answer.json["detail"]
    assert len(answer.json["missing"]) == 1000
