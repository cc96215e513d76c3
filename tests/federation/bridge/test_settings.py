"""Settings of the bridge that make no sense are refused."""

import pytest

from federation.bridge.settings import Settings, check
from federation.contract.errors import Invalid
from federation.runtime.config import load_settings


def test_defaults_are_sound() -> None:
    settings = load_settings(Settings, prog="fed-bridge", argv=[], environ={})
    check(settings)
    assert settings.poll_s == 10.0


@pytest.mark.parametrize(
    "flags",
    [["--poll-s", "0.5"], ["--poll-s", "nan"], ["--endpoint", "127.0.0.1:7480"]],
)
def test_nonsense_is_refused(flags: list[str]) -> None:
    with pytest.raises(Invalid):
        check(load_settings(Settings, prog="fed-bridge", argv=flags, environ={}))
