"""Models of a hub, on a small hub of our own."""

from pathlib import Path

import pytest

from federation.contract.errors import Invalid, NotFound, Unavailable
from federation.sources.base import Opened, Wanted
from federation.sources.hub import open_hub
from federation.sources.uri import parse_source
from tests.fakes.hubs import FakeModelHub

constants = pytest.importorskip("huggingface_hub.constants")
BIG = bytes(range(256)) * 2000
FILES = {"model.yaml": b"name: ft\n", "w/a.safetensors": BIG, ".gitattributes": b"lfs"}


def _open(
    text: str, tmp_path: Path, wanted: Wanted | None = None
) -> tuple[Opened, dict[str, bytes]]:
    with open_hub(
        parse_source(text),
        cache=tmp_path / "cache",
        progress=lambda *_: None,
        wanted=wanted or Wanted(),
    ) as opened:
        root = opened.directory
        assert not [p for p in root.rglob("*") if p.is_symlink()]
        files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return opened, files


@pytest.fixture(autouse=True)
def _cache_folder(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()


def test_a_branch_is_pinned_to_its_commit(hub: FakeModelHub, tmp_path: Path) -> None:
    commit = hub.commit("main", FILES)
    opened, files = _open("hf://org/model", tmp_path)
    assert opened.source == f"hf://org/model@{commit}"
    assert opened.revision == commit
    assert files == {"model.yaml": b"name: ft\n", "w/a.safetensors": BIG}
    assert set(opened.sha256) == set(files)
    assert _open(opened.source, tmp_path)[0].source == opened.source


def test_a_moved_branch_is_another_revision_and_equal_files_stay(
    hub: FakeModelHub, tmp_path: Path
) -> None:
    hub.commit("main", FILES)
    first, _ = _open("hf://org/model@main", tmp_path)
    sent = hub.sent
    hub.commit("main", FILES | {"model.yaml": b"name: ft2\n"})
    second, files = _open("hf://org/model@main", tmp_path)
    assert first.revision != second.revision
    assert files["model.yaml"] == b"name: ft2\n"
    assert hub.sent - sent == len(files["model.yaml"])
    assert _open(first.source, tmp_path)[1]["model.yaml"] == b"name: ft\n"


def test_a_cut_fetch_goes_on_in_the_next_push(
    hub: FakeModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.commit("main", FILES)
    hub.cuts, hub.cut_after = 1, 100_000
    assert _open("hf://org/model", tmp_path)[1]["w/a.safetensors"] == BIG
    assert hub.sent < len(BIG) + 30_000
    assert any("Range" in a.headers or "range" in a.headers for a in hub.asked)


def test_progress_counts_bytes(hub: FakeModelHub, tmp_path: Path) -> None:
    hub.commit("main", FILES)
    told: list[tuple[int, int]] = []
    with open_hub(
        parse_source("hf://org/model"),
        cache=tmp_path / "cache",
        progress=lambda done, total, _: told.append((done, total)),
        wanted=Wanted(),
    ):
        pass
    assert told[-1] == (len(BIG) + 9, len(BIG) + 9)


def test_files_can_be_chosen(hub: FakeModelHub, tmp_path: Path) -> None:
    hub.commit("main", FILES | {"w/[x]*.bin": b"odd", "pytorch_model.bin": BIG})
    _, files = _open("hf://org/model", tmp_path, Wanted(exclude=("*.safetensors", "pytorch*")))
    assert files == {"model.yaml": b"name: ft\n", "w/[x]*.bin": b"odd"}
    assert hub.sent < 1000


@pytest.mark.parametrize("name", ["../../evil", "/etc/cron.d/x", "a/../../b", "a\\..\\b"])
def test_names_that_lead_out_are_refused_before_a_byte_comes(
    hub: FakeModelHub, tmp_path: Path, name: str
) -> None:
    hub.commit("main", FILES | {name: b"x"})
    with pytest.raises(Invalid) as caught:
        _open("hf://org/model", tmp_path)
    assert caught.value.reason == "unsafe-path"
    assert hub.sent == 0


def test_a_link_of_the_cache_that_leads_out_is_refused(hub: FakeModelHub, tmp_path: Path) -> None:
    commit = hub.commit("main", FILES)
    _open("hf://org/model", tmp_path)
    link = next((tmp_path / "hf").rglob(f"{commit}/model.yaml"))
    secret = tmp_path / "secret"
    secret.write_bytes(b"name: ft\n")
    link.unlink()
    link.symlink_to(secret)
    with pytest.raises(Invalid, match="leads out"):
        _open("hf://org/model", tmp_path)


def test_a_damaged_cache_is_noticed(hub: FakeModelHub, tmp_path: Path) -> None:
    commit = hub.commit("main", FILES)
    _open("hf://org/model", tmp_path)
    file = next((tmp_path / "hf").rglob(f"{commit}/model.yaml")).resolve()
    file.write_bytes(b"short")
    with pytest.raises(Invalid, match="should have 9"):
        _open("hf://org/model", tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [("hf://org/other", "there is no model"), ("hf://org/model@nope", "no revision 'nope'")],
)
def test_what_is_not_there(hub: FakeModelHub, tmp_path: Path, text: str, says: str) -> None:
    hub.commit("main", FILES)
    with pytest.raises(NotFound, match=says):
        _open(text, tmp_path)


def test_a_private_repository_needs_a_token_that_is_never_shown(
    hub: FakeModelHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("main", FILES)
    hub.token = "hf_s3cret"
    with pytest.raises(NotFound, match="private"):
        _open("hf://org/model", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    opened, _ = _open("hf://org/model", tmp_path)
    assert "s3cret" not in repr(opened)


def test_a_hub_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable):
        _open("hf://org/model", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "hf://datasets/org/x",
        "hf://a/b/c",
        "hf://org/model@",
        "hf://org/..",
        "hf://-x/y",
        "hf://a--b/c",
    ],
)
def test_malformed_names_are_refused_with_the_shape(tmp_path: Path, text: str) -> None:
    with pytest.raises(Invalid, match="malformed") as caught:
        _open(text, tmp_path)
    assert "hf://org/model@revision" in caught.value.sentence()
