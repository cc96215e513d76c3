"""Small servers on 127.0.0.1 that speak as much of S3, of a model hub and of a registry as our
clients use. Each can break its bodies off, and tells what it was asked."""

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    ranged: bool = False


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Hub:
    """A server; subclasses say what it answers."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.cuts = 0  # as many ranged bodies break off ...
        self.cut_after = 1000  # ... after so many bytes
        self.sent = 0  # bytes of ranged bodies
        self._lock = threading.Lock()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub._serve(self)

            def do_HEAD(self) -> None:
                hub._serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> "Hub":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, asked: Asked) -> Answer:
        raise NotImplementedError

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        asked = Asked(handler.command, unquote(parts.path), query, dict(handler.headers.items()))
        self.asked.append(asked)
        answer = self.answer(asked)
        status, body, headers = answer.status, answer.body, dict(answer.headers)
        wanted = handler.headers.get("Range", "")
        if answer.ranged and status == 200 and wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1, len(body)) if last else len(body)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
            status, body = 206, body[int(first) : end]
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            self._send(handler, body, ranged=answer.ranged)

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, *, ranged: bool) -> None:
        with self._lock:
            cut = ranged and self.cuts > 0 and len(body) > self.cut_after
            self.cuts -= cut
            body = body[: self.cut_after] if cut else body
            self.sent += len(body) if ranged else 0
        try:
            handler.wfile.write(body)
        except OSError:
            cut = True
        if cut:
            handler.close_connection = True


class FakeS3(Hub):
    """One bucket."""

    def __init__(self, bucket: str) -> None:
        super().__init__()
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}

    def answer(self, asked: Asked) -> Answer:
        if "AWS4-HMAC-SHA256" not in asked.headers.get("authorization", ""):
            return Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        if asked.query.get("list-type") == "2":
            return self._listing(asked.query.get("prefix", ""))
        data = self.objects.get(asked.path.removeprefix(f"/{self.bucket}/"))
        if data is None:
            return Answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        tag = _etag(data)
        if asked.headers.get("if-match", tag) != tag:
            return Answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        stamp = {"ETag": tag, "Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT"}
        return Answer(200, data, stamp, ranged=True)

    def _listing(self, prefix: str) -> Answer:
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-05T00:00:00.000Z"
            f"</LastModified><ETag>{escape(_etag(data))}</ETag><Size>{len(data)}</Size></Contents>"
            for key, data in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        return Answer(200, text.encode(), {"Content-Type": "application/xml"})


class FakeModelHub(Hub):
    """One repository with branches; every version of its files is a commit."""

    def __init__(self, repository: str) -> None:
        super().__init__()
        self.repository = repository
        self.branches: dict[str, str] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.token = ""

    def commit(self, branch: str, files: Mapping[str, bytes]) -> str:
        digest = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[digest], self.branches[branch] = dict(files), digest
        return digest

    def answer(self, asked: Asked) -> Answer:
        if self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        head, _, rest = asked.path.partition(self.repository)
        kind, _, rest = rest.strip("/").partition("/")
        if not rest:
            return Answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        revision, _, path = rest.partition("/")
        commit = self.branches.get(revision, revision)
        files = self.commits.get(commit)
        if files is None:
            return Answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if head == "/api/models/":
            return _json(self._info(commit, files) if kind == "revision" else _tree(files))
        if path not in files:
            return Answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        digest = hashlib.sha256(files[path]).hexdigest()
        stamp = {"X-Repo-Commit": commit, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        return Answer(200, files[path], stamp, ranged=True)

    def _info(self, commit: str, files: Mapping[str, bytes]) -> dict[str, Any]:
        siblings = [
            {"rfilename": path, "size": len(data), "blobId": "0" * 40, "lfs": _lfs(data, "sha256")}
            for path, data in files.items()
        ]
        return {"id": self.repository, "sha": commit, "siblings": siblings, "tags": []}


class FakeRegistry(Hub):
    """One repository of artifacts; asks for a token if `password` is set."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}  # by tag and by digest
        self.password = ""
        self.blob_redirect = ""

    def push(self, tag: str, files: Mapping[str, bytes], **more: Any) -> str:
        layers = []
        for title, data in files.items():
            digest = _sha256(data)
            self.blobs[digest] = data
            notes = {"org.opencontainers.image.title": title} if title else {}
            kind = "application/vnd.oci.image.layer.v1.tar"
            layers.append(
                {"mediaType": kind, "digest": digest, "size": len(data), "annotations": notes}
            )
        document = {"schemaVersion": 2, "layers": layers, **more}
        return self.put(tag, json.dumps(document).encode())

    def put(self, tag: str, manifest: bytes) -> str:
        digest = _sha256(manifest)
        self.manifests[tag] = self.manifests[digest] = manifest
        return digest

    def answer(self, asked: Asked) -> Answer:
        if asked.path == "/token":
            return _json({"token": "t0ken"} if self._knows(asked) else {})
        if asked.path.startswith("/elsewhere/"):
            return Answer(200, self.blobs[asked.path.rpartition("/")[2]], ranged=True)
        if self.password and asked.headers.get("Authorization") != "Bearer t0ken":
            challenge = f'Bearer realm="{self.url}/token",service="test"'
            return Answer(401, b"", {"WWW-Authenticate": challenge})
        kind, _, reference = asked.path.removeprefix(f"/v2/{self.name}/").partition("/")
        data = (self.manifests if kind == "manifests" else self.blobs).get(reference)
        if data is None:
            return Answer(404)
        if kind == "blobs" and self.blob_redirect:
            return Answer(307, b"", {"Location": f"{self.blob_redirect}/elsewhere/{reference}"})
        return Answer(200, data, ranged=kind == "blobs")

    def _knows(self, asked: Asked) -> bool:
        from base64 import b64encode

        basic = b64encode(f"ann:{self.password}".encode()).decode()
        return asked.headers.get("Authorization") == f"Basic {basic}"


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _lfs(data: bytes, name: str) -> dict[str, Any]:
    return {name: hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}


def _tree(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [
        {"type": "file", "oid": "0" * 40, "size": len(data), "path": path, "lfs": _lfs(data, "oid")}
        for path, data in files.items()
    ]


def _json(document: object) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})
