"""Model versions and aliases: push, read, fetch the manifest, move an alias.

Input: the text of a model.yaml and a manifest whose blobs were uploaded before; alias moves.
Output: events for the control loop. A version is accepted only if it is whole: what an agent
fetches later cannot turn out to be another package than the one that was checked here.
"""

from dataclasses import dataclass

from aiohttp import web
from blake3 import blake3

from federation.api.bodies import converted, idempotency, read_document, reply
from federation.api.documents import Model, ModelVersion
from federation.api.errors import MissingBlobs
from federation.api.resources import Submitter
from federation.api.route import Route, actor, caller_of, flag, needs
from federation.artifacts.base import BlobStore
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.manifest import check_manifest, manifest_bytes, manifest_digest
from federation.contract.names import check_model_name, check_name, did_you_mean
from federation.contract.package import PACKAGE_FILE, ModelPackage, parse_package
from federation.contract.types import Manifest
from federation.control_loop import ControlLoop
from federation.policy import lookup
from federation.policy.access.roles import Verb
from federation.policy.events import AliasMoved, Idempotency, ModelVersionPushed
from federation.policy.records import VersionRecord

_DRY_RUN = {"dryRun": "true = check and answer, but change nothing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A package: the text of its model.yaml, and the manifest of all its files (it included)."""

    package: str
    manifest: Manifest
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """The version that holds this content; `created` is false if it was there already."""

    model: str
    version: int
    digest: str
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasTarget:
    """The version that an alias shall mean."""

    version: int


class Models:
    """The handlers below /api/v1/models/{name}."""

    def __init__(self, loop: ControlLoop, submitter: Submitter, blobs: BlobStore) -> None:
        self._loop = loop
        self._submitter = submitter
        self._blobs = blobs

    def routes(self) -> list[Route]:
        """Return this module's part of the route table."""
        version, alias = "/api/v1/models/{name}/versions", "/api/v1/models/{name}/aliases/{alias}"
        return [
            Route(
                method="POST",
                path=version,
                summary="Push a package as the next version of its model",
                handler=self._push,
                needs=needs(Verb.PUSH, "Model"),
                body=Push,
                answer=Pushed,
                status=201,
                queries=_DRY_RUN,
                errors=(Invalid, Conflict),
            ),
            Route(
                method="GET",
                path=version + "/{version}",
                summary="Read one version; it may be given as an alias",
                handler=self._get,
                needs=needs(Verb.READ, "ModelVersion", "{name}/{version}"),
                answer=ModelVersion,
                errors=(NotFound,),
            ),
            Route(
                method="GET",
                path=version + "/{version}/manifest",
                summary="Fetch the manifest in the bytes that its digest is made of",
                handler=self._manifest,
                needs=needs(Verb.READ, "ModelVersion", "{name}/{version}"),
                answer=Manifest,
                errors=(NotFound,),
            ),
            Route(
                method="PUT",
                path=alias,
                summary="Let an alias mean a version",
                handler=self._set_alias,
                needs=needs(Verb.WRITE, "Model"),
                body=AliasTarget,
                answer=Model,
                queries=_DRY_RUN,
                errors=(Invalid, NotFound, Conflict),
            ),
            Route(
                method="DELETE",
                path=alias,
                summary="Remove an alias",
                handler=self._delete_alias,
                needs=needs(Verb.WRITE, "Model"),
                answer=Model,
                queries=_DRY_RUN,
                errors=(NotFound, Conflict),
            ),
        ]

    async def _push(self, request: web.Request) -> web.Response:
        name = check_model_name(request.match_info["name"])
        body = await read_document(request)
        push = converted(body, Push)
        package = parse_package(push.package)
        _check_push(name, package, push)
        await self._check_blobs(push.manifest)
        event = ModelVersionPushed(
            actor=actor(request),
            package=package,
            manifest=push.manifest,
            digest=manifest_digest(push.manifest),
            source=push.source[:1024],
        )
        _, applied = await self._submitter.submit(
            event,
            caller=caller_of(request),
            key=idempotency(request, body),
            dry_run=flag(request, "dryRun"),
        )
        pushed = Pushed(
            model=name, version=applied.version, digest=applied.digest, created=applied.created
        )
        return reply(pushed, status=201)

    async def _check_blobs(self, manifest: Manifest) -> None:
        """Raise MissingBlobs, or Invalid if a stored file has another size than promised."""
        missing = await self._blobs.missing(entry.blake3 for entry in manifest.files)
        if missing:
            raise MissingBlobs(missing)
        for entry in manifest.files:
            size = await self._blobs.size(entry.blake3)
            if size != entry.size:
                raise Invalid(f"{entry.path!r} has {size} bytes, the manifest says {entry.size}.")

    async def _get(self, request: web.Request) -> web.Response:
        name, version = self._version(request)
        return reply(
            ModelVersion(
                model=name,
                version=version.version,
                digest=version.digest,
                size=version.manifest.size,
                source=version.source,
                created_at=version.created_at,
                created_by=version.created_by,
                package=version.package,
                files=version.manifest.files,
            )
        )

    async def _manifest(self, request: web.Request) -> web.Response:
        _, version = self._version(request)
        response = web.Response(body=manifest_bytes(version.manifest))
        response.content_type = "application/json"
        response.headers["ETag"] = f'"{version.digest}"'
        return response

    def _version(self, request: web.Request) -> tuple[str, VersionRecord]:
        name, wanted = request.match_info["name"], request.match_info["version"]
        model = lookup.model(self._loop.state, name)
        if wanted.isdecimal() and len(wanted) > 18:
            raise NotFound(f"model {name!r} has no such version.")
        return name, lookup.version(model, lookup.resolve(model, wanted))

    async def _set_alias(self, request: web.Request) -> web.Response:
        body = await read_document(request)
        return await self._move(
            request,
            check_name("alias", request.match_info["alias"]),
            converted(body, AliasTarget).version,
            key=idempotency(request, body),
        )

    async def _delete_alias(self, request: web.Request) -> web.Response:
        return await self._move(
            request, request.match_info["alias"], None, key=idempotency(request)
        )

    async def _move(
        self, request: web.Request, alias: str, version: int | None, *, key: Idempotency | None
    ) -> web.Response:
        name = request.match_info["name"]
        state, _ = await self._submitter.submit(
            AliasMoved(actor=actor(request), model=name, alias=alias, version=version),
            caller=caller_of(request),
            key=key,
            dry_run=flag(request, "dryRun"),
        )
        return reply(self._submitter.document(state, "Model", name))


def _check_push(name: str, package: ModelPackage, push: Push) -> None:
    """Raise Invalid unless path, model.yaml and manifest speak of one and the same package."""
    manifest = check_manifest(push.manifest)
    if not name == package.name == manifest.model:
        raise Invalid(
            f"the path names model {name!r}, {PACKAGE_FILE} {package.name!r}, "
            f"the manifest {manifest.model!r}.",
            hint="They must be equal.",
        )
    files = {entry.path: entry for entry in manifest.files}
    entry = files.get(PACKAGE_FILE)
    if entry is None or entry.blake3 != blake3(push.package.encode()).hexdigest():
        raise Invalid(
            f"the manifest's {PACKAGE_FILE} is not the one that was sent as package.",
            hint="The file changed while it was pushed: push again.",
        )
    if package.file and package.file not in files:
        raise Invalid(
            f"{PACKAGE_FILE} names {package.file!r}, which is not in the package.",
            hint=did_you_mean(package.file, files),
        )
