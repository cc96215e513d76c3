"""Ray Serve through the dashboard's declarative REST API; needs no Ray in the agent.

Input: verified packages. Output: one application per version, `<model>--v<version>`, whose code and
model travel as a zip file that the cluster's nodes must be able to read. A PUT replaces the whole
configuration, so each one starts from what is deployed at that moment, one PUT at a time.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.backends import ray_applications as ray
from edge_agent.backends import ray_inference as inference
from edge_agent.backends.base import (
    BackendError,
    EngineRoute,
    EngineUnreachable,
    LoadedVersion,
    StagedVersion,
    Verb,
    engine_name,
)
from edge_agent.backends.bundle import write_bundle
from edge_agent.backends.engine_http import Answer, EngineHttp, one_line
from federation.contract.capacity import Device
from federation.contract.types import EngineKind, EngineStatus, ModelProtocol, Runtime

_APPLICATIONS = "/api/serve/applications/"
_POLL_S = 0.2
_UNLOAD_S = 60.0
_PUT_S = 60.0  # the first one starts the controller and the proxy


class RayServeBackend:
    """One Ray cluster. `archives` is the folder for the zip files, on a disk that its nodes see."""

    kind = EngineKind.RAY_SERVE

    def __init__(
        self,
        dashboard_url: str,
        serve_url: str,
        archives: Path,
        *,
        token: str = "",
        load_timeout_s: float = 600.0,
        cpus_per_replica: float = 0.1,
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._dashboard = EngineHttp(dashboard_url, headers=headers)
        self._serve = EngineHttp(serve_url)
        self._archives = archives
        self._load_timeout_s = load_timeout_s
        self._cpus = cpus_per_replica
        self._one_put = asyncio.Lock()

    def __repr__(self) -> str:
        return f"RayServeBackend({self._dashboard.url}, {self._serve.url})"

    async def status(self) -> EngineStatus:
        """Return how the cluster is; never raises."""
        try:
            about = await self._about()
        except BackendError as error:
            return EngineStatus(kind=self.kind, reason=str(error))
        return EngineStatus(kind=self.kind, version=str(about.get("ray_version", "")), ready=True)

    async def identity(self) -> str:
        """Return the cluster's session name, which is new after each start."""
        try:
            return str((await self._about()).get("session_name", ""))
        except BackendError:
            return ""

    async def loaded(self) -> tuple[LoadedVersion, ...]:
        """Return our versions with a running replica; raises EngineUnreachable."""
        return ray.loaded_versions(await self._details())

    async def load(self, staged: StagedVersion) -> None:
        """Deploy a version beside the others and wait until it runs; raises BackendError.

        Nothing is done if it runs already; another number of replicas is changed in place.
        """
        name = engine_name(staged.model, staged.version)
        details = await self._details()
        if any(ray.is_same(each, staged, details) for each in ray.loaded_versions(details)):
            return
        archive = await asyncio.to_thread(write_archive, self._archives, staged)
        application = ray.make_application(staged, archive.as_uri(), self._cpus)
        before = await self._put({name: application})
        was = ray.applications(before).get(name, {})
        last = was.get("last_deployed_time_s", 0.0)
        try:
            await self._wait_running(name, staged.digest, last)
        except BackendError:
            if ray.serves(was, staged):
                await self._put({name: was["deployed_app_config"]})  # as it was before
                raise
            await self._put({name: None})  # else Ray would try it again at every change
            await asyncio.to_thread(remove_archives, self._archives, name)
            raise

    async def warm_up(self, staged: StagedVersion) -> None:
        """Answer one real inference on the package's sample; raises BackendError."""
        await inference.warm_up(self._serve, staged)

    async def unload(self, model: str, version: int) -> None:
        """Remove a version's application and wait until it is gone; its archive goes with it."""
        name = engine_name(model, version)
        if name in ray.applications(await self._details()):
            await self._put({name: None})
            try:
                async with asyncio.timeout(_UNLOAD_S):
                    while name in ray.applications(await self._details()):  # noqa: ASYNC110  # remote: nobody tells us
                        await asyncio.sleep(_POLL_S)
            except TimeoutError:
                raise BackendError(
                    f"Ray Serve did not remove {name} within {_UNLOAD_S:g} s"
                ) from None
        await asyncio.to_thread(remove_archives, self._archives, name)

    def route(
        self, model: str, version: int, verb: Verb, protocol: ModelProtocol
    ) -> EngineRoute | None:
        """Return where the verb lives: below the application's own prefix, in its own words."""
        return inference.route(self._serve.url, (model, version), verb, protocol)

    async def devices(self) -> tuple[Device, ...]:
        """Return the GPUs that the cluster's living nodes declare; raises EngineUnreachable."""
        answer = await self._dashboard.ask("GET", "/api/v0/nodes?detail=true")
        nodes = _expect(answer, "lists no nodes")["data"]["result"]["result"]
        return tuple(
            Device(
                id=f"{node['node_id'][:12]}-{index}",
                vendor="nvidia",
                product=_product(node.get("resources_total") or {}),
                memory_mib=0,
                source="ray",
                node=str(node.get("node_name") or node.get("node_ip") or ""),
            )
            for node in nodes
            if node.get("state") == "ALIVE"
            for index in range(int((node.get("resources_total") or {}).get("GPU", 0)))
        )

    async def close(self) -> None:
        """Close connections; the cluster keeps running."""
        await self._dashboard.close()
        await self._serve.close()

    async def _about(self) -> Mapping[str, Any]:
        return _expect(await self._dashboard.ask("GET", "/api/ray/version"), "tells no version")

    async def _details(self) -> Mapping[str, Any]:
        answer = await self._dashboard.ask("GET", _APPLICATIONS)
        return _expect(answer, "lists no applications")

    async def _put(self, wanted: Mapping[str, Mapping[str, Any] | None]) -> Mapping[str, Any]:
        """Change the configuration; return the details from before the change."""
        async with self._one_put:
            before = await self._details()
            config = ray.make_config(before, wanted, self._serve.url)
            answer = await self._dashboard.ask("PUT", _APPLICATIONS, body=config, timeout_s=_PUT_S)
            if answer.status != 200:
                raise BackendError(f"Ray Serve refused the configuration: {one_line(answer.text)}")
            return before

    async def _wait_running(self, name: str, digest: str, last_deployed_s: float) -> None:
        application: Mapping[str, Any] = {}
        try:
            async with asyncio.timeout(self._load_timeout_s):
                while True:
                    application = ray.applications(await self._details()).get(name, {})
                    # A RUNNING seen at once may still be the application from before the PUT.
                    fresh = application.get("last_deployed_time_s", 0.0) > last_deployed_s
                    if fresh and ray.digest_of(application) == digest:
                        if reason := ray.failure_of(application):
                            raise BackendError(reason)
                        if application["status"] == "RUNNING":
                            return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            limit = f"{self._load_timeout_s:g} s"
            why = ray.waiting_for(application)
            raise BackendError(f"{name} does not run after {limit}. {why}".strip()) from None


def write_archive(folder: Path, staged: StagedVersion) -> Path:
    """Zip a version for the cluster's nodes; the content is in the name, since Ray caches by it."""
    target = folder / archive_name(staged)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".zip-") as building:
        content = Path(building) / "content"
        if staged.package.runtime is Runtime.RAY_SERVE:
            shutil.copytree(staged.directory, content)
        else:
            content.mkdir()
            write_bundle(content, staged, package_folder="model")
        made = shutil.make_archive(str(Path(building) / "archive"), "zip", content)
        Path(made).replace(target)
    return target.resolve()


def archive_name(staged: StagedVersion) -> str:
    """Return the name of a version's zip file."""
    return f"{engine_name(staged.model, staged.version)}-{staged.digest[:16]}.zip"


def remove_archives(folder: Path, name: str) -> None:
    """Remove the archives of one version."""
    for archive in folder.glob(f"{name}-*.zip"):
        archive.unlink(missing_ok=True)


def _product(resources: Mapping[str, Any]) -> str:
    prefix = "accelerator_type:"
    named = (key.removeprefix(prefix) for key in resources if key.startswith(prefix))
    return next(named, "GPU")


def _expect(answer: Answer, complaint: str) -> Mapping[str, Any]:
    if answer.status in (401, 403):
        raise EngineUnreachable(f"Ray refuses the token (status {answer.status})")
    if answer.status != 200:
        raise EngineUnreachable(
            f"Ray {complaint}: {one_line(answer.text)} (status {answer.status})"
        )
    document = answer.json()
    if not isinstance(document, Mapping):
        raise BackendError(f"Ray {complaint}: {one_line(answer.text)}")
    return document
