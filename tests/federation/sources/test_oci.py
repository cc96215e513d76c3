"""Artifacts of a registry become packages."""

import json
from pathlib import Path
from typing import Any

import pytest

from federation.contract.errors import Conflict, Invalid, NotFound
from federation.sources.base import Opened, Wanted
from federation.sources.oci import open_oci
from federation.sources.uri import parse_source
from tests.fakes.hubs import FakeRegistry

BIG = bytes(range(256)) * 4000


def _open(
    text: str, tmp_path: Path, wanted: Wanted | None = None
) -> tuple[Opened, dict[str, bytes]]:
    with open_oci(
        parse_source(text),
        cache=tmp_path / "cache",
        progress=lambda *_: None,
        wanted=wanted or Wanted(),
    ) as opened:
        root = opened.directory
        files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return opened, files


def _at(server: FakeRegistry, reference: str) -> str:
    return f"oci://{server.host}/{server.name}{reference}"


def test_a_tag_is_pinned_to_its_digest(registry: FakeRegistry, tmp_path: Path) -> None:
    digest = registry.push("1", {"model.yaml": b"name: ft\n", "w/a.bin": BIG})
    opened, files = _open(_at(registry, ":1"), tmp_path)
    assert opened.source == _at(registry, f":1@{digest}")
    assert opened.revision == digest
    assert files == {"model.yaml": b"name: ft\n", "w/a.bin": BIG}
    assert set(opened.sha256) == set(files)
    assert _open(_at(registry, f"@{digest}"), tmp_path)[1] == files


def test_a_moved_tag_is_another_revision_and_equal_files_stay(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    registry.push("1", {"model.yaml": b"1", "w/a.bin": BIG})
    first, _ = _open(_at(registry, ":1"), tmp_path)
    registry.push("1", {"model.yaml": b"2", "w/a.bin": BIG})
    second, files = _open(_at(registry, ":1"), tmp_path)
    assert first.revision != second.revision
    assert files["model.yaml"] == b"2"
    assert registry.sent == len(BIG) + 2
    assert _open(first.source, tmp_path)[1]["model.yaml"] == b"1"  # the digest wins over the tag


def test_a_cut_link_goes_on(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.push("1", {"a.bin": BIG})
    registry.cuts, registry.cut_after = 3, 50_000
    assert _open(_at(registry, ":1"), tmp_path)[1] == {"a.bin": BIG}
    assert registry.sent == len(BIG)


def test_a_registry_that_lies_about_a_manifest_or_a_blob(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    digest = registry.push("1", {"a.bin": BIG})
    blob = next(iter(registry.blobs))
    registry.blobs[blob] = BIG[:-1] + b"!"
    with pytest.raises(Invalid) as caught:
        _open(_at(registry, ":1"), tmp_path)
    assert caught.value.reason == "wrong-bytes"
    registry.manifests[digest] = b"{}"
    with pytest.raises(Invalid, match="another digest"):
        _open(_at(registry, f":1@{digest}"), tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a\\b"])
def test_titles_that_lead_out_are_refused(
    registry: FakeRegistry, tmp_path: Path, name: str
) -> None:
    registry.push("1", {"fine": b"1", name: b"2"})
    with pytest.raises(Invalid) as caught:
        _open(_at(registry, ":1"), tmp_path)
    assert caught.value.reason == "unsafe-path"
    assert registry.sent == 0


def test_files_can_be_chosen(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.push("1", {"a.onnx": b"1", "b.pkl": BIG})
    wanted = Wanted(exclude=("*.pkl",))
    assert _open(_at(registry, ":1"), tmp_path, wanted)[1] == {"a.onnx": b"1"}
    assert registry.sent == 1


def test_a_list_of_one_artifact_is_followed(registry: FakeRegistry, tmp_path: Path) -> None:
    inner = registry.push("inner", {"a": b"1"})
    outer = registry.put("1", json.dumps({"manifests": [{"digest": inner}]}).encode())
    opened, files = _open(_at(registry, ":1"), tmp_path)
    assert (opened.revision, files) == (outer, {"a": b"1"})
    registry.put("2", json.dumps({"manifests": [{"digest": inner}] * 2}).encode())
    with pytest.raises(Invalid, match="several"):
        _open(_at(registry, ":2"), tmp_path)


def _one(**more: Any) -> dict[str, Any]:
    notes = {"org.opencontainers.image.title": "a"}
    return {"layers": [{"digest": f"sha256:{'0' * 64}", "size": 1, "annotations": notes, **more}]}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "malformed"),
        ({}, "no layers"),
        ({"layers": []}, "no layers"),
        ({"layers": [1]}, "malformed"),
        (_one(annotations=[1]), "malformed"),
        (_one(annotations={}), "without a title"),
        (_one(size=-1), "without a SHA-256"),
        (_one(digest="sha256:../../x"), "without a SHA-256"),
        (_one(mediaType="application/vnd.oci.image.layer.v1.tar+gzip"), "archive"),
        (_one(annotations={"io.deis.oras.content.unpack": "true"}), "archive"),
    ],
)
def test_odd_manifests_are_refused(
    registry: FakeRegistry, tmp_path: Path, document: object, says: str
) -> None:
    registry.put("1", json.dumps(document).encode())
    with pytest.raises(Invalid, match=says):
        _open(_at(registry, ":1"), tmp_path)


def test_deep_json_and_no_json_are_refused(registry: FakeRegistry, tmp_path: Path) -> None:
    for data in (b"[" * 100_000, b"\xff", b"no"):
        registry.put("1", data)
        with pytest.raises(Invalid, match="malformed"):
            _open(_at(registry, ":1"), tmp_path)


def test_twins_with_other_bytes_are_refused(registry: FakeRegistry, tmp_path: Path) -> None:
    layers = _one()["layers"] + _one(digest=f"sha256:{'1' * 64}")["layers"]
    registry.put("1", json.dumps({"layers": layers}).encode())
    with pytest.raises(Conflict, match="two layers"):
        _open(_at(registry, ":1"), tmp_path)


def test_what_is_not_there(registry: FakeRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        _open(_at(registry, ":nope"), tmp_path)


@pytest.mark.parametrize(
    "text",
    ["oci://reg.io", "oci://reg.io/a", "oci://reg.io/A:1", "oci://reg.io/a:b/c", "oci://reg.io/a:-",
     "oci://reg.io/a:1@sha256:12", "oci://reg.io/../a:1", "oci://re_g/a:1"],
)  # fmt: skip
def test_malformed_references_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match="malformed"):
        _open(text, tmp_path)
