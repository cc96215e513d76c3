from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.contract.types import Location
from federation.runtime.config import load_settings
from router.settings import Settings, check, parse_location, read_token


def load(*argv: str, **environ: str) -> Settings:
    settings = load_settings(Settings, prog="fed-router", argv=argv, environ=environ)
    check(settings)
    return settings


def test_flags_and_environment_are_read() -> None:
    settings = load(
        *("--table", "t.yaml", "--trusted-proxies", "10.0.0.0/8", "--trusted-proxies", "fd00::/8"),
        *("--connect-to", "a:1=b:2", "--max-body-bytes", "1000"),
        FED_NAME="eu",
        FED_LOG_LEVEL="debug",
    )
    assert (settings.name, settings.trusted_proxies) == ("eu", ("10.0.0.0/8", "fd00::/8"))
    assert (settings.connect_to, settings.max_body_bytes) == (("a:1=b:2",), 1000)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "needs --control-plane or --table"),
        (("--table", "t", "--control-plane", "h:1"), "only one of them"),
        (("--control-plane", "h:1"), "needs --token-file"),
        (("--table", "t", "--name", "No Name"), "cannot name a router"),
        (("--table", "t", "--max-body-bytes", "0"), "--max-body-bytes must be greater"),
        (("--table", "t", "--log-level", "loud"), "--log-level 'loud' is none"),
    ],
)
def test_bad_settings_are_named_with_the_remedy(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        load(*argv)
    assert words in caught.value.sentence()


def test_a_location_is_two_numbers_on_earth() -> None:
    assert parse_location("") is None
    assert parse_location("52.4, -4.9") == Location(latitude=52.4, longitude=-4.9)
    for text in ("52", "a,b", "91,0", "0,181", "1,2,3", "nan,0"):
        with pytest.raises(Invalid, match="is no place"):
            parse_location(text)


def test_a_token_is_read_without_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "router.token"
    with pytest.raises(Invalid, match="Cannot read --token-file"):
        read_token(str(path))
    path.write_text("\n")
    with pytest.raises(Invalid, match="is empty"):
        read_token(str(path))
    path.write_text("fed_router_r_secret\n")
    assert read_token(str(path)) == "fed_router_r_secret"
