"""The cache of fetched files: resumed, checked, shared, swept."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid, Unavailable
from federation.sources.blobs import Blob, BlobCache

DATA = bytes(range(256)) * 40


def _blob(data: bytes = DATA, *, sha256: str | None = None) -> Blob:
    digest = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
    return Blob(identity=("t", digest), size=len(data), name="the file", sha256=digest)


class _Source:
    """Bytes that break off after each of some lengths, and are then sent whole."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        self.data, self.cuts, self.asked, self.sent = data, cuts, list[int](), 0

    def read(self, start: int) -> Iterator[bytes]:
        self.asked.append(start)
        end = start + self.cuts.pop(0) if self.cuts else len(self.data)
        block = self.data[start:end]
        self.sent += len(block)
        if block:
            yield block
        if end < len(self.data):
            raise Unavailable("cut")


def _cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path, pause=lambda _: None)


def test_a_broken_fetch_goes_on_where_it_was(tmp_path: Path) -> None:
    source, told = _Source(DATA, [1000, 0, 2000]), list[int]()
    path = _cache(tmp_path).fetch(_blob(), source.read, told.append)
    assert path.read_bytes() == DATA
    assert source.asked == [0, 1000, 1000, 3000]
    assert source.sent == len(DATA)
    assert told == sorted(told)
    assert told[-1] == len(DATA)


def test_it_gives_up_and_the_next_process_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        _cache(tmp_path).fetch(_blob(), _Source(DATA, [1000, *[0] * 9]).read, lambda _: None)
    assert _cache(tmp_path).present(_blob()) == 1000
    later = _Source(DATA, [])
    _cache(tmp_path).fetch(_blob(), later.read, lambda _: None)
    assert later.asked == [1000]


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    _cache(tmp_path).fetch(_blob(), _Source(DATA, []).read, lambda _: None)
    again = _Source(DATA, [])
    _cache(tmp_path).fetch(_blob(), again.read, lambda _: None)
    assert again.asked == []


def test_an_empty_file(tmp_path: Path) -> None:
    path = _cache(tmp_path).fetch(_blob(b""), _Source(b"", []).read, lambda _: None)
    assert path.read_bytes() == b""


def test_wrong_bytes_are_refused_and_not_kept(tmp_path: Path) -> None:
    wrong = DATA[:-1] + b"!"
    with pytest.raises(Invalid) as caught:
        _cache(tmp_path).fetch(_blob(), _Source(wrong, []).read, lambda _: None)
    assert caught.value.reason == "wrong-bytes"
    assert _cache(tmp_path).present(_blob()) == 0


def test_an_endless_body_is_stopped(tmp_path: Path) -> None:
    def endless(_: int) -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(Invalid, match="more than"):
        _cache(tmp_path).fetch(_blob(), endless, lambda _: None)


def test_a_short_body_is_asked_for_again_and_then_given_up(tmp_path: Path) -> None:
    asked = []

    def short(start: int) -> Iterator[bytes]:
        asked.append(start)
        if not start:
            yield DATA[:10]

    with pytest.raises(Unavailable, match="10 of"):
        _cache(tmp_path).fetch(_blob(), short, lambda _: None)
    assert 3 <= len(asked) <= 8


def test_two_fetch_the_same_file_once(tmp_path: Path) -> None:
    source = _Source(DATA, [])
    threads = [
        threading.Thread(target=_cache(tmp_path).fetch, args=(_blob(), source.read, lambda _: None))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert source.asked == [0]


def test_old_files_are_swept_and_used_ones_stay(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    path = cache.fetch(_blob(), _Source(DATA, []).read, lambda _: None)
    cache.sweep(path.stat().st_mtime - 1)
    assert path.exists()
    cache.sweep(path.stat().st_mtime + 60)
    assert not list((tmp_path / "blobs").iterdir())


@given(st.binary(max_size=300), st.lists(st.integers(0, 40), max_size=4))
def test_any_cuts_give_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    source = _Source(data, cuts)
    cache = _cache(tmp_path_factory.mktemp("c"))
    assert cache.fetch(_blob(data), source.read, lambda _: None).read_bytes() == data
    assert source.sent == len(data)
