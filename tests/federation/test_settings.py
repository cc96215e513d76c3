import pytest

from federation.contract.errors import Invalid
from federation.settings import Settings, check_settings, people_of, split_address


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:0", ("::1", 0)), ("host:1", ("host", 1))],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize("address", ["", ":80", "host", "host:", "host:x", "host:²", "host:65536"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(Invalid):
        split_address(address)


def test_the_defaults_are_those_of_the_manual() -> None:
    settings = Settings(state_dir="x")
    assert (settings.http_listen, settings.grpc_listen) == ("127.0.0.1:7480", "127.0.0.1:7481")
    assert (settings.lease_seconds, settings.report_interval_ms) == (10, 1000)
    check_settings(settings)
    assert people_of(settings) is None


def test_spans_go_to_an_http_url() -> None:
    with pytest.raises(Invalid, match="traces-url"):
        check_settings(Settings(state_dir="x", traces_url="collector:4318"))
    check_settings(Settings(state_dir="x", traces_url="http://collector:4318"))


@pytest.mark.parametrize("url", ["cdn.example/packs", "ftp://x", "//x"])
def test_packs_are_fetched_by_http(url: str) -> None:
    with pytest.raises(Invalid, match="packs-url"):
        check_settings(Settings(state_dir="x", packs_url=url))
    check_settings(Settings(state_dir="x", packs_url="https://cdn.example/packs"))
