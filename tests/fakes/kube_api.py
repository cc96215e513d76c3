"""A Kubernetes API server for tests, on 127.0.0.1.

It passes tests/contract/test_kube_api.py, as real ones do. It has no controllers and no scheduler:
tests play them with `put`. `stop` is a kill: nothing is said on open connections; `start` takes the
same port again, and the objects are still there.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.fakes.kube_faults import Faults, Request
from tests.fakes.kube_kinds import KINDS, Kind, Obj, Refusal, discovery
from tests.fakes.kube_objects import KubeObjects
from tests.fakes.kube_schemas import pruned
from tests.fakes.kube_selectors import selector
from tests.fakes.kube_watch import watch

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
REVIEW = "selfsubjectaccessreviews"


class FakeKubeApi:
    """One API server. Times are seconds."""

    def __init__(self, kinds: tuple[Kind, ...] = KINDS) -> None:
        self.kinds = kinds
        self.objects = KubeObjects()
        self.faults = Faults()
        self.log: list[Request] = []
        self.bookmark_s = 60.0
        self.gone_as_event = False  # a 410 of a watch as an ERROR event
        self.url = ""
        self.watches: list[web.Request] = []
        self._port = 0
        self._runner: web.AppRunner | None = None
        self.put(
            {"kind": "Namespace", "metadata": {"name": "default"}, "status": {"phase": "Active"}}
        )

    # ------------------------------------------------------------ its life

    async def start(self) -> None:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """End as a kill would."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if runner.server is not None:
            for connection in list(runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
        await runner.cleanup()

    def cut(self) -> None:
        """Break all open watches' connections."""
        for request in list(self.watches):
            if request.transport is not None:
                request.transport.abort()

    def kubeconfig(self, folder: Path, *, token: str = "") -> Path:
        """Write a kubeconfig file that leads here, with a context `fake` and a useless one."""
        path = folder / "kubeconfig"
        user = {"name": "me", "user": {"token": token} if token else {}}
        cluster = {"name": "here", "cluster": {"server": self.url}}
        nowhere = {"name": "nowhere", "cluster": {"server": "http://127.0.0.1:9"}}
        contexts = [
            {"name": name, "context": {"cluster": where, "user": "me"}}
            for name, where in (("fake", "here"), ("other", "nowhere"))
        ]
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [cluster, nowhere],
            "contexts": contexts,
            "users": [user],
        }
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    # ------------------------------------------------------------ for tests

    def kind(self, name: str) -> Kind:
        return next(kind for kind in self.kinds if kind.kind == name)

    def put(self, *objects: Obj) -> None:
        """Write objects as they are, as controllers and kubelets would."""
        for obj in objects:
            kind = self.kind(obj["kind"])
            if kind.namespaced:
                obj["metadata"].setdefault("namespace", "default")
            self.objects.put(kind, obj)

    def remove(self, kind: str, name: str, namespace: str = "") -> None:
        found = self.kind(kind)
        self.objects.delete(found, namespace or ("default" if found.namespaced else ""), name)

    def requests(self, resource: str, *verbs: str) -> list[Request]:
        return [request for request in self.log if request.of(resource, *verbs)]

    # ------------------------------------------------------------ requests

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        try:
            request, kind = self._understand(http)
            self.log.append(request)
            if self.faults.hang is not None and self.faults.hang(request):
                await asyncio.Event().wait()
            self.faults.check(request)
            if kind is None:
                return await self._without_kind(http, request)
            if request.verb == "watch":
                return await watch(self, http, request, kind)
            code, body = await self._answer(http, request, kind)
            return web.json_response(body, status=code)
        except Refusal as refusal:
            headers = {}
            if refusal.retry_after_s is not None:
                headers["Retry-After"] = str(refusal.retry_after_s)
            return web.json_response(refusal.status(), status=refusal.code, headers=headers)

    def _understand(self, http: web.Request) -> tuple[Request, Kind | None]:
        steps = http.path.strip("/").split("/")
        group, rest = ("", steps[2:]) if steps[0] == "api" else ("".join(steps[1:2]), steps[3:])
        version = "/".join(steps[1:2] if steps[0] == "api" else steps[1:3])
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = (*rest, "", "", "")[:3]
        query = dict(http.query)
        verb = {"GET": "get", "POST": "create", "PUT": "update"}.get(
            http.method, http.method.lower()
        )
        if verb == "get" and plural and not name:
            verb = "watch" if query.get("watch") in ("1", "true") else "list"
        request = Request(
            at=asyncio.get_running_loop().time(),
            verb=verb,
            group=group,
            resource=f"{plural}/{subresource}" if subresource else plural,
            namespace=namespace,
            name=name,
            user=http.headers.get("Impersonate-User", ""),
            query=query,
            agent=http.headers.get("User-Agent", "").split("/")[0],
            token=http.headers.get("Authorization", ""),
        )
        found = (k for k in self.kinds if (k.plural, k.api_version) == (plural, version))
        return request, next(found, None)

    async def _without_kind(self, http: web.Request, request: Request) -> web.Response:
        if request.resource == REVIEW and request.verb == "create":
            body = await http.json()
            body["status"] = {"allowed": self._may(body["spec"]["resourceAttributes"], request)}
            return web.json_response(body, status=201)
        document = discovery(http.path, self.kinds)
        if document is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        return web.json_response(document)

    def _may(self, asked: dict[str, str], request: Request) -> bool:
        resource = "/".join(x for x in (asked["resource"], asked.get("subresource")) if x)
        return self.faults.allowed(
            Request(
                at=request.at,
                verb=asked["verb"],
                group=asked.get("group", ""),
                resource=resource,
                namespace=asked.get("namespace", ""),
                name=asked.get("name", ""),
                user=request.user,
                query={},
            )
        )

    async def _answer(self, http: web.Request, request: Request, kind: Kind) -> tuple[int, Obj]:
        query, objects = request.query, self.objects
        dry = query.get("dryRun") == "All"
        manager = query.get("fieldManager") or request.agent
        match request.verb:
            case "list":
                return 200, self._list(request, kind)
            case "get":
                return 200, objects.get(kind, request.namespace, request.name)
            case "create":
                body = await _body(http, kind, request)
                return 201, objects.create(kind, request.namespace, body, manager, dry=dry)
            case "update":
                body = await _body(http, kind, request)
                old = objects.get(kind, request.namespace, request.name)
                sub = request.resource.partition("/")[2]
                return 200, objects.update(kind, old, body, manager, subresource=sub, dry=dry)
            case "patch":
                return await self._patch(http, request, kind)
            case "delete":
                old = objects.delete(kind, request.namespace, request.name, dry=dry)
                if kind.kind in ("Pod", "Namespace") or old["metadata"].get("finalizers"):
                    return 200, old
                details = {"name": request.name, "kind": kind.plural, "uid": old["metadata"]["uid"]}
                return 200, {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Success",
                    "details": details,
                }
            case _:
                pass
        raise Refusal(405, "MethodNotAllowed", "the server does not allow this method")

    def _list(self, request: Request, kind: Kind) -> Obj:
        query = request.query
        matches = selector(kind, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        items = self.objects.select(kind, request.namespace, matches)
        items, meta = self.objects.page(
            items, int(query.get("limit", 0)), query.get("continue", "")
        )
        bare = [{k: v for k, v in obj.items() if k not in ("apiVersion", "kind")} for obj in items]
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": meta,
            "items": bare,
        }

    async def _patch(self, http: web.Request, request: Request, kind: Kind) -> tuple[int, Obj]:
        query, objects = request.query, self.objects
        dry = query.get("dryRun") == "All"
        if http.content_type == APPLY:
            if not query.get("fieldManager"):
                problem = "fieldManager: Required value: is required for apply patch"
                raise Refusal(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: {problem}')
            body = await _body(http, kind, request)
            key = (request.namespace, request.name)
            force = query.get("force") == "true"
            return objects.apply(kind, key, body, query["fieldManager"], force=force, dry=dry)
        if http.content_type != MERGE:
            raise Refusal(415, "UnsupportedMediaType", f"not supported here: {http.content_type}")
        old = objects.get(kind, request.namespace, request.name)
        new = _merged(old, json.loads(await http.text()))
        new = pruned(kind, new, strict=query.get("fieldValidation") == "Strict")
        manager = query.get("fieldManager") or request.agent
        sub = request.resource.partition("/")[2]
        return 200, objects.update(kind, old, new, manager, subresource=sub, dry=dry)


async def _body(http: web.Request, kind: Kind, request: Request) -> Obj:
    try:
        body: Any = (
            yaml.safe_load(await http.text()) if "yaml" in http.content_type else await http.json()
        )
    except (ValueError, yaml.YAMLError):
        body = None
    if not isinstance(body, dict) or (body.get("kind"), body.get("apiVersion")) != (
        kind.kind,
        kind.api_version,
    ):
        raise Refusal(400, "BadRequest", "the object provided is unrecognized")
    found: Obj = pruned(kind, body, strict=request.query.get("fieldValidation") == "Strict")
    meta = found.setdefault("metadata", {})
    if request.name and meta.setdefault("name", request.name) != request.name:
        raise Refusal(
            400, "BadRequest", "the name of the object does not match the name on the URL"
        )
    if request.namespace and meta.setdefault("namespace", request.namespace) != request.namespace:
        raise Refusal(400, "BadRequest", "the namespace of the object does not match the request")
    return found


def _merged(old: Obj, patch: Obj) -> Obj:
    """JSON merge patch, RFC 7386."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = _merged(new.get(key) or {}, value)
        else:
            new[key] = value
    return new


@asynccontextmanager
async def fake_kube_api(kinds: tuple[Kind, ...] = KINDS) -> AsyncIterator[FakeKubeApi]:
    """Run a fake API server."""
    fake = FakeKubeApi(kinds)
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()
