"""A version that is put together in any order, with any damage between two runs."""

import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.sync.breath import SLICE_BYTES, Breath
from edge_agent.sync.shelf import Shelf
from federation.contract.errors import Conflict, FederationError, Invalid, NotFound
from tests.edge_agent.sync.packages import CHUNK, Package, needed, visible

R = random.Random(7)
BIG = R.randbytes(10 * CHUNK + 77)
FILES = {
    "model.py": b"x = 1\n",
    "deep/er/weights.bin": BIG,
    "deep/twice.bin": BIG[: 2 * CHUNK] + b"tail",
    "empty": b"",
    "zeros": bytes(3 * CHUNK),
}


def test_a_version_is_put_together_and_published(tmp_path: Path) -> None:
    package, shelf = Package(FILES), Shelf(tmp_path)
    staging = package.open(shelf, b"release")
    staging.resume()
    staging.reuse()
    assert staging.present_bytes == 0
    with pytest.raises(Conflict, match="lacks"):
        staging.publish()
    assert visible(tmp_path) == []
    path = None
    package.feed(staging, needed(staging), threads=4)
    assert staging.complete
    assert staging.present_bytes == staging.total_bytes
    assert max(package.asked.values()) == 1
    assert len(package.asked) == len(package.chunks)
    path = staging.publish()
    assert path == package.folder(tmp_path) == shelf.find(*package.key)
    assert package.is_at(path)
    assert {p.stat().st_mode & 0o777 for p in path.rglob("*") if p.is_file()} == {0o444}
    assert path.with_name(path.name + ".manifest").read_bytes() == package.document
    assert path.with_name(path.name + ".release").read_bytes() == b"release"
    assert list((tmp_path / "staging" / "m").iterdir()) == []
    assert shelf.documents(*package.key) == (package.document, b"release")


def test_wrong_bytes_are_refused(tmp_path: Path) -> None:
    package = Package(FILES)
    staging = package.open(Shelf(tmp_path))
    staging.reuse()
    number = needed(staging)[0]
    good = package.chunks[staging.chunk(number).digest]
    for bad in (good[:-1], good + b"x", good[::-1], b""):
        with pytest.raises(Invalid, match="other bytes"):
            staging.put(number, bad)
    assert staging.present_bytes == 0
    staging.put(number, memoryview(good))
    assert staging.present_bytes >= len(good)
    staging.close()


def test_while_inference_goes_first_a_chunk_is_hashed_and_written_with_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr("edge_agent.sync.breath.time.sleep", rests.append)
    breath = Breath()
    data = R.randbytes(2 * SLICE_BYTES + 5)
    package = Package({"weights.bin": data}, size=len(data))
    shelf = Shelf(tmp_path, breath=breath)
    staging = package.open(shelf)
    staging.reuse()
    package.feed(staging, (0,))
    assert rests == []
    staging.close()
    breath.needed = True
    staging = package.open(shelf)
    staging.resume()
    assert len(rests) == 3  # after each block that it reads
    assert staging.complete
    staging.put(0, data)  # it is there: hashed, and not written
    assert len(rests) == 3 + 2
    assert package.is_at(staging.publish())


def test_pieces_are_given_only_when_they_are_held(tmp_path: Path) -> None:
    package = Package(FILES)
    staging = package.open(Shelf(tmp_path))
    staging.reuse()
    assert staging.bitmap() == bytes(-(-len(staging.pieces) // 8))
    for number in range(len(staging.pieces)):
        with pytest.raises(NotFound):
            staging.read(number, 0, 1)
        package.feed(staging, staging.needed(number))
    for number, piece in enumerate(staging.pieces):
        data = FILES[staging.manifest.files[piece.file].path]
        assert staging.holds(number)
        assert staging.read(number, 0, piece.length) == data[piece.offset :][: piece.length]
        assert staging.read(number, 1, 2) == data[piece.offset :][1:3]
        with pytest.raises(NotFound):
            staging.read(number, 1, piece.length)
    assert sum(b.bit_count() for b in staging.bitmap()) == len(staging.pieces)
    assert not staging.holds(len(staging.pieces))
    assert not staging.holds(-1)
    staging.close()
    with pytest.raises(NotFound, match="gone"):
        staging.read(0, 0, 1)


def test_reading_goes_on_after_publication(tmp_path: Path) -> None:
    package, shelf = Package(FILES), Shelf(tmp_path)
    staging = package.open(shelf)
    staging.reuse()
    package.feed(staging, needed(staging))
    assert shelf.peer_view(package.digest) is staging
    staging.publish()
    view = shelf.peer_view(package.digest)
    assert view is not None
    assert view is not staging
    assert view.read(0, 0, 5) == package.files["deep/er/weights.bin"][:5]


def test_two_fetchers_do_not_mix(tmp_path: Path) -> None:
    package = Package(FILES)
    first = package.open(Shelf(tmp_path))
    with pytest.raises(Conflict, match="already"):
        package.open(Shelf(tmp_path))
    first.close()
    first.close()
    with pytest.raises(Conflict, match="closed"):
        first.put(0, b"")
    package.open(Shelf(tmp_path)).close()


def test_many_fetchers_at_once_publish_one_whole_package(tmp_path: Path) -> None:
    package, errors = Package(FILES), []
    start = threading.Barrier(6)

    def fetch() -> None:
        start.wait(10)
        for _ in range(200):
            try:
                package.fetch(Shelf(tmp_path))
            except FederationError as error:
                errors.append(error.reason)
                if error.reason == "already-exists":
                    return

    threads = [threading.Thread(target=fetch) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(errors) <= {"already-exists", "conflict"}
    assert visible(tmp_path) == [f"m/1-{package.digest[:16]}"]
    assert package.is_at(package.folder(tmp_path))
    assert max(package.asked.values()) == 1


def test_links_and_strangers_in_the_staging_folder_are_removed(tmp_path: Path) -> None:
    package, shelf = Package(FILES), Shelf(tmp_path / "state")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    staging = package.staging_folder(tmp_path / "state")
    staging.mkdir(parents=True)
    (staging / "deep").symlink_to(outside)
    (staging / "model.py").symlink_to(outside / "victim")
    (staging / "zeros").mkdir()
    (staging / "zeros" / "x").write_text("x")
    os.mkfifo(staging / "empty")
    (staging / "parts").mkdir()
    (staging / "parts" / "stranger").write_text("x")
    path = package.fetch(shelf)
    assert package.is_at(path)
    shelf.verify(*package.key)
    assert [p.name for p in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "untouched"


def test_a_staging_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    package, outside = Package(FILES), tmp_path / "outside"
    outside.mkdir()
    (outside / "model.py").write_text("untouched")
    staging = package.staging_folder(tmp_path / "state")
    staging.parent.mkdir(parents=True)
    staging.symlink_to(outside)
    assert package.is_at(package.fetch(Shelf(tmp_path / "state")))
    assert [p.name for p in outside.iterdir()] == ["model.py"]


def test_a_staging_that_changes_before_publication_is_not_published(tmp_path: Path) -> None:
    package = Package(FILES)
    staging = package.open(Shelf(tmp_path))
    staging.reuse()
    package.feed(staging, needed(staging))
    (package.staging_folder(tmp_path) / "stranger").symlink_to("/etc/passwd")
    with pytest.raises(Conflict, match="stranger"):
        staging.publish()
    staging.close()
    assert visible(tmp_path) == []
    assert package.is_at(package.fetch(Shelf(tmp_path)))


DAMAGE = st.sampled_from(["flip", "cut", "grow", "gone", "sealed", "nothing"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_after_any_damage_only_what_is_damaged_is_fetched_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("shelf")
    sizes = data.draw(st.lists(st.integers(0, 5 * 64), min_size=1, max_size=5))
    seed = data.draw(st.binary(min_size=8, max_size=8))
    # Few different blocks: chunks repeat inside the package, some are zeros.
    blocks = [bytes(64), *(random.Random(seed + bytes([n])).randbytes(64) for n in range(6))]
    pick = random.Random(seed)
    files = {
        f"{'d/' * (n % 3)}f{n}": b"".join(pick.choice(blocks) for _ in range(6))[:size]
        for n, size in enumerate(sizes)
    }
    package = Package(files, size=64)
    for _ in range(data.draw(st.integers(0, 3))):
        staging = package.open(Shelf(root))
        staging.resume()
        staging.reuse()
        before = _right(package, root)
        wanted = needed(staging)
        digests = [staging.chunk(n).digest for n in wanted]
        assert len(set(digests)) == len(digests)
        assert {staging.chunk(n).digest for n in wanted}.isdisjoint(before)
        order = data.draw(st.permutations(wanted))
        package.feed(staging, order[: data.draw(st.integers(0, len(order)))])
        staging.close()
        _damage(package.staging_folder(root), data)
    path = package.fetch(Shelf(root))
    assert package.is_at(path)
    Shelf(root).verify(*package.key)


def _right(package: Package, root: Path) -> set[bytes]:
    """The digests of chunks that lie somewhere in the staging folder in their place."""
    found = set()
    for name, content in package.files.items():
        path = package.staging_folder(root) / name
        lies = path.read_bytes() if path.exists() else b""
        for at in range(0, len(content), 64):
            cut = content[at : at + 64]
            if len(lies) == len(content) and lies[at : at + 64] == cut and any(cut):
                found |= {d for d, c in package.chunks.items() if c == cut}
    return found


def _damage(staging: Path, data: st.DataObject) -> None:
    for path in sorted(p for p in staging.rglob("*") if p.is_file()):
        match data.draw(DAMAGE):
            case "flip" if size := path.stat().st_size:
                at = data.draw(st.integers(0, size - 1))
                with path.open("r+b") as file:
                    file.seek(at)
                    byte = file.read(1)
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 1]))
            case "cut":
                os.truncate(path, data.draw(st.integers(0, path.stat().st_size)))
            case "grow":
                os.truncate(path, path.stat().st_size + 1)
            case "gone":
                path.unlink()
            case "sealed":
                path.chmod(0o444)
            case _:
                pass
