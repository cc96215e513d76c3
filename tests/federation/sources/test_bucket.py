"""Packages in object storage, on a small S3 of our own."""

from pathlib import Path

import pytest

from federation.contract.errors import Conflict, Invalid, NotFound, PermissionDenied, Unavailable
from federation.sources.base import Opened, Wanted
from federation.sources.bucket import open_bucket
from federation.sources.uri import parse_source
from tests.fakes.hubs import FakeS3

pytest.importorskip("obstore")
BIG = bytes(range(256)) * 4000


def _open(
    text: str, tmp_path: Path, wanted: Wanted | None = None
) -> tuple[Opened, dict[str, bytes]]:
    told: list[tuple[int, int, str]] = []
    with open_bucket(
        parse_source(text),
        cache=tmp_path / "cache",
        progress=lambda *seen: told.append(seen),
        wanted=wanted or Wanted(),
    ) as opened:
        root = opened.directory
        files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert told[-1][0] == told[-1][1] == sum(map(len, files.values()))
    return opened, files


def test_a_prefix_becomes_a_directory_pinned_to_what_it_held(
    bucket: FakeS3, tmp_path: Path
) -> None:
    bucket.objects = {
        "ft/model.yaml": b"name: ft\n",
        "ft/w/a.bin": BIG,
        "ftx/y": b"no",
        "ft/w/": b"",
    }
    opened, files = _open("s3://models/ft/", tmp_path)
    assert files == {"model.yaml": b"name: ft\n", "w/a.bin": BIG}
    assert opened.source == f"s3://models/ft@{opened.revision}"
    assert "s3cret" not in repr(opened)
    assert not opened.directory.exists()


def test_a_cut_link_goes_on_and_a_second_push_fetches_nothing(
    bucket: FakeS3, tmp_path: Path
) -> None:
    bucket.objects = {"ft/a.bin": BIG}
    bucket.cuts, bucket.cut_after = 2, 100_000
    _open("s3://models/ft", tmp_path)
    assert bucket.sent == len(BIG)
    _open("s3://models/ft", tmp_path)
    assert bucket.sent == len(BIG)


def test_a_changed_object_is_another_revision_and_moves_alone(
    bucket: FakeS3, tmp_path: Path
) -> None:
    bucket.objects = {"ft/a.bin": BIG, "ft/b": b"1"}
    first, _ = _open("s3://models/ft", tmp_path)
    bucket.objects["ft/b"] = b"2"
    second, files = _open("s3://models/ft", tmp_path)
    assert first.revision != second.revision
    assert files["b"] == b"2"
    assert bucket.sent == len(BIG) + 2


def test_a_pin_is_held(bucket: FakeS3, tmp_path: Path) -> None:
    bucket.objects = {"ft/a": b"1"}
    pinned = _open("s3://models/ft", tmp_path)[0].source
    assert _open(pinned, tmp_path)[0].source == pinned
    bucket.objects["ft/a"] = b"2"
    with pytest.raises(Conflict, match="is not"):
        _open(pinned, tmp_path)


def test_an_object_that_changes_meanwhile_is_refused(
    bucket: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.objects = {"ft/a": b"1"}
    listing = bucket._listing

    def change(prefix: str) -> object:
        answer = listing(prefix)
        bucket.objects["ft/a"] = b"2"
        return answer

    monkeypatch.setattr(bucket, "_listing", change)
    with pytest.raises(Conflict, match="was changed while"):
        _open("s3://models/ft", tmp_path)


def test_files_can_be_chosen(bucket: FakeS3, tmp_path: Path) -> None:
    bucket.objects = {"ft/a.onnx": b"1", "ft/b.pkl": b"2"}
    assert _open("s3://models/ft", tmp_path, Wanted(include=("*.onnx",)))[1] == {"a.onnx": b"1"}


def test_names_that_lead_out_are_refused(bucket: FakeS3, tmp_path: Path) -> None:
    bucket.objects = {"ft/a\\..\\b": b"1"}
    with pytest.raises(Invalid) as caught:
        _open("s3://models/ft", tmp_path)
    assert caught.value.reason == "unsafe-path"


def test_what_can_be_wrong(bucket: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="nothing below"):
        _open("s3://models/nothing", tmp_path)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(PermissionDenied):
        _open("s3://models/ft", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1.example.org:1")
    with pytest.raises(Invalid, match="not encrypted"):
        _open("s3://models/ft", tmp_path)


def test_a_store_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with pytest.raises(Unavailable) as caught:
        _open("s3://models/ft", tmp_path)
    assert "s3cret" not in caught.value.sentence()
