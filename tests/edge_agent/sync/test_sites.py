"""Which URLs are fetched from, whom they make us trust, and what of them is shown."""

import pytest

from edge_agent.sync.sites import parse_url, resolve
from federation.contract.errors import Invalid

HOME, NAME = "https://cp.test:8443/base", "control-plane.fed.test"


def test_relative_urls_belong_to_the_control_plane() -> None:
    found = resolve("/api/v1/packs/a?sig=1", HOME, NAME)
    assert (found.site.ours, found.site.name) == (True, NAME)
    assert (found.site.authority, found.target) == ("cp.test:8443", "/api/v1/packs/a?sig=1")


def test_the_control_planes_own_address_is_ours_as_well() -> None:
    assert resolve("https://cp.test:8443/api/v1/packs/a", HOME, NAME).site.ours
    for other in ("https://cp.test/a", "https://other.test:8443/a"):
        found = resolve(other, HOME, NAME)
        assert (found.site.ours, found.site.name) == (False, "")


def test_what_is_shown_has_no_signature_in_it() -> None:
    found = resolve("https://bucket.test/packs/a?X-Amz-Signature=secret", HOME, NAME)
    assert str(found) == "https://bucket.test:443/packs/a"
    assert found.site.authority == "bucket.test"


@pytest.mark.parametrize(
    "url",
    [
        "http://bucket.test/a",  # plain
        "http://127.0.0.1.evil.test/a",
        "http://localhost.evil.test/a",
        "ftp://bucket.test/a",
        "file:///etc/passwd",
        "//bucket.test/a",
        "a/b",
        "",
        "https://",
        "https://user:secret@bucket.test/a",
        "https://bucket.test/a b",
        "https://bucket.test/a\r\nHost: x",
        "https://bucket.test/ä",
        "https://bucket.test/a#b",
        "https://bucket.test:99999/a",
        "https://[::1/a",
        "https://bucket.test/" + "a" * 9000,
    ],
)
def test_other_urls_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(Invalid) as raised:
        resolve(url, HOME, NAME)
    assert "secret" not in raised.value.sentence()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_plain_http_is_for_this_machine(host: str) -> None:
    found = parse_url(f"http://{host}:8000/a")
    assert not found.site.tls
    assert found.site.authority == f"{host}:8000"
    assert parse_url(f"http://{host}/a").site.port == 80
