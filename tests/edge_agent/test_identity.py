"""Tokens and credentials on disk."""

from pathlib import Path

import pytest

from edge_agent.identity import IdentityFiles
from federation.contract.errors import Invalid


def test_nothing_to_show_is_told_with_the_remedy(tmp_path: Path) -> None:
    identity = IdentityFiles(tmp_path, join_token_file=tmp_path / "missing")
    with pytest.raises(Invalid) as caught:
        identity.check()
    assert "fed cluster register" in caught.value.hint


def test_the_token_is_read_anew_and_the_credential_comes_first(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    identity = IdentityFiles(tmp_path / "state", join_token_file=token)
    assert identity.secrets() == ("one",)
    token.write_text("two\n")
    identity.keep_credential("secret")
    assert identity.secrets() == ("secret", "two")
    again = IdentityFiles(tmp_path / "state", join_token_file=None)
    assert again.secrets() == (again.credential,) == ("secret",)
    assert "secret" not in repr(again)


def test_only_this_user_can_read_the_credential(tmp_path: Path) -> None:
    IdentityFiles(tmp_path, join_token_file=None).keep_credential("secret")
    assert (tmp_path / "credential").stat().st_mode & 0o777 == 0o600


def test_the_instance_outlives_a_restart_only_until_it_has_joined(tmp_path: Path) -> None:
    first = IdentityFiles(tmp_path, join_token_file=None)
    name = first.instance()
    second = IdentityFiles(tmp_path, join_token_file=None)
    assert second.instance() == name
    second.keep_credential("secret")
    assert second.instance() == name
    assert IdentityFiles(tmp_path, join_token_file=None).instance() != name


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "credential").mkdir()
    with pytest.raises(Invalid, match="cannot read"):
        IdentityFiles(tmp_path, join_token_file=None)
