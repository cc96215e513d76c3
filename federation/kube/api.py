"""Requests to a Kubernetes API server: plain JSON in, plain JSON out.

Input: called by the watcher, the agent's inventory and backends, and the bridge. Output: objects as
dicts, or errors of `federation.kube.errors`. It makes each request once: when to try again, and
whether, is its callers' decision.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from federation.contract.errors import Invalid
from federation.kube.access import KubeAccess, KubeClient, connect
from federation.kube.errors import (
    KubeError,
    NotFound,
    Unauthorized,
    Unavailable,
    Unusable,
    error_of,
)
from federation.kube.resources import Resource, resource_of

PAGE = 100  # objects of one answer to a list: some ten milliseconds of work
CONNECT_S = 5.0
REQUEST_S = 30.0
GRACE_S = 5.0  # a watch that did not end so long after it should have is dead
MAX_EVENT = 16 << 20  # bytes
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, or a whole one; `version` is the list's."""

    items: tuple[Obj, ...]
    version: str


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch: "ADDED", "MODIFIED", "DELETED" or "BOOKMARK"."""

    type: str
    obj: Obj

    @property
    def version(self) -> str:
        """Return the resource version after it."""
        return str((self.obj.get("metadata") or {}).get("resourceVersion") or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects of a kind: all of a namespace ("" = of the cluster) that match selectors."""

    resource: Resource
    namespace: str = ""
    labels: str = ""
    fields: str = ""
    optional: bool = False  # for a watcher: not every API server has this kind

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.resource}{where}"

    def query(self) -> dict[str, str]:
        """Return the selectors as parameters of a request."""
        found = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {key: value for key, value in found.items() if value}


class KubeApi:
    """One API server. Connects at the first request; all methods raise KubeError."""

    def __init__(self, access: KubeAccess | None = None) -> None:
        self._access = access or KubeAccess()
        self._client: KubeClient | None = None
        self._connecting = asyncio.Lock()

    def __repr__(self) -> str:
        host = self._client.host if self._client else "not connected yet"
        return f"KubeApi({host})"

    async def close(self) -> None:
        """End all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # ------------------------------------------------------------ reading

    async def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """Return one object; raises NotFound."""
        return await self.request("GET", resource.path(namespace, name))

    async def pages(self, which: Selection, *, limit: int = PAGE) -> AsyncIterator[Page]:
        """Yield a list in pages, all of one version; raises Gone if the reader was too slow."""
        query = {**which.query(), "limit": str(limit)}
        path = which.resource.path(which.namespace)
        while True:
            document = await self.request("GET", path, query=query)
            metadata, items = document.get("metadata") or {}, document.get("items") or ()
            yield Page(tuple(items), str(metadata.get("resourceVersion") or ""))
            if not metadata.get("continue"):
                return
            query["continue"] = str(metadata["continue"])

    async def list(self, which: Selection, *, limit: int = PAGE) -> Page:
        """Return a whole list."""
        items: tuple[Obj, ...] = ()
        version = ""
        async for page in self.pages(which, limit=limit):
            items, version = items + page.items, page.version
        return Page(items, version)

    async def watch(
        self, which: Selection, version: str, *, timeout_s: float
    ) -> AsyncGenerator[Change, None]:
        """Yield what changes after `version`, bookmarks too, until the server ends it in time.

        Raises Gone if the version is too old, Unavailable if the connection broke or is dead. Close
        it (contextlib.aclosing) when leaving early.
        """
        query = {
            **which.query(),
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(timeout_s))),
        }
        path = which.resource.path(which.namespace)
        limit_s = max(1, round(timeout_s)) + GRACE_S
        async with self._ask("GET", path, query=query, limit_s=limit_s) as response:
            async for line in _lines(response):
                yield _change(line)

    async def may(self, verb: str, resource: Resource, *, namespace: str = "") -> bool:
        """Whether we may do this, as the API server sees it now."""
        attributes = {"verb": verb, "group": resource.group, "resource": resource.plural}
        if namespace:
            attributes["namespace"] = namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self.request("POST", path, body=review)
        return bool((answer.get("status") or {}).get("allowed"))

    async def serves(self, resource: Resource) -> bool:
        """Whether the API server has this kind of objects at all; asks by discovery."""
        path = "/".join(resource.path().split("/")[:-1])
        try:
            found = (await self.request("GET", path)).get("resources") or ()
        except NotFound:
            return False
        return any(entry.get("name") == resource.plural for entry in found)

    # ------------------------------------------------------------ writing

    async def create(self, manifest: Mapping[str, Any]) -> Obj:
        """Create an object; raises Conflict if it exists."""
        path = resource_of(manifest).path(_namespace(manifest))
        return await self.request("POST", path, body=manifest)

    async def replace(self, manifest: Mapping[str, Any]) -> Obj:
        """Replace an object; raises Conflict if it is no longer of the manifest's version."""
        name = str(manifest["metadata"]["name"])
        path = resource_of(manifest).path(_namespace(manifest), name)
        return await self.request("PUT", path, body=manifest)

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
    ) -> Obj:
        """Server-side apply, strictly validated: returns the object, created or changed.

        What `manager` applied before and the manifest lacks now is removed. Without `force` raises
        Conflict with the managers of fields that it would take over.
        """
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        name = str(manifest["metadata"]["name"])
        path = resource_of(manifest).path(_namespace(manifest), name)
        return await self.request("PATCH", path, query=query, body=manifest, content_type=APPLY)

    async def merge(self, path: str, patch: Mapping[str, Any], *, manager: str) -> Obj:
        """Merge a patch (RFC 7386) into what is at a path: an object, or its /status.

        Returns the whole object. Raises Conflict if the patch names a resource version that is no
        longer the newest.
        """
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        return await self.request("PATCH", path, query=query, body=patch, content_type=MERGE)

    async def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete an object; it is no error if there is none."""
        try:
            await self.request("DELETE", resource.path(namespace, name))
        except NotFound:
            return

    # ------------------------------------------------------------ one request

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> Obj:
        """Make one request and return the JSON object of its answer."""
        extra = {"Content-Type": content_type, **(headers or {})}
        async with self._ask(method, path, query=query, body=body, headers=extra) as response:
            return _object(await _read(response))

    @asynccontextmanager
    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        limit_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one request; yields its answer, the body still to be read; raises KubeError."""
        sent = {"Accept": JSON, **(headers or {})}
        client = await self._authorized(sent)
        target = path + (f"?{urlencode(query)}" if query else "")
        limits = aiohttp.ClientTimeout(total=limit_s or REQUEST_S, sock_connect=CONNECT_S)
        try:
            response = await client.send(method, target, sent, body, limits)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unavailable(error) from None
        try:
            if response.status >= 300:
                raise await self._refusal(response)
            yield response
        finally:
            response.release()

    async def _refusal(self, response: aiohttp.ClientResponse) -> KubeError:
        try:
            body = msgspec.json.decode(await _read(response))
        except msgspec.DecodeError:
            body = None
        error = error_of(response.status, body, response.headers)
        if isinstance(error, Unauthorized):
            await self.close()  # the next request reads the credentials anew
        return error

    async def _authorized(self, headers: dict[str, str]) -> KubeClient:
        try:
            async with self._connecting:
                if self._client is None:
                    self._client = await connect(self._access)
                client = self._client
            await client.authorize(headers)
        except Invalid as error:
            raise Unusable(error.message, hint=error.hint) from None
        return client


async def _read(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unavailable(error) from None


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of a watch as they come."""
    rest = b""
    try:
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
            if len(rest) > MAX_EVENT:
                raise Unavailable(f"an event of a watch has more than {MAX_EVENT >> 20} MiB.")
        if rest.strip():  # the last one, or the half of one
            yield rest
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _unavailable(error) from None


def _change(line: bytes) -> Change:
    event = _object(line)
    kind, obj = event.get("type"), event.get("object")
    if not isinstance(kind, str) or not isinstance(obj, dict):
        raise Unavailable("the API server sent an event that is none.")
    if kind == "ERROR":
        code = obj.get("code")
        raise error_of(code if isinstance(code, int) else 500, obj)
    return Change(kind, obj)


def _object(text: bytes) -> Obj:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise Unavailable("the API server answered with something else than a JSON object.")
    return found


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, TimeoutError):
        return Unavailable("the API server did not answer in time.")
    return Unavailable(f"the API server cannot be reached: {str(error) or type(error).__name__}.")


def _namespace(manifest: Mapping[str, Any]) -> str:
    return str(manifest["metadata"].get("namespace") or "")
