"""A small control plane for the tests of `fed`: the operator API over a dictionary, real sockets.

Input: requests of the CLI; faults that a test switches on. Output: answers in the shapes of the
operator API, and `requests`, the record of what was asked.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from federation.contract.resources import API_VERSION, KINDS
from tests.federation.cli.fake_rollouts import FakeRollouts
from tests.federation.cli.fake_store import FakeStore, Json, Refusal

TOKEN = "fed_admin_root_0123456789abcdef"
SINGULAR = {kind.plural: kind.name for kind in KINDS}


class FakeControlPlane:
    """State and faults; `url` is where it listens."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.objects: dict[str, dict[str, Json]] = {kind.plural: {} for kind in KINDS}
        self.revision = 1
        self.changes: list[tuple[int, str, str, Json]] = []
        self.store = FakeStore(self)
        self.rollouts = FakeRollouts(self)
        self.registrations: list[Json] = []
        self.receipts: dict[str, tuple[int, Json]] = {}
        self.explanation: Json = {"routers": []}
        self.transfers: list[Json] = []
        self.plan: Json = {}  # besides what names the deployment
        self.rows: dict[str, list[Json]] = {"devices": [], "pools": []}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.statuses: Callable[[str, str], Json] = lambda _plural, _name: {}
        self.on_read: Callable[[], object] = lambda: None  # called after an object was read
        self.drop_answers = 0  # so many requests are carried out, but never answered
        self.silence_s = 0.0
        self.behind_once = False  # the next watch tells that it lost changes
        self.cut_watches = False  # end each watch after its first change
        self.stopping = False

    def be_silent(self) -> None:
        """Wait for `silence_s`, unless the server stops."""
        until_s = time.monotonic() + self.silence_s
        while time.monotonic() < until_s and not self.stopping:
            time.sleep(0.01)

    @property
    def methods(self) -> list[str]:
        """Return what was asked, as "GET /path"."""
        return [f"{method} {path}" for method, path, _ in self.requests]

    # -------------------------------------------------------- objects

    def put(self, plural: str, name: str, spec: Json, status: Json | None = None) -> Json:
        """Create or change an object, as something else than the CLI would."""
        with self.lock:
            return self._store(plural, name, spec, status)

    def _store(self, plural: str, name: str, spec: Json, status: Json | None = None) -> Json:
        old = self.objects[plural].get(name)
        self.revision += 1
        document = {
            "apiVersion": API_VERSION,
            "kind": SINGULAR[plural],
            "metadata": {
                "name": name,
                "generation": old["metadata"]["generation"] + 1 if old else 1,
                "resourceVersion": self.revision,
                "createdAt": "2026-01-01T00:00:00Z",
            },
            "spec": spec,
            "status": status if status is not None else self.statuses(plural, name),
        }
        self.objects[plural][name] = document
        kind = "MODIFIED" if old else "ADDED"
        self._change(kind, plural, document)
        return document

    def remove(self, plural: str, name: str) -> None:
        """Delete an object."""
        with self.lock:
            if self.objects[plural].pop(name, None) is None:
                raise missing(plural, name)
            self.revision += 1
            self._change("DELETED", plural, {"metadata": {"name": name}})

    def _change(self, kind: str, plural: str, document: Json) -> None:
        self.changes.append((self.revision, kind, plural, document))
        self.lock.notify_all()

    def find(self, plural: str, name: str) -> Json:
        """Return an object."""
        if name not in self.objects[plural]:
            raise missing(plural, name)
        return self.objects[plural][name]

    # -------------------------------------------------------- calls

    def answer(self, method: str, parts: list[str], query: dict[str, str], body: bytes) -> Json:
        """Carry out one call."""
        if (told := self.store.answer(method, parts, query, body)) is not None:
            return told
        if (told := self.rollouts.answer(method, parts, query, body)) is not None:
            return told
        if (told := self._told(method, parts, query, body)) is not None:
            return told
        match method, parts:
            case "GET", ["openapi.json"]:
                return {"info": {"version": "9.9.9"}}
            case (("PUT" | "DELETE"), ["api", "v1", "models", model, "aliases", alias]):
                return self._alias(method, model, alias, body)
            case "POST", ["api", "v1", ("clusters" | "routers") as plural, name, verb]:
                return self._membership(plural, name, verb, body)
            case _, ["api", "v1", "ca", *_]:
                return self._authority(rotate=method == "POST")
            case _, ["api", "v1", plural] if plural in self.objects and method == "GET":
                return {
                    "apiVersion": API_VERSION,
                    "kind": f"{SINGULAR[plural]}List",
                    "metadata": {"resourceVersion": self.revision},
                    "items": list(self.objects[plural].values()),
                }
            case _, ["api", "v1", plural, name] if plural in self.objects:
                return self._one(method, plural, name, query, body)
        raise Refusal(404, "not-found", f"there is nothing at /{'/'.join(parts)}.")

    def _told(
        self, method: str, parts: list[str], query: dict[str, str], body: bytes
    ) -> Json | None:
        match method, parts:
            case "GET", ["api", "v1", "sync"]:
                model = query.get("model")
                return {"items": [t for t in self.transfers if model in (None, t["model"])]}
            case "GET", ["api", "v1", ("devices" | "pools") as what]:
                cluster = query.get("cluster")
                return {"items": [r for r in self.rows[what] if cluster in (None, r["cluster"])]}
            case "POST", ["api", "v1", "plan"]:
                wanted = json.loads(body)
                name, spec = wanted["metadata"]["name"], wanted["spec"]
                created = name not in self.objects["deployments"]
                named = {"deployment": name, "model": spec["model"], "created": created}
                return {**named, "version": 1, **self.plan}
            case "GET", ["api", "v1", "routes", "explain"]:
                return self.explanation
            case _:
                return None

    def _one(self, method: str, plural: str, name: str, query: dict[str, str], body: bytes) -> Json:
        if method == "GET":
            found = self.find(plural, name)
            self.on_read()
            return found
        dry = query.get("dryRun") == "true"
        if method == "DELETE":
            self.find(plural, name)
            if not dry:
                self.remove(plural, name)
            return {"apiVersion": API_VERSION, "metadata": {"name": name}}
        written = json.loads(body)
        old = self.objects[plural].get(name)
        if plural == "clusters" and old is None:
            raise Refusal(
                404,
                "not-found",
                f"cluster {name!r} is unknown.",
                "Register it: fed cluster register",
            )
        read = written["metadata"].get("resourceVersion")
        if old and read is not None and read != old["metadata"]["resourceVersion"]:
            raise Refusal(409, "conflict", f"{name!r} changed since it was read.", "Read it again.")
        if dry:
            return old or written
        with self.lock:
            return self._store(plural, name, written["spec"])

    def _alias(self, method: str, model: str, alias: str, body: bytes) -> Json:
        held = self.find("models", model)
        aliases = dict(held["spec"]["aliases"])
        if method == "PUT":
            aliases[alias] = json.loads(body)["version"]
        elif aliases.pop(alias, None) is None:
            raise Refusal(404, "not-found", f"model {model!r} has no alias {alias!r}.")
        return self.put("models", model, {"aliases": aliases}, held["status"])

    def _membership(self, plural: str, name: str, verb: str, body: bytes) -> Json:
        if verb == "register":
            return self._register(plural, name, json.loads(body))
        if verb in ("accept", "revoke"):
            held = self.find(plural, name)
            status = {**held["status"], f"{verb.removesuffix('e')}ed": True}
            return self.put(plural, name, held["spec"], status)
        return self._schedule(name, verb)

    def _register(self, plural: str, name: str, asked: Json) -> Json:
        kind = SINGULAR[plural].lower()
        if name in self.objects[plural] and not asked["rejoin"]:
            raise Refusal(409, "already-exists", f"{kind} {name!r} exists.", "Use --rejoin.")
        if kind == "cluster" and asked["spec"]["region"] not in self.objects["regions"]:
            raise Refusal(404, "not-found", f"region {asked['spec']['region']!r} is unknown.")
        self.registrations.append(asked)
        document = self.put(plural, name, asked["spec"])
        return {
            kind: document,
            "joinToken": f"fed_{'join' if kind == 'cluster' else 'routerjoin'}_{name}_secretsecret",
            "expiresAt": "2026-01-01T01:00:00Z",
            "caPin": f"sha256:{'0' * 64}",
        }

    def _authority(self, *, rotate: bool) -> Json:
        active = {"name": "root-0001", "phase": "active", "since": "S", "until": None, "pin": "P"}
        prepared = {**active, "name": "root-0002", "phase": "prepared", "until": "U"}
        return {
            "trustDomain": "fed.test",
            "pin": "P",
            "roots": [active, prepared] if rotate else [active],
        }

    def _schedule(self, name: str, verb: str) -> Json:
        held = self.find("clusters", name)
        word = {"cordon": "cordoned", "uncordon": "active", "drain": "draining"}[verb]
        return self.put("clusters", name, held["spec"], {**held["status"], "scheduling": word})


def missing(plural: str, name: str) -> Refusal:
    """Return the refusal for an unknown object."""
    kind = SINGULAR[plural].lower()
    return Refusal(404, "not-found", f"{kind} {name!r} is unknown.", "There are none yet.")


# ------------------------------------------------------------ the server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plane: FakeControlPlane

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _serve(self) -> None:
        plane, split = self.plane, urlsplit(self.path)
        parts = [unquote(part) for part in split.path.strip("/").split("/")]
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        headers = {key.lower(): value for key, value in self.headers.items()}
        plane.requests.append((self.command, self.path, headers))
        body = self._body(headers)
        if headers.get("authorization") != f"Bearer {TOKEN}" and parts != ["openapi.json"]:
            self._reply(401, Refusal(401, "unauthenticated", "no valid token.").problem)
            return
        if query.get("watch") == "true":
            self._watch(parts[2], int(headers.get("last-event-id", 0)))
            return
        if self.close_connection:  # the body was cut: what came is kept
            plane.answer(self.command, parts, query, body)
            return
        try:
            data = plane.store.bytes_answer(self.command, parts, body)
        except Refusal as refusal:
            self._reply(refusal.status, refusal.problem)
            return
        if data is not None:
            self._reply_bytes(200, "application/octet-stream", data)
            return
        key = headers.get("idempotency-key", "")
        done = plane.receipts.get(key)
        if done is None:
            try:
                done = (200, plane.answer(self.command, parts, query, body))
            except Refusal as refusal:
                done = (refusal.status, refusal.problem)
            if key:
                plane.receipts[key] = done
        if plane.drop_answers:
            plane.drop_answers -= 1
            self.close_connection = True
            return
        plane.be_silent()
        self._reply(*done)

    def _reply(self, status: int, document: Json) -> None:
        kind = "application/json" if status < 400 else "application/problem+json"
        self._reply_bytes(status, kind, json.dumps(document).encode())

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        cut = self.plane.store.cut_uploads.pop(0) if self.plane.store.cut_uploads else None
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
            if cut is not None and len(body) >= cut:
                self.close_connection = True
                return body[:cut]
        self.rfile.readline()
        return body

    def _reply_bytes(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _watch(self, plural: str, after: int) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        plane, sent = self.plane, after
        if plane.behind_once:
            plane.behind_once = False
            self.wfile.write(b'event: ERROR\ndata: {"reason": "fell-behind"}\n\n')
            return
        while not plane.stopping:
            with plane.lock:
                news = [c for c in plane.changes if c[0] > sent]
                if not news:
                    plane.lock.wait(0.05)
            self.wfile.write(b": heartbeat\n\n")
            for revision, kind, changed, document in news:
                sent = revision
                if changed == plural:
                    data = json.dumps(document)
                    self.wfile.write(f"event: {kind}\nid: {revision}\ndata: {data}\n\n".encode())
                    if plane.cut_watches:
                        return

    do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is no failure."""


@contextmanager
def serving(plane: FakeControlPlane, port: int = 0) -> Iterator[str]:
    """Serve on a loopback port; yields the URL."""
    handler = type("Handler", (_Handler,), {"plane": plane})
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        plane.stopping = True
        server.shutdown()
        server.server_close()
        thread.join()
