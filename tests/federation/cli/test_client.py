import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from federation.cli.client import ApiClient
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


def test_files_are_streamed_with_progress(
    client: ApiClient, plane: FakeControlPlane, tmp_path: Path
) -> None:
    file, data = tmp_path / "weights", bytes(range(256)) * 2000
    file.write_bytes(data)
    told: list[int] = []
    digest = blake3(data).hexdigest()
    plane.drop_answers = 1
    client.upload(file, len(data), told.append, "api", "v1", "blobs", digest)
    assert plane.blobs == {digest: data}
    assert told[-1] == len(data)


def test_a_refused_upload_tells_why_and_the_client_goes_on(
    client: ApiClient, plane: FakeControlPlane, tmp_path: Path
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 100)
    plane.max_blob = 50
    with pytest.raises(TooLarge):
        client.upload(file, 100, lambda _sent: None, "api", "v1", "blobs", "0" * 64)
    assert client.get("api", "v1", "regions")["items"] == []


def test_a_server_that_refuses_an_upload_early_is_heard(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 8_000_000)
    answer = raw("413 Too Large", b'{"detail": "too long.", "reason": "too-large"}')
    with ApiClient(serve_raw(answer, answer)) as client, pytest.raises((TooLarge, Unavailable)):
        client.upload(file, 8_000_000, lambda _sent: None, "x")


def test_a_file_that_shrinks_or_vanishes_is_told(client: ApiClient, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x")
    with pytest.raises(Invalid, match="became shorter"):
        client.upload(file, 2, lambda _sent: None, "api", "v1", "blobs", "0" * 64)
    file.unlink()
    with pytest.raises(Invalid, match="cannot read"):
        client.upload(file, 2, lambda _sent: None, "api", "v1", "blobs", "0" * 64)


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
