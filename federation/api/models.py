"""Model versions and aliases: push, read, fetch manifest, release and locations, move an alias.

Input: the text of a model.yaml, a manifest whose chunks were uploaded before, perhaps the owner's
signed release; alias moves. Output: documents in the artifact store, events for the control loop. A
version is accepted only if it is whole: what an agent fetches later cannot turn out to be another
package than the one that was checked here.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from federation.api.bodies import converted, idempotency, read_document, reply
from federation.api.documents import Model
from federation.api.documents_version import ModelVersion, file_view
from federation.api.packs import LINK_LIFE, PackLinks
from federation.api.pushes import Push, check_push
from federation.api.releases import Agreed, Content, Releases
from federation.api.resources import Submitter
from federation.api.route import Route, actor, caller_of, flag, needs
from federation.artifacts.base import ArtifactStore
from federation.contract.errors import Conflict, Invalid, NotFound
from federation.contract.locations import Locations
from federation.contract.manifest import MAX_MANIFEST_BYTES, distinct_chunks, parse_manifest
from federation.contract.names import check_model_name, check_name
from federation.contract.release import Envelope, envelope_bytes, release_of
from federation.contract.types import Manifest
from federation.control_loop import ControlLoop
from federation.policy import lookup
from federation.policy.access.roles import Verb
from federation.policy.events import AliasMoved, Idempotency, ModelVersionPushed
from federation.policy.records import VersionRecord
from federation.relay.server import BodyLimits

MAX_SOURCE = 1024
PUSH_LIMITS = BodyLimits(max_bytes=MAX_MANIFEST_BYTES + (1 << 20), total_s=600.0)
_DRY_RUN = {"dryRun": "true = check and answer, but change nothing"}


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

    def __init__(
        self,
        loop: ControlLoop,
        submitter: Submitter,
        store: ArtifactStore,
        releases: Releases,
        links: PackLinks,
    ) -> None:
        self._loop = loop
        self._submitter = submitter
        self._store = store
        self._releases = releases
        self._links = links

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
                method="GET",
                path=version + "/{version}/release",
                summary="Fetch the signed statement (a DSSE envelope) that makes it loadable",
                handler=self._release,
                needs=needs(Verb.READ, "ModelVersion", "{name}/{version}"),
                answer=Envelope,
                errors=(NotFound,),
            ),
            Route(
                method="GET",
                path=version + "/{version}/locations",
                summary="Tell where its chunks lie, with links that are good for a while",
                handler=self._locations,
                needs=needs(Verb.READ, "ModelVersion", "{name}/{version}"),
                answer=Locations,
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
        body = await read_document(request, PUSH_LIMITS)
        push = converted(body, Push)
        checked = await check_push(name, push, self._store)
        content = Content(
            model=name,
            digest=checked.digest,
            size=push.manifest.size,
            source=push.source[:MAX_SOURCE],
        )
        agreed = await self._agreed(content, push.release)
        event = ModelVersionPushed(
            actor=actor(request),
            package=checked.package,
            digest=checked.digest,
            size=content.size,
            files=len(push.manifest.files),
            chunker=push.manifest.chunker,
            source=content.source,
            signed_by=agreed.signed_by,
            carries_code=checked.carries_code,
        )
        asked: dict[str, Any] = {"caller": caller_of(request), "key": idempotency(request, body)}
        _, applied = await self._submitter.submit(event, **asked, dry_run=True)
        if not flag(request, "dryRun"):
            # Documents first: a version that is there can be fetched. Without it they are garbage.
            await self._store.put_document("manifest", checked.digest, checked.data)
            await self._releases.keep(checked.digest, agreed.envelope)
            _, applied = await self._submitter.submit(event, **asked)
        pushed = Pushed(
            model=name, version=applied.version, digest=applied.digest, created=applied.created
        )
        return reply(pushed, status=201)

    async def _agreed(self, content: Content, offered: Envelope | None) -> Agreed:
        """Return the release of what is pushed; raises Invalid or Conflict."""
        model = self._loop.state.models.get(content.model)
        return await self._releases.agree(
            content,
            offered,
            publishers=model.spec.publishers if model else (),
            newest=model.versions[-1].digest if model and model.versions else "",
        )

    async def _get(self, request: web.Request) -> web.Response:
        name, version = self._version(request)
        manifest = await self._parsed(version)
        release = await self._releases.read(version.digest)
        return reply(
            ModelVersion(
                model=name,
                version=version.version,
                digest=version.digest,
                size=version.size,
                source=version.source,
                created_at=version.created_at,
                created_by=version.created_by,
                package=version.package,
                carries_code=version.carries_code,
                chunker=version.chunker,
                signed_by=version.signed_by,
                release=release_of(release),
                files=tuple(file_view(entry) for entry in manifest.files),
            )
        )

    async def _manifest(self, request: web.Request) -> web.Response:
        _, version = self._version(request)
        response = web.Response(body=await self._store.document("manifest", version.digest))
        response.content_type = "application/json"
        response.headers["ETag"] = f'"{version.digest}"'
        return response

    async def _release(self, request: web.Request) -> web.Response:
        _, version = self._version(request)
        body = envelope_bytes(await self._releases.read(version.digest))
        return web.Response(body=body, content_type="application/json")

    async def _locations(self, request: web.Request) -> web.Response:
        _, version = self._version(request)
        chunks = await asyncio.to_thread(distinct_chunks, await self._parsed(version))
        located = await self._store.locate(chunks, url_lifetime=LINK_LIFE)
        return reply(self._links.complete(located))

    async def _parsed(self, version: VersionRecord) -> Manifest:
        data = await self._store.document("manifest", version.digest)
        return await asyncio.to_thread(parse_manifest, data)

    def _version(self, request: web.Request) -> tuple[str, VersionRecord]:
        name, wanted = request.match_info["name"], request.match_info["version"]
        return name, lookup.wanted_version(self._loop.state, name, wanted)

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
