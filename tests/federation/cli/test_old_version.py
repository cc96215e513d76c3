"""Old chunks for a push: out of runs that are read ahead, whatever becomes of the links."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from federation.chunking.scan import scan_directory
from federation.cli.old_version import OldVersion, Origin
from federation.contract.errors import PermissionDenied, Unavailable
from federation.contract.locations import Locations, PackSource, Place, pack_places
from federation.contract.manifest import distinct_chunks
from federation.contract.types import Manifest
from tests.federation.cli.test_pull import Origin as Served
from tests.federation.cli.test_pull import serve


@dataclass
class Old:
    """An old version in one pack that is served, and a new one of which each chunk has changed."""

    manifest: Manifest
    new: Manifest
    folder: Path
    served: Served
    loads: int = 0
    pauses: list[float] = field(default_factory=list)

    def load(self) -> Locations:
        self.loads += 1
        source = PackSource(id="p" * 64, url="/packs/p")
        return Locations(packs=(source,), places=pack_places(self.served.places))

    def opened(self, directory: Path | None = None) -> OldVersion:
        url = self.served.url
        origin = Origin(manifest=self.manifest, load=self.load, endpoint=url, directory=directory)
        return OldVersion(origin)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Old]:
    folder = tmp_path / "1"
    folder.mkdir()
    data = np.random.default_rng(3).bytes(30_000_000)
    (folder / "w.safetensors").write_bytes(data)
    manifest = scan_directory(folder, "m")
    changed = tmp_path / "2"
    changed.mkdir()
    lengths = list(distinct_chunks(manifest).values())
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    flipped = bytearray(data)
    for start in starts:
        flipped[start] ^= 1
    (changed / "w.safetensors").write_bytes(flipped)
    new = scan_directory(changed, "m", like=manifest)
    places = [Place(0, start, length) for start, length in zip(starts, lengths, strict=True)]
    served = Served(manifest=manifest, pack=data, places=places)
    server = serve(served)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    made = Old(manifest, new, folder, served)
    monkeypatch.setattr("federation.cli.old_version.time.sleep", made.pauses.append)
    yield made
    server.shutdown()
    server.server_close()


def check(old: Old, opened: OldVersion) -> None:
    """Every new chunk has the old one at its place as its base."""
    old_digests = list(distinct_chunks(old.manifest))
    new_digests = list(distinct_chunks(old.new))
    assert opened.plan(old.new, new_digests) == len(new_digests) > 10
    for new, was in zip(new_digests, old_digests, strict=True):
        base = opened.base(new)
        assert base is not None
        assert (base.digest, blake3(base.data).digest()) == (was, was)


def test_runs_are_fetched_once(old: Old) -> None:
    with old.opened() as opened:
        check(old, opened)
        assert opened.fetched == len(old.served.pack)
    assert len(old.served.ranges) < 8
    assert old.loads == 1


def test_in_another_order_nothing_grows_and_little_is_fetched_twice(old: Old) -> None:
    digests = list(distinct_chunks(old.new))
    with old.opened() as opened:
        opened.plan(old.new, digests)
        for digest in sorted(digests):
            assert opened.base(digest) is not None
        assert opened._store is not None
        assert len(opened._store._held) <= 2
        assert opened.fetched < 3 * len(old.served.pack)


def test_links_that_end_and_answers_that_break_are_asked_anew(old: Old) -> None:
    old.served.answers = ["", "403", "short", "", "500"]
    with old.opened() as opened:
        check(old, opened)
    assert old.loads == 4


def test_a_store_that_stays_away_ends_the_push(old: Old) -> None:
    for fault in ("500", "403"):
        old.served.answers = [fault] * 100
        with old.opened() as opened:
            opened.plan(old.new, distinct_chunks(old.new))
            with pytest.raises(Unavailable) as caught:
                opened.base(next(iter(distinct_chunks(old.new))))
            assert not isinstance(caught.value, PermissionDenied)


def test_what_is_damaged_in_the_store_is_no_base(old: Old) -> None:
    old.served.answers = ["flip"]
    with old.opened() as opened:
        opened.plan(old.new, distinct_chunks(old.new))
        first, second = list(distinct_chunks(old.new))[:2]
        assert opened.base(first) is None
        assert opened.base(second) is not None


def test_files_that_are_here_are_not_fetched_and_damaged_ones_are(old: Old) -> None:
    with old.opened(old.folder) as opened:
        check(old, opened)
        assert (opened.fetched, old.served.ranges) == (0, [])
    with (old.folder / "w.safetensors").open("r+b") as file:
        file.write(b"other")
    with old.opened(old.folder) as opened:
        check(old, opened)
        assert 0 < opened.fetched < 16 << 20  # one chunk
    (old.folder / "w.safetensors").unlink()
    with old.opened(old.folder) as opened:
        check(old, opened)


def test_chunks_that_are_not_sent_or_not_like_old_ones_have_no_base(old: Old) -> None:
    with old.opened() as opened:
        assert opened.base(bytes(32)) is None
        assert opened.plan(old.new, []) == 0
        assert opened.plan(old.manifest, distinct_chunks(old.manifest)) == 0
    assert old.loads == 0
