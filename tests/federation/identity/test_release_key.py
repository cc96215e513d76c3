import stat
from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.contract.release import Release, seal
from federation.identity.release_key import open_release_key
from federation.trust.signing import new_signing_key, public_key, signers, verified

RELEASE = Release(model="m", manifest="a" * 64, size=1, sequence=1, created=1)


def test_the_first_start_makes_a_key_that_lasts(tmp_path: Path) -> None:
    first = open_release_key(tmp_path)
    assert open_release_key(tmp_path) == first
    assert first.trusted == (first.id,)
    assert stat.S_IMODE((tmp_path / "release" / "key.pem").stat().st_mode) == 0o600
    assert verified(first.sign(seal(RELEASE)), first.trusted) == RELEASE
    assert "PRIVATE" not in repr(first)


def test_a_replaced_key_signs_and_the_old_one_stays_trusted(tmp_path: Path) -> None:
    old = open_release_key(tmp_path)
    before = old.sign(seal(RELEASE))
    new_pem = new_signing_key()
    (tmp_path / "release" / "key.pem").write_text(new_pem)
    new = open_release_key(tmp_path)
    assert new.id == public_key(new_pem)
    assert new.trusted == (new.id, old.id)
    assert stat.S_IMODE((tmp_path / "release" / "key.pem").stat().st_mode) == 0o600
    after = new.renewed(before)
    assert signers(after, new.trusted) == {old.id, new.id}
    assert new.renewed(after) is after


def test_nobody_elses_release_is_renewed(tmp_path: Path) -> None:
    key, stranger = open_release_key(tmp_path / "."), seal(RELEASE)
    assert key.renewed(stranger) is stranger


def test_a_line_taken_out_ends_the_trust(tmp_path: Path) -> None:
    old = open_release_key(tmp_path)
    (tmp_path / "release" / "key.pem").unlink()
    new = open_release_key(tmp_path)
    trusted = tmp_path / "release" / "trusted"
    assert trusted.read_text().split() == [old.id, new.id]
    trusted.write_text(f"# since today\n\n{new.id}  # the present one")
    assert open_release_key(tmp_path).trusted == (new.id,)


@pytest.mark.parametrize(
    ("file", "text"), [("key.pem", "x"), ("key.pem", "\xff"), ("trusted", "ab")]
)
def test_what_is_no_key_is_told(tmp_path: Path, file: str, text: str) -> None:
    open_release_key(tmp_path)
    (tmp_path / "release" / file).write_text(text)
    with pytest.raises(Invalid):
        open_release_key(tmp_path)
