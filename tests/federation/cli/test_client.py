import socket
import threading
from collections.abc import Iterator

import pytest
from blake3 import blake3

from federation.cli.client import ApiClient, LinkBroken
from federation.contract.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    FederationError,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from federation.contract.locations import Frame
from tests.federation.cli.fake_control_plane import TOKEN, FakeControlPlane


@pytest.fixture
def client(url: str) -> Iterator[ApiClient]:
    with ApiClient(url, token=TOKEN, timeout_s=5.0) as opened:
        yield opened


def serve_raw(*answers: bytes) -> str:
    """Answer one connection after another with fixed bytes; returns the URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener:
            for answer in answers:
                accepted, _ = listener.accept()
                with accepted:
                    accepted.recv(65536)
                    accepted.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def raw(status: str, body: bytes, kind: str = "application/problem+json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_documents_are_read_and_names_are_quoted(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    plane.put("regions", "a/../b ?", {})
    assert client.get("api", "v1", "regions", "a/../b ?")["metadata"]["name"] == "a/../b ?"
    assert plane.methods == ["GET /api/v1/regions/a%2F..%2Fb%20%3F"]


def test_a_problem_becomes_the_error_with_its_hint(client: ApiClient) -> None:
    with pytest.raises(NotFound) as refused:
        client.get("api", "v1", "clusters", "x")
    assert refused.value.sentence() == "cluster 'x' is unknown. There are none yet."


@pytest.mark.parametrize(
    ("status", "reason", "cls"),
    [
        ("409 Conflict", "already-exists", AlreadyExists),
        ("409 Conflict", "conflict", Conflict),
        ("422 Unprocessable", "idempotency-key-reused", Invalid),
        ("500 Oops", "internal", FederationError),
        ("418 Teapot", "tea", FederationError),
        ("503 Busy", "unavailable", Unavailable),
    ],
)
def test_each_status_has_its_error(status: str, reason: str, cls: type[FederationError]) -> None:
    body = f'{{"detail": "no.", "reason": "{reason}"}}'.encode()
    with (
        ApiClient(serve_raw(raw(status, body))) as client,
        pytest.raises(FederationError) as refused,
    ):
        client.get("x")
    assert type(refused.value) is cls
    assert (refused.value.message, refused.value.reason) == ("no.", reason)


def test_without_a_token_the_remedy_is_told(url: str) -> None:
    with ApiClient(url) as client, pytest.raises(Unauthenticated) as refused:
        client.get("api", "v1", "clusters")
    assert "--token-file" in refused.value.hint


@pytest.mark.parametrize(
    "answer",
    [
        raw("200 OK", b"<html>", "text/html"),
        raw("200 OK", b"[1]", "application/json"),
        raw("404 Not Found", b"<html>", "text/html"),
        raw("404 Not Found", b"[1]"),
    ],
)
def test_a_server_that_is_no_control_plane_is_recognised(answer: bytes) -> None:
    with ApiClient(serve_raw(answer)) as client, pytest.raises(Unavailable) as refused:
        client.get("x")
    assert "endpoint right?" in refused.value.hint


def test_what_is_not_http_is_unavailable() -> None:
    address = serve_raw(b"SSH-2.0-x\r\n", b"SSH-2.0-x\r\n")
    with ApiClient(address) as client, pytest.raises(Unavailable, match="cannot reach"):
        client.get("x")


def test_silence_ends_with_the_deadline(url: str, plane: FakeControlPlane) -> None:
    plane.silence_s = 0.5
    told = pytest.raises(DeadlineExceeded, match=r"no answer in 0\.1 s")
    with ApiClient(url, token=TOKEN, timeout_s=0.1) as client, told:
        client.get("api", "v1", "regions")


def test_a_read_on_a_broken_connection_is_sent_once_more(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    plane.drop_answers = 1
    assert client.get("api", "v1", "regions")["items"] == []
    plane.drop_answers = 2
    with pytest.raises(Unavailable, match="closed the connection"):
        client.get("api", "v1", "regions")


def test_a_write_on_a_broken_connection_is_sent_again_under_the_same_key(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    plane.drop_answers = 1
    written = client.send(
        *("PUT", "api", "v1", "regions", "eu"), content={"metadata": {"name": "eu"}, "spec": {}}
    )
    assert written["metadata"]["generation"] == 1
    keys = [headers["idempotency-key"] for _, _, headers in plane.requests]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    client.send("DELETE", "api", "v1", "regions", "eu")
    assert plane.requests[-1][2]["idempotency-key"] != keys[0]


def test_a_write_goes_under_the_key_that_is_given(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    spec = {"location": {"latitude": 1.0, "longitude": 2.0}}
    content = {"apiVersion": "federation/v1", "kind": "Region", "metadata": {"name": "eu"}}
    for _ in range(2):
        path = ("api", "v1", "regions", "eu")
        client.send("PUT", *path, content={**content, "spec": spec}, idempotency_key="mine")
    assert [headers["idempotency-key"] for _, _, headers in plane.requests] == ["mine", "mine"]


def test_bytes_are_asked_again_on_a_broken_connection_and_streamed_only_once(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    data = bytes(range(256)) * 2000
    digest = blake3(data).digest()
    assert client.ask(digest, "api", "v1", "chunks", "missing") == b"\1"
    head = Frame(digest=digest, length=len(data), stored=len(data)).pack()
    plane.drop_answers = 1
    with pytest.raises(LinkBroken, match="closed the connection"):
        client.stream(iter([head, data]), "api", "v1", "chunks")
    assert plane.store.chunks == {digest: data}
    assert plane.store.uploads == [1]
    assert client.ask(digest, "api", "v1", "chunks", "missing") == b"\0"
    assert client.stream(iter([head, data]), "api", "v1", "chunks")["chunks"] == 1


def test_a_refused_stream_tells_why_and_the_client_goes_on(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    plane.store.max_upload = 50
    with pytest.raises(TooLarge):
        client.stream(iter([b"x" * 100]), "api", "v1", "chunks")
    assert client.get("api", "v1", "regions")["items"] == []


def test_a_server_that_refuses_a_stream_early_is_heard() -> None:
    answer = raw("413 Too Large", b'{"detail": "too long.", "reason": "too-large"}')
    blocks = (b"x" * 100_000 for _ in range(80))
    with ApiClient(serve_raw(answer)) as client, pytest.raises((TooLarge, LinkBroken)):
        client.stream(blocks, "x")


def test_what_goes_wrong_while_a_body_is_made_is_raised(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    def body() -> Iterator[bytes]:
        yield b"x"
        raise Conflict("the file was changed.")

    with pytest.raises(Conflict):
        client.stream(body(), "api", "v1", "chunks")


def test_a_document_is_fetched_in_its_very_bytes(
    client: ApiClient, plane: FakeControlPlane
) -> None:
    plane.put("models", "m", {"aliases": {}}, {"versions": [{"version": 1, "digest": "d"}]})
    plane.store.documents["m", "1", "manifest"] = b'{ "a":1}'
    path = ("api", "v1", "models", "m", "versions")
    assert client.fetch(*path, "0", "manifest") == b'{ "a":1}'
    with pytest.raises(NotFound):
        client.fetch(*path, "2", "manifest")


def test_changes_arrive_as_they_happen(client: ApiClient, plane: FakeControlPlane) -> None:
    plane.put("regions", "a", {})
    stream = client.changes("api", "v1", "regions", watch="true")
    assert next(stream).event == "ADDED"
    plane.put("regions", "a", {"x": 1})
    changed = next(stream)
    assert (changed.event, changed.id) == ("MODIFIED", str(plane.revision))


def test_a_refused_watch_is_its_error(url: str) -> None:
    with ApiClient(url) as client, pytest.raises(Unauthenticated):
        next(client.changes("api", "v1", "regions", watch="true"))


def test_a_watch_on_nobody_is_unavailable() -> None:
    with ApiClient("http://127.0.0.1:9") as client, pytest.raises(Unavailable):
        next(client.changes("api", "v1", "regions", watch="true"))


def test_an_unencrypted_endpoint_elsewhere_is_warned_of_loudly(
    capsys: pytest.CaptureFixture[str], url: str
) -> None:
    ApiClient("http://fed.example.com:7480", token=TOKEN).close()
    told = capsys.readouterr().err
    assert told.startswith("WARNING: http://fed.example.com:7480 is not encrypted")
    assert TOKEN not in told
    ApiClient(url, token=TOKEN).close()
    ApiClient("https://fed.example.com:7480", token=TOKEN).close()
    ApiClient("http://fed.example.com:7480").close()
    assert capsys.readouterr().err == ""
