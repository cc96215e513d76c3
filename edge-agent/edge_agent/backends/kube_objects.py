"""Kubernetes objects as the engines' backends use them, with errors in the backends' words.

Input: an API server. Output: our objects of one namespace; what the cluster's nodes have. Objects
that others made under our names are never touched; fields of ours that others changed are taken
back, and that is logged.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edge_agent.backends.base import BackendError, EngineUnreachable
from edge_agent.policy.kube.permissions import Need, missing
from edge_agent.policy.kube.tolerations import Toleration
from edge_agent.policy.kube.view import KubeView
from edge_agent.policy.kube.workloads import is_ours, selector
from federation.contract.capacity import Pool
from federation.kube.api import KubeApi, Selection
from federation.kube.errors import (
    Conflict,
    Forbidden,
    KubeError,
    NotFound,
    Throttled,
    Unauthorized,
    Unavailable,
    Unusable,
)
from federation.kube.resources import NODES, PODS, Resource, resource_of

log = logging.getLogger(__name__)

MANAGER = "federation-edge-agent"  # of the fields that we apply
_NOT_ENDED = "status.phase!=Succeeded,status.phase!=Failed"
_LATER = (Unavailable, Throttled, Unauthorized, Unusable)  # nothing is known while these last

Obj = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the cluster has now; `exact` is False where pods may not be seen."""

    pools: tuple[Pool, ...]
    nodes: tuple[Obj, ...]
    exact: bool = True


class KubeObjects:
    """The objects of one cluster's agent in one namespace. All methods raise BackendError."""

    def __init__(
        self, api: KubeApi, *, namespace: str, cluster: str, tolerations: Sequence[Toleration] = ()
    ) -> None:
        self._api = api
        self.namespace = namespace
        self.cluster = cluster
        self._tolerations = tuple(tolerations)

    def __repr__(self) -> str:
        return f"KubeObjects({self.namespace}, {self.cluster}, {self._api!r})"

    async def close(self) -> None:
        """End all connections."""
        await self._api.close()

    async def reach(self) -> None:
        """Return if the API server answers."""
        with in_words():
            await self._api.request("GET", "/version")

    async def missing(self, needs: Sequence[Need]) -> list[str]:
        """Return what we may not do, in words."""
        asked = [(need, verb) for need in needs for verb in need.verbs]
        answers = await asyncio.gather(*(self._may(need, verb) for need, verb in asked))
        allowed = {
            (need.resource, verb): answer
            for (need, verb), answer in zip(asked, answers, strict=True)
        }
        return missing(needs, allowed)

    async def _may(self, need: Need, verb: str) -> bool:
        with in_words():
            try:
                return await self._api.may(verb, need.resource, namespace=need.namespace)
            except (Forbidden, NotFound):  # this cluster doesn't tell: try
                return True

    async def ours(self, resource: Resource) -> tuple[Obj, ...]:
        """Return all of our objects of a kind."""
        with in_words():
            which = Selection(
                resource=resource, namespace=self.namespace, labels=selector(self.cluster)
            )
            return (await self._api.list(which)).items

    async def pods(self, name: str = "") -> tuple[Obj, ...]:
        """Return the pods of one workload, or of all of ours."""
        with in_words():
            which = Selection(
                resource=PODS, namespace=self.namespace, labels=selector(self.cluster, name)
            )
            return (await self._api.list(which)).items

    async def find(self, resource: Resource, name: str) -> Obj | None:
        """Return one of our objects, None if there is none; refuses what is not ours."""
        with in_words():
            try:
                found = await self._api.get(resource, self.namespace, name)
            except NotFound:
                return None
        if not is_ours(found, self.cluster):
            raise BackendError(
                f"there is a {resource.kind} {name} in the namespace {self.namespace} that this "
                "agent did not make: it is left alone. Remove or rename it"
            )
        return found

    async def put(self, manifest: Obj) -> None:
        """Create or change an object, unless somebody else made it."""
        name, kind = manifest["metadata"]["name"], manifest["kind"]
        await self.find(resource_of(manifest), name)
        with in_words():
            try:
                await self._api.apply(manifest, manager=MANAGER, force=False)
            except Conflict as error:
                who = ", ".join(error.managers) or "somebody"
                log.warning("%s had changed the %s %s: it is changed back", who, kind, name)
                await self._api.apply(manifest, manager=MANAGER, force=True)

    async def delete(self, resource: Resource, name: str) -> None:
        """Delete one of our objects, with what belongs to it; no error if there is none."""
        if await self.find(resource, name) is not None:
            with in_words():
                await self._api.delete(resource, self.namespace, name)

    async def survey(self) -> Survey:
        """Return what nodes have and, where pods may be seen, what of it is free."""
        view, exact = KubeView(tolerations=self._tolerations), True
        with in_words():
            nodes = (await self._api.list(Selection(resource=NODES))).items
            view.replace("Node", nodes)
            try:
                async for page in self._api.pages(Selection(resource=PODS, fields=_NOT_ENDED)):
                    for pod in page.items:
                        view.apply("Pod", "ADDED", pod)
                    await asyncio.sleep(0)
            except Forbidden:
                exact = False
        return Survey(view.capacity().pools, nodes, exact)


@contextmanager
def in_words() -> Iterator[None]:
    """Turn what the API server says into errors of the backends."""
    try:
        yield
    except _LATER as error:
        raise EngineUnreachable(f"Kubernetes: {error.sentence()}") from None
    except KubeError as error:
        raise BackendError(f"Kubernetes refuses: {error.sentence()}") from None
