"""Runs each model version as a workload of its own on Kubernetes.

Input: verified packages, an API server, a folder on a volume that all engines see. Output: objects
there, which Kubernetes keeps alive also without this agent; for the gateway the Service of each.
How an engine looks is its Flavour's business: Triton in a Deployment, or Ray by KubeRay.

What runs is asked of the API server, never remembered, so that a restart of the agent loses
nothing. While the API server is away, what it listed last counts for as long as it answers itself.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edge_agent.backends.base import (
    BackendError,
    EngineRoute,
    EngineUnreachable,
    LoadedVersion,
    StagedVersion,
    Verb,
    engine_name,
)
from edge_agent.backends.engine_http import EngineHttp
from edge_agent.backends.kube_flavour import HTTP_PORT, Flavour, Obj, Pace, Reach, by_address
from edge_agent.backends.kube_objects import KubeObjects
from edge_agent.backends.kube_warmth import PodWarmth
from edge_agent.policy.kube.fitting import Unfit, place
from edge_agent.policy.kube.rollouts import Phase, Rollout
from edge_agent.policy.kube.workloads import (
    WORKLOAD,
    EngineShape,
    Placing,
    Workload,
    object_name,
    told_placing,
    told_scale,
    told_version,
)
from federation.contract.types import EngineStatus, ModelProtocol

log = logging.getLogger(__name__)


class KubeBackend:
    """The engines of one agent. `models` is where the volume's folder is mounted here."""

    def __init__(
        self,
        objects: KubeObjects,
        flavour: Flavour,
        shape: EngineShape,
        models: Path,
        *,
        reach: Reach = by_address,
        pace: Pace | None = None,
    ) -> None:
        self.kind = flavour.kind
        self._objects = objects
        self._flavour = flavour
        self._shape = shape
        self._models = models
        self._reach = reach
        self._pace = pace or Pace()
        self._known: tuple[LoadedVersion, ...] = ()
        self._warmth = PodWarmth(self._warm_up_at)
        # When each object was last loaded, or seen to serve (the loop's clock).
        self._wanted_s: dict[str, float] = {}
        self._missing: list[str] | None = None  # rights, in words; None = not asked yet
        self._asked_s = 0.0

    def __repr__(self) -> str:
        return f"KubeBackend({self.kind}, {self._objects!r}, {len(self._known)} loaded)"

    # ------------------------------------------------------------ what is there

    async def status(self) -> EngineStatus:
        """Return how it stands with Kubernetes; never raises. Ready while what runs answers."""
        version = self._shape.image.rpartition(":")[2]
        try:
            async with asyncio.timeout(self._pace.ask_s):
                await self._objects.reach()
            reason = "; ".join(await self._rights())
        except TimeoutError:
            reason = "Kubernetes: the API server does not answer in time."
        except BackendError as error:
            reason = str(error)
        ready = not reason or bool(await self._still_answering())
        return EngineStatus(kind=self.kind, version=version, ready=ready, reason=reason)

    async def _rights(self) -> list[str]:
        """Return which rights are missing, in words; those that were there are not asked for again.

        An answer that takes long is waited for another time: rights are no reason not to serve.
        """
        now = asyncio.get_running_loop().time()
        if self._missing is None or (self._missing and now > self._asked_s + self._pace.rights_s):
            needs = self._flavour.needs(self._objects.namespace)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.ask_s):
                    self._missing, self._asked_s = await self._objects.missing(needs), now
                for sentence in self._missing:
                    log.warning("engines on Kubernetes: %s", sentence)
        return self._missing or []

    async def identity(self) -> str:
        """Return "": each engine starts by itself, and is missed by itself."""
        return ""

    async def loaded(self) -> tuple[LoadedVersion, ...]:
        """Return the versions of which a replica answers; raises EngineUnreachable."""
        try:
            async with asyncio.timeout(self._pace.ask_s):
                found = await self._objects.ours(self._flavour.resource)
                pods = await self._ready_pods()
        except (TimeoutError, BackendError) as error:
            if not isinstance(error, (TimeoutError, EngineUnreachable)):
                self._missing = None  # a right is gone: which?
            if alive := await self._still_answering():
                return alive
            words = str(error) or "Kubernetes: the API server does not answer in time."
            raise EngineUnreachable(words) from None
        there = (version for obj in found if (version := self._loaded(obj)) is not None)
        self._known = tuple(each for version in there for each in self._warm_of(version, pods))
        await self._clear_leftovers(found)
        return self._known

    def _loaded(self, obj: Obj) -> LoadedVersion | None:
        if (told := told_version(obj)) is None:
            return None
        model, version, digest, protocol = told
        replicas = self._flavour.running(obj, engine_name(model, version))
        if not replicas:
            return None
        return LoadedVersion(
            model=model,
            version=version,
            digest=digest,
            protocol=ModelProtocol.TEXT if protocol == "text" else ModelProtocol.TENSOR,
            replicas=replicas,
        )

    async def _ready_pods(self) -> dict[str, dict[str, str]] | None:
        """Return the addresses of ready pods, by workload and uid; None where they don't matter."""
        if not (self._flavour.each_pod and self._warmth.knows_any):
            return None
        found: dict[str, dict[str, str]] = {}
        for pod in await self._objects.pods():
            name = str(pod["metadata"].get("labels", {}).get(WORKLOAD, ""))
            found.setdefault(name, {}).update(self._addresses([pod]))
        return found

    def _addresses(self, pods: Sequence[Obj]) -> dict[str, str]:
        """Return the addresses of those that are ready, by uid."""
        return {
            str(pod["metadata"].get("uid") or pod["metadata"]["name"]): address
            for pod in pods
            for address in self._flavour.targets([pod], "")
        }

    def _warm_of(
        self, version: LoadedVersion, pods: dict[str, dict[str, str]] | None
    ) -> Iterator[LoadedVersion]:
        """Yield a version with the replicas that are warm; one without any is not loaded."""
        name = object_name(version.model, version.version)
        warm = None if pods is None else self._warmth.count(name, pods.get(name, {}))
        if warm is None:
            yield version
        elif warm:
            yield replace(version, replicas=min(version.replicas, warm))

    async def _still_answering(self) -> tuple[LoadedVersion, ...]:
        """Return what was known last and still answers by itself."""
        known = self._known
        answers = await asyncio.gather(*(self._answers(version) for version in known))
        return tuple(each for each, yes in zip(known, answers, strict=True) if yes)

    async def _answers(self, known: LoadedVersion) -> bool:
        route = self.route(known.model, known.version, Verb.READY, known.protocol)
        if route is None:
            return False
        http = EngineHttp(route.url, timeout_s=self._pace.ask_s)
        try:
            return (await http.ask("GET", "")).status == 200
        except BackendError:
            return False
        finally:
            await http.close()

    async def _clear_leftovers(self, found: Sequence[Obj]) -> None:
        """Remove what never came to run and is not wanted any more: its loads were given up."""
        now = asyncio.get_running_loop().time()
        alive = {object_name(known.model, known.version) for known in self._known}
        names = [str(obj["metadata"]["name"]) for obj in found]
        self._wanted_s = {
            name: now if name in alive else self._wanted_s.get(name, now) for name in names
        }
        for name, since_s in list(self._wanted_s.items()):
            if now - since_s > self._pace.leftover_s:
                log.warning("%s never came to run and is not wanted: it is removed", name)
                try:
                    await self._delete(name)
                except BackendError as error:
                    log.warning("%s cannot be removed: %s", name, error)

    # ------------------------------------------------------------ changes

    async def load(self, staged: StagedVersion) -> None:
        """Run a version beside the others and return when all of its replicas answer.

        One that runs with the same needs keeps its place; another number of replicas is a change in
        place. What fails is removed, unless it served before: then it stays.
        """
        name, resource = object_name(staged.model, staged.version), self._flavour.resource
        self._wanted_s[name] = asyncio.get_running_loop().time()
        old = await self._objects.find(resource, name)
        if old is not None and (told_version(old) or ("", 0, "", ""))[2] != staged.digest:
            await self.unload(staged.model, staged.version)
            old = None
        workload = _workload(staged)
        if old is not None and self._is_done(old, workload):
            return
        serves = old is not None and self._loaded(old) is not None
        placing = await self._placing(old, workload)
        await self._write(staged, workload)
        manifests = list(self._flavour.manifests(staged, workload, self._shape, placing))
        if old is not None:
            manifests[-1] = await self._change(old, manifests[-1], placing)
        try:
            for manifest in manifests:
                await self._objects.put(manifest)
            await self._wait(name, staged)
        except EngineUnreachable:
            raise  # Kubernetes goes on with it, or the next try does
        except BackendError:
            if not serves:
                await self._take_back(staged)
            raise

    async def _take_back(self, staged: StagedVersion) -> None:
        """Remove what was made for a version that fails; its pods may take a while to end."""
        name = object_name(staged.model, staged.version)
        try:
            await self._delete(name)
        except BackendError as error:
            log.warning("%s cannot be removed: %s", name, error)
            return
        await asyncio.to_thread(self._remove_files, engine_name(staged.model, staged.version))

    def _is_done(self, old: Obj, workload: Workload) -> bool:
        if self._flavour.wanted(old) != workload.replicas or told_scale(old) != workload.scale:
            return False
        if told_placing(old, workload) is None:
            return False
        engine = engine_name(workload.model, workload.version)
        return self._flavour.rollout(old, (), engine).phase is Phase.DONE

    async def _placing(self, old: Obj | None, workload: Workload) -> Placing:
        """Return where it runs already, else where it may."""
        if old is not None and (placing := told_placing(old, workload)) is not None:
            return placing
        if not workload.resources.gpus:
            return Placing()
        survey = await self._objects.survey()
        try:
            return place(workload.resources, survey.pools, survey.nodes)
        except Unfit as error:
            raise BackendError(str(error)) from None

    async def _change(self, old: Obj, new: Obj, placing: Placing) -> Obj:
        changed = self._flavour.change(old, new, placing, None)
        if changed is None:
            changed = self._flavour.change(old, new, placing, await self._objects.survey())
        return changed or new

    async def _write(self, staged: StagedVersion, workload: Workload) -> None:
        try:
            folder = self._models / workload.folder
            await asyncio.to_thread(self._flavour.write, folder, staged)
        except OSError as error:
            raise BackendError(
                f"cannot write to the models' volume {self._models}: {error}"
            ) from None

    async def _wait(self, name: str, staged: StagedVersion) -> None:
        engine, rollout = engine_name(staged.model, staged.version), Rollout(Phase.GOING)
        try:
            async with asyncio.timeout(self._pace.load_s):
                while True:
                    obj = await self._objects.find(self._flavour.resource, name)
                    if obj is None:
                        raise BackendError(f"{name} was deleted by somebody while it was loaded")
                    pods = await self._objects.pods(name)
                    rollout = self._flavour.rollout(obj, pods, engine)
                    if rollout.phase is Phase.FAILED:
                        raise BackendError(rollout.reason)
                    if rollout.phase is Phase.DONE:
                        return
                    await asyncio.sleep(self._pace.poll_s)
        except TimeoutError:
            limit = f"{self._pace.load_s:g} s"
            raise BackendError(f"{name} does not run after {limit}. {rollout.reason}") from None

    async def warm_up(self, staged: StagedVersion) -> None:
        """Answer one real inference at each replica; raises BackendError."""
        name = object_name(staged.model, staged.version)
        service = self._flavour.host(name, self._objects.namespace)
        pods: Sequence[Obj] = ()
        try:
            pods = await self._objects.pods(name)
            targets = self._flavour.targets(pods, service)
        except EngineUnreachable:
            targets = [service]  # what runs may answer though the API server does not
        if not targets:
            raise BackendError(f"no replica of {name} is ready")
        for host in targets:
            await self._warm_up_at(host, staged)
        if self._flavour.each_pod and pods:
            self._warmth.warmed(name, staged, self._addresses(pods))

    async def _warm_up_at(self, host: str, staged: StagedVersion) -> None:
        http = EngineHttp(self._reach(host, HTTP_PORT))
        try:
            await self._flavour.warm_up(http, staged)
        finally:
            await http.close()

    async def unload(self, model: str, version: int) -> None:
        """Remove a version's objects, wait until its pods are gone, then remove its files."""
        name = object_name(model, version)
        self._warmth.forget(name)
        await self._delete(name)
        try:
            async with asyncio.timeout(self._pace.unload_s):
                while await self._objects.pods(name):  # noqa: ASYNC110  # remote: nobody tells us
                    await asyncio.sleep(self._pace.poll_s)
        except TimeoutError:
            limit = f"{self._pace.unload_s:g} s"
            raise BackendError(f"pods of {name} are still there after {limit}") from None
        self._known = tuple(k for k in self._known if (k.model, k.version) != (model, version))
        self._wanted_s.pop(name, None)
        await asyncio.to_thread(self._remove_files, engine_name(model, version))

    async def _delete(self, name: str) -> None:
        """Delete a version's objects; if one cannot be, the others still are."""
        failure: BackendError | None = None
        for resource in (self._flavour.resource, *self._flavour.others):
            try:
                await self._objects.delete(resource, name)
            except BackendError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _remove_files(self, name: str) -> None:
        for path in self._flavour.remains(self._models, name):
            remove(path)

    # ------------------------------------------------------------ for the gateway

    def route(
        self, model: str, version: int, verb: Verb, protocol: ModelProtocol
    ) -> EngineRoute | None:
        """Return where the verb lives: at the version's own Service."""
        host = self._flavour.host(object_name(model, version), self._objects.namespace)
        base = self._reach(host, HTTP_PORT)
        return self._flavour.route(base, (model, version), verb, protocol)

    async def close(self) -> None:
        """Close connections; the engines keep running."""
        await self._warmth.close()
        await self._objects.close()


def _workload(staged: StagedVersion) -> Workload:
    return Workload(
        model=staged.model,
        version=staged.version,
        digest=staged.digest,
        protocol=staged.package.protocol.value,
        folder=f"{object_name(staged.model, staged.version)}-{staged.digest[:16]}",
        replicas=max(staged.replicas, 1),
        max_replicas=staged.max_replicas,
        resources=staged.resources,
    )


def remove(path: Path) -> None:
    """Remove a file or a folder, and the folder around it if that is empty then."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
