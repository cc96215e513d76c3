"""The client of registries: tokens, redirects, ranges, bounds."""

import pytest

from federation.contract.errors import Invalid, NotFound, PermissionDenied, Unavailable
from federation.sources.docker_login import Login
from federation.sources.oci_client import MAX_MANIFEST_BYTES, OciClient, Repository
from tests.fakes.hubs import Answer, Asked, FakeRegistry


def _client(server: FakeRegistry, login: Login | None = None) -> OciClient:
    return OciClient(Repository(server.host, server.name), login)


def _blob(client: OciClient, digest: str, start: int = 0) -> bytes:
    return b"".join(client.blob(digest, start))


def test_a_token_is_fetched_once_and_the_password_goes_to_the_token_server_alone(
    registry: FakeRegistry,
) -> None:
    registry.password = "s3cret"
    digest = registry.push("1", {"a": b"123"})
    client = _client(registry, Login("ann", "s3cret"))
    assert client.manifest("1") == client.manifest(digest)
    assert [a.path for a in registry.asked].count("/token") == 1
    token = next(a for a in registry.asked if a.path == "/token")
    assert token.query == {"service": "test", "scope": "repository:org/filetype:pull"}
    others = [a.headers.get("Authorization") for a in registry.asked if a.path != "/token"]
    assert others == [None, "Bearer t0ken", "Bearer t0ken"]
    assert "s3cret" not in repr(client)


@pytest.mark.parametrize("login", [None, Login("ann", "wrong")])
def test_without_a_good_login_it_says_how_to_log_in(
    registry: FakeRegistry, login: Login | None
) -> None:
    registry.password = "s3cret"
    with pytest.raises(PermissionDenied) as caught:
        _client(registry, login).manifest("1")
    assert f"docker login {registry.host}" in caught.value.sentence()
    assert "wrong" not in caught.value.sentence()


def test_a_redirect_to_another_host_carries_no_token(registry: FakeRegistry) -> None:
    registry.password = "s3cret"
    registry.push("1", {"a": b"123"})
    digest = next(iter(registry.blobs))
    with FakeRegistry("org/filetype") as other:
        assert isinstance(other, FakeRegistry)
        other.blobs = registry.blobs
        registry.blob_redirect = other.url
        assert _blob(_client(registry, Login("ann", "s3cret")), digest) == b"123"
        assert [a.headers.get("Authorization") for a in other.asked] == [None]


@pytest.mark.parametrize("target", ["http://example.org", "ftp://127.0.0.1", "file:///etc/passwd?"])
def test_a_redirect_may_not_leave_https(registry: FakeRegistry, target: str) -> None:
    registry.push("1", {"a": b"123"})
    registry.blob_redirect = target
    with pytest.raises(Invalid, match="not https"):
        _blob(_client(registry), next(iter(registry.blobs)))


def test_redirects_end(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "answer", lambda _: Answer(302, b"", {"Location": "/v2/again"}))
    with pytest.raises(Unavailable, match="without end"):
        _client(registry).manifest("1")


def test_a_token_server_must_be_https(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    challenge = 'Bearer realm="http://tokens.example.org/"'
    answer = Answer(401, b"", {"WWW-Authenticate": challenge})
    monkeypatch.setattr(registry, "answer", lambda _: answer)
    with pytest.raises(Invalid, match="not https"):
        _client(registry, Login("ann", "s3cret")).manifest("1")


def test_a_blob_begins_where_it_is_asked_to(registry: FakeRegistry) -> None:
    registry.push("1", {"a": b"0123456789"})
    digest = next(iter(registry.blobs))
    assert _blob(_client(registry), digest, 4) == b"456789"


def test_a_server_that_knows_no_ranges(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(_: Asked) -> Answer:
        return Answer(200, b"0123456789")

    monkeypatch.setattr(registry, "answer", whole)
    assert _blob(_client(registry), "sha256:x", 4) == b"456789"


def test_another_range_than_asked_is_refused(
    registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answer(206, b"0123", {"Content-Range": "bytes 0-3/10"})
    monkeypatch.setattr(registry, "answer", lambda _: answer)
    with pytest.raises(Unavailable, match="another range"):
        _blob(_client(registry), "sha256:x", 4)


def test_a_long_manifest_is_refused(registry: FakeRegistry) -> None:
    registry.put("1", b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(Invalid, match="more than"):
        _client(registry).manifest("1")


def test_what_is_not_there(registry: FakeRegistry) -> None:
    with pytest.raises(NotFound):
        _client(registry).manifest("nope")
    with pytest.raises(Unavailable):
        OciClient(Repository("127.0.0.1:9", "x")).manifest("1")


def test_only_this_machine_is_spoken_to_without_tls() -> None:
    assert Repository("127.0.0.1:5000", "x").url.startswith("http://")
    assert Repository("localhost", "x").url.startswith("http://")
    assert Repository("127.0.0.1.example.org", "x").url.startswith("https://")
    assert Repository("docker.io", "library/x").url == "https://registry-1.docker.io/v2/library/x"
