import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from federation.contract.errors import Invalid, Unavailable
from federation.identity.keyring import BUNDLE_FILE, Identity, open_keyring
from federation.runtime.clock import SystemClock

IDENTITY = Identity(
    trust_domain="fed.test",
    name="main",
    leaf_life=timedelta(hours=1),
    renew_grace=timedelta(days=1),
)


def test_it_is_made_once_and_the_bundle_is_public(tmp_path: Path) -> None:
    first = open_keyring(tmp_path, IDENTITY, SystemClock())
    again = open_keyring(tmp_path, IDENTITY, SystemClock())
    assert first.rollover.active_pin == again.rollover.active_pin
    assert first.pepper == again.pepper
    assert first.pepper not in repr(first)
    bundle = tmp_path / BUNDLE_FILE
    assert bundle.read_text() == first.rollover.bundle()[0]
    assert stat.S_IMODE(bundle.stat().st_mode) & 0o044
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_a_trust_domain_is_for_good(tmp_path: Path) -> None:
    open_keyring(tmp_path, IDENTITY, SystemClock())
    with pytest.raises(Invalid, match=r"'fed\.test', not 'other\.test'") as refusal:
        open_keyring(tmp_path, replace(IDENTITY, trust_domain="other.test"), SystemClock())
    assert "--trust-domain fed.test" in refusal.value.hint


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("a file")
    with pytest.raises((Unavailable, Invalid), match="ca"):
        open_keyring(tmp_path, IDENTITY, SystemClock())
