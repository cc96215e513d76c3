from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from federation.cli import push as pushing
from federation.cli.client import ApiClient, LinkBroken
from federation.cli.packages import read_package
from federation.cli.push import Sent, missing_chunks, register, send_chunks
from federation.contract.errors import TooLarge
from federation.contract.manifest import manifest_digest
from federation.runtime.clock import ManualClock
from tests.federation.cli.fake_control_plane import TOKEN, FakeControlPlane
from tests.federation.cli.test_packages import make_package


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.cli.push.time.sleep", lambda _s: None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_package(tmp_path / "package")


def push(url: str, directory: Path, **how: Any) -> tuple[Sent, dict[str, Any]]:
    with read_package(directory) as package, ApiClient(url, token=TOKEN, timeout_s=5.0) as client:
        sent = send_chunks(client, package, **how)
        return sent, register(client, package, "file:///x")


def test_all_chunks_are_sent_once(url: str, plane: FakeControlPlane, directory: Path) -> None:
    sent, first = push(url, directory)
    assert (first["model"], first["version"], first["created"]) == ("filetype", 1, True)
    assert sent.chunks == len(plane.store.chunks) == 3
    assert b"onnx" * 1000 in plane.store.chunks.values()
    sent, again = push(url, directory)
    assert (sent, again["version"], again["created"]) == (Sent(), 1, False)
    (directory / "vocabulary" / "labels.txt").write_text("c\n")
    sent, second = push(url, directory)
    assert (sent.chunks, sent.raw, second["version"]) == (1, 2, 2)
    assert plane.store.uploads == [3, 1]


def test_what_is_registered_is_what_was_read(
    url: str, plane: FakeControlPlane, directory: Path
) -> None:
    with read_package(directory) as package:
        digest = manifest_digest(package.manifest)
    _, answer = push(url, directory)
    assert answer["digest"] == digest
    assert plane.store.pushed[0]["source"] == "file:///x"
    assert "release" not in plane.store.pushed[0]


def test_two_files_with_the_same_bytes_are_sent_once(
    url: str, plane: FakeControlPlane, directory: Path
) -> None:
    (directory / "copy.txt").write_text("a\nb\n")
    assert push(url, directory)[0].chunks == len(plane.store.chunks) == 3


def test_text_is_compressed_unless_told_otherwise(
    url: str, plane: FakeControlPlane, directory: Path
) -> None:
    compressed, _ = push(url, directory)
    assert compressed.raw == sum(map(len, plane.store.chunks.values()))
    assert compressed.wire < compressed.raw / 2
    plane.store.chunks.clear()
    plain, _ = push(url, directory, compress=False)
    assert plain.raw == compressed.raw < plain.wire


@pytest.fixture
def many(directory: Path) -> list[bytes]:
    """Files of one chunk each that cannot be compressed."""
    rng = np.random.default_rng(0)
    made = [rng.bytes(10_000) for _ in range(20)]
    for number, data in enumerate(made):
        (directory / f"part-{number:02}.txt").write_bytes(data)
    return made


def test_an_upload_that_breaks_off_goes_on_where_it_was(
    url: str, plane: FakeControlPlane, directory: Path, many: list[bytes]
) -> None:
    plane.store.cut_uploads = [45_000, 80_000]
    sent, answer = push(url, directory)
    assert answer["created"]
    assert sum(plane.store.uploads) == len(plane.store.chunks) == 23  # each was stored once
    assert len(plane.store.uploads) == 3
    assert sent.chunks >= 23


def test_it_is_given_up_after_some_tries_without_progress(
    url: str, plane: FakeControlPlane, directory: Path, many: list[bytes]
) -> None:
    plane.store.cut_uploads = [10] * 100
    with pytest.raises(LinkBroken):
        push(url, directory)
    assert len(plane.store.uploads) == pushing.TRIES
    assert plane.store.chunks == {}


def test_progress_renews_the_patience(
    url: str, plane: FakeControlPlane, directory: Path, many: list[bytes]
) -> None:
    plane.store.cut_uploads = [10, 10, 10, 45_000] * 3
    _, answer = push(url, directory)
    assert answer["created"]


def test_large_packages_go_in_several_bodies(
    url: str,
    plane: FakeControlPlane,
    directory: Path,
    many: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pushing, "BODY_BYTES", 50_000)
    monkeypatch.setattr(pushing, "ASKED_AT_ONCE", 7)
    push(url, directory)
    assert sum(plane.store.uploads) == 23
    assert len(plane.store.uploads) == 5
    monkeypatch.setattr(pushing, "BODY_BYTES", 1)  # less than one chunk
    plane.store.chunks.clear()
    plane.store.uploads.clear()
    push(url, directory)
    assert plane.store.uploads == [1] * 23


class Hours(ManualClock):
    """A clock that is an hour further whenever somebody looks."""

    def monotonic_s(self) -> float:
        self.advance(3601)
        return super().monotonic_s()


def test_a_long_push_asks_for_what_it_sent_so_that_it_is_not_collected(
    url: str,
    plane: FakeControlPlane,
    directory: Path,
    many: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pushing, "BODY_BYTES", 50_000)
    push(url, directory)
    asked = plane.methods.count("POST /api/v1/chunks/missing")
    plane.store.chunks.clear()
    push(url, directory, clock=Hours())
    again = plane.methods.count("POST /api/v1/chunks/missing") - asked
    assert (asked, again) == (1, 6)
    assert sum(plane.store.uploads) == 2 * 23  # nothing was sent twice


def test_a_refusal_is_not_tried_again(
    url: str, plane: FakeControlPlane, directory: Path, many: list[bytes]
) -> None:
    plane.store.max_upload = 1
    with pytest.raises(TooLarge):
        push(url, directory)
    assert plane.methods.count("POST /api/v1/chunks") == 1


def test_a_dry_run_asks_only(
    url: str, plane: FakeControlPlane, directory: Path, many: list[bytes]
) -> None:
    with read_package(directory) as package, ApiClient(url, token=TOKEN) as client:
        missing = missing_chunks(client, package)
        assert (len(missing), sum(missing.values())) == (23, package.manifest.size)
    assert plane.store.chunks == {}
    plane.store.chunks[blake3(many[0]).digest()] = many[0]
    with read_package(directory) as package, ApiClient(url, token=TOKEN) as client:
        assert missing.keys() - missing_chunks(client, package).keys() == {blake3(many[0]).digest()}
