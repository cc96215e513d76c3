from typing import Any

import pytest
from blake3 import blake3

from tests.fakes.control_plane import Operator, package

VERSIONS = "/api/v1/models/m/versions"


async def uploaded(api: Operator, content: bytes = b"weights") -> dict[str, Any]:
    files, manifest, text = package("m", content)
    for data in files:
        await api.call("PUT", f"/api/v1/blobs/{blake3(data).hexdigest()}", data=data)
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


async def test_missing_blobs_are_named(api: Operator) -> None:
    files, manifest, text = package("m", b"weights")
    answer = await api.call("POST", VERSIONS, {"package": text, "manifest": manifest})
    assert (answer.status, answer.json["reason"]) == (409, "missing-blobs")
    assert set(answer.json["missing"]) == {blake3(data).hexdigest() for data in files}
    assert (await api.call("GET", "/api/v1/models")).json["items"] == []


async def test_the_manifest_is_served_in_the_bytes_of_its_digest(api: Operator) -> None:
    pushed = (await api.push("m")).json
    answer = await api.call("GET", f"{VERSIONS}/1/manifest")
    assert answer.status == 200
    assert blake3(answer.body).hexdigest() == pushed["digest"]


async def test_a_version_is_read_by_number_and_alias(api: Operator) -> None:
    await api.push("m", b"one")
    await api.push("m", b"two")
    alias = "/api/v1/models/m/aliases/champion"
    moved = await api.call("PUT", alias, {"version": 1})
    assert moved.json["spec"]["aliases"] == {"champion": 1}
    by_alias = await api.call("GET", f"{VERSIONS}/champion")
    assert by_alias.json["version"] == 1
    assert [f["path"] for f in by_alias.json["files"]] == ["model.onnx", "model.yaml"]
    assert by_alias.json["package"]["file"] == "model.onnx"
    assert by_alias.json["created_by"] == "admin/local"
    removed = await api.call("DELETE", alias)
    assert (removed.status, removed.json["spec"]["aliases"]) == (200, {})
    assert (await api.call("GET", f"{VERSIONS}/champion")).status == 404


@pytest.mark.parametrize("version", ["3", "nope", "-1", "9" * 30, "²"])
async def test_unknown_versions_are_not_found(api: Operator, version: str) -> None:
    await api.push("m")
    assert (await api.call("GET", f"{VERSIONS}/{version}")).status == 404
    assert (await api.call("GET", f"{VERSIONS}/{version}/manifest")).status == 404


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


async def refused(api: Operator, body: object, path: str = VERSIONS) -> str:
    answer = await api.call("POST", path, body)
    assert answer.status == 400, answer.body
    assert (await api.call("GET", "/api/v1/models")).json["items"] == []
    return f"{answer.json['detail']} {answer.json['hint']}"


async def test_a_push_that_does_not_fit_together_is_refused(api: Operator) -> None:
    body = await uploaded(api)
    assert "must be equal" in await refused(api, body, "/api/v1/models/other/versions")
    other_text = body["package"].replace("name: m", "name: n")
    assert "must be equal" in await refused(api, body | {"package": other_text})
    changed = body["package"] + "description: changed\n"
    assert "not the one" in await refused(api, body | {"package": changed})
    only_yaml = {"model": "m", "files": [body["manifest"]["files"][1]]}
    assert "'model.onnx'" in await refused(api, body | {"manifest": only_yaml})
    no_yaml = {"model": "m", "files": [body["manifest"]["files"][0]]}
    assert "not the one" in await refused(api, body | {"manifest": no_yaml})


async def test_a_broken_manifest_is_refused(api: Operator) -> None:
    body = await uploaded(api)
    files = body["manifest"]["files"]

    def with_files(*entries: object) -> dict[str, Any]:
        return body | {"manifest": {"model": "m", "files": list(entries)}}

    outside = files[0] | {"path": "../../etc/passwd"}
    assert "outside" in await refused(api, with_files(outside, files[1]))
    assert "ordered" in await refused(api, with_files(files[1], files[0]))
    short = files[0] | {"blake3": "ab"}
    assert "malformed" in await refused(api, with_files(short, files[1]))
    no_hex = files[0] | {"blake3": "../" + "a" * 61}
    assert "digest" in await refused(api, with_files(no_hex, files[1]))
    longer = files[0] | {"size": 8}
    assert "7 bytes" in await refused(api, with_files(longer, files[1]))
    unknown = files[0] | {"mode": 7}
    assert "unknown key 'mode'" in await refused(api, with_files(unknown, files[1]))


async def test_a_mistake_in_model_yaml_is_told_with_its_line(api: Operator) -> None:
    body = await uploaded(api)
    told = await refused(api, body | {"package": body["package"] + "inptus: []\n"})
    assert "line 5" in told
    assert "'inputs'" in told


async def test_a_dry_run_of_a_push_keeps_nothing(api: Operator) -> None:
    body = await uploaded(api)
    answer = await api.call("POST", f"{VERSIONS}?dryRun=true", body)
    assert (answer.status, answer.json["version"]) == (201, 1)
    assert (await api.call("GET", "/api/v1/models")).json["items"] == []
