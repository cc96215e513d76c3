import stat
from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.identity.pepper import load_or_create


def test_a_pepper_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    first = load_or_create(path)
    assert len(bytes.fromhex(first)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create(path) == first
    assert load_or_create(tmp_path / "another") != first


@pytest.mark.parametrize("content", [b"", b"abc\n", b"\xff" * 64, b"g" * 64])
def test_a_broken_pepper_is_named_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(content)
    with pytest.raises(Invalid, match="pepper"):
        load_or_create(path)
    assert path.read_bytes() == content


def test_a_pepper_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    load_or_create(path)
    path.chmod(0o644)
    load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
