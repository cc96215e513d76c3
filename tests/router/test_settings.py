from pathlib import Path

import pytest

from federation.contract.errors import Invalid
from federation.contract.types import Location
from federation.runtime.config import load_settings
from router.settings import (
    Settings,
    check,
    contact,
    parse_location,
    parse_shares,
    reverse_address,
    state_directory,
)


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
        (("--control-plane", "h:1", "--control-plane-url", "http://h:2"), "no URL of a control"),
        (("--control-plane", "h:1", "--ca-pin", "abc"), "is no pin"),
        (("--control-plane", "h:1", "--reverse-listen", "0.0.0.0:1"), "agents cannot dial"),
        (("--table", "t", "--tls-key", "k"), "belong together"),
        (("--table", "t", "--listen", "0.0.0.0:1"), "in plain text. Give --tls-certificate"),
        (("--table", "t", "--name", "No Name"), "cannot name a router"),
        (("--table", "t", "--max-body-bytes", "0"), "--max-body-bytes must be greater"),
        (("--table", "t", "--steer", "west"), "Use off, tell, redirect"),
        (("--table", "t", "--decision-records", "-1"), "Use 0 for none"),
        (("--table", "t", "--hedge-budget", "0.5"), "is no share from 0 to 0.1"),
        (("--table", "t", "--hedge-budget", "two"), "--hedge-budget"),
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


def test_the_state_directory_has_a_place_of_its_own() -> None:
    settings = load("--control-plane", "h:1", "--name", "pop-1")
    home = state_directory(settings, {"XDG_STATE_HOME": "/state"})
    assert home == Path("/state/inference-federation/router-pop-1")
    assert state_directory(settings, {}).parts[-4:-2] == (".local", "state")
    given = load("--control-plane", "h:1", "--state-dir", "/var/lib/router")
    assert state_directory(given, {}) == Path("/var/lib/router")


def test_how_to_join_is_taken_together() -> None:
    pin = "sha256:" + "a" * 64
    settings = load("--control-plane", "h:1", "--ca-pin", pin, "--join-token-file", "t")
    found = contact(settings)
    assert (found.url, found.pin, found.token_file) == ("https://127.0.0.1:7480", pin, Path("t"))
    assert contact(load("--control-plane", "h:1")).token_file is None


def test_agents_are_told_where_to_dial() -> None:
    plain = load("--control-plane", "h:1", "--reverse-listen", "10.0.0.1:0")
    assert reverse_address(plain, ("10.0.0.1", 4321)) == "10.0.0.1:4321"
    told = load("--control-plane", "h:1", "--reverse-advertise", "pop.example:7402")
    assert reverse_address(told, ("127.0.0.1", 7402)) == "pop.example:7402"


def test_shares_are_read() -> None:
    assert parse_shares(("a=0.4", "b=1")) == {"a": 0.4, "b": 1.0}
    for odd in ("a", "a=", "=0.4", "a=0", "a=1.1", "a=x", "a=nan"):
        with pytest.raises(Invalid, match="max-share"):
            parse_shares((odd,))
