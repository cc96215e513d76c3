import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Invalid, Unauthenticated
from federation.identity import tokens
from federation.identity.tokens import TokenKind
from federation.runtime.telemetry import redact

NAMES = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


@given(st.sampled_from(TokenKind), NAMES)
def test_a_minted_token_parses_to_what_it_was_minted_for(kind: TokenKind, name: str) -> None:
    text = tokens.mint(kind, name)
    token = tokens.parse(text)
    assert (token.kind, token.id, token.text) == (kind, name, text)
    assert text not in repr(token)
    assert text not in redact(f"authorization: {text}")


def test_two_tokens_differ() -> None:
    assert tokens.mint(TokenKind.JOIN, "a") != tokens.mint(TokenKind.JOIN, "a")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer x",
        "fed_admin_ops",
        "fed_root_ops_" + "a" * 43,
        "fed_admin_Ops_" + "a" * 43,
        "fed_admin_ops_" + "a" * 42,
        "fed_admin_ops_" + "a" * 44,
        "fed_admin_../x_" + "a" * 43,
        "fed_admin_ops_" + "a" * 43 + "\n",
    ],
)
def test_malformed_tokens_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        tokens.parse(text)
    assert not text or text not in raised.value.sentence()


def test_a_token_for_no_name_is_not_minted() -> None:
    with pytest.raises(Invalid, match="cannot name"):
        tokens.mint(TokenKind.JOIN, "a_b")


def test_the_same_key_and_purpose_derive_the_same_token() -> None:
    first = tokens.derive(TokenKind.JOIN, "a", key="k", purpose="p")
    assert first == tokens.derive(TokenKind.JOIN, "a", key="k", purpose="p")
    others = {
        tokens.derive(TokenKind.JOIN, "a", key="k2", purpose="p"),
        tokens.derive(TokenKind.JOIN, "a", key="k", purpose="p2"),
        tokens.derive(TokenKind.JOIN, "b", key="k", purpose="p"),
        tokens.derive(TokenKind.ROUTER_JOIN, "a", key="k", purpose="p"),
    }
    assert len(others) == 4
    assert first not in others
    assert tokens.parse(first).id == "a"


def test_a_digest_is_nothing_without_its_pepper() -> None:
    text = tokens.mint(TokenKind.USER, "alice")
    one, other = "00" * 32, "01" * 32
    assert tokens.digest(one, text) == tokens.digest(one, text)
    assert tokens.digest(one, text) not in (tokens.digest(other, text), tokens.sha256(text))
    assert len(tokens.digest(one, text)) == 64


def test_nothing_matches_an_empty_hash() -> None:
    assert tokens.matches(tokens.sha256("x"), tokens.sha256("x"))
    assert not tokens.matches(tokens.sha256("x"), tokens.sha256("y"))
    assert not tokens.matches("", "")


def test_a_token_file_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    first = tokens.load_or_create(path, TokenKind.ADMIN, "local")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert tokens.load_or_create(path, TokenKind.ADMIN, "local") == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"\xff\xfe"])
def test_a_broken_token_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "admin.token"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=r"admin\.token"):
        tokens.load_or_create(path, TokenKind.ADMIN, "local")


def test_a_token_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.token"
    tokens.load_or_create(path, TokenKind.ADMIN, "local")
    with pytest.raises(Invalid, match="kind 'user'"):
        tokens.load_or_create(path, TokenKind.USER, "local")
