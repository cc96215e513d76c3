"""Our custom resource definitions on the API servers under test, and custom resources to try.

Where a real server has no definitions yet, they are installed and removed again; where it has some,
these are what is tested, so that nobody's objects go with them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from federation.kube.errors import NotFound
from federation.kube.resources import EDGE_CLUSTERS, MODEL_DEPLOYMENTS, ROLLOUTS, Resource
from tests.contract.kube_servers import Server
from tests.fakes.kube_schemas import definitions

Obj = dict[str, Any]
DEFINITIONS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)


def cluster(server: Server, name: str = "one", **spec: Any) -> Obj:
    return custom(server, EDGE_CLUSTERS, name, {"region": "eu", **spec})


def deployment(server: Server, name: str = "one", **spec: Any) -> Obj:
    return custom(server, MODEL_DEPLOYMENTS, name, {"model": "m", **spec})


def rollout(server: Server, name: str = "one", **spec: Any) -> Obj:
    return custom(server, ROLLOUTS, name, {"model": "m", "version": 2, **spec})


def custom(server: Server, resource: Resource, name: str, spec: Obj) -> Obj:
    metadata = {"name": name, "namespace": server.namespace}
    found: Obj = {"apiVersion": resource.api_version, "kind": resource.kind}
    return {**found, "metadata": metadata, "spec": spec}


@asynccontextmanager
async def installed(server: Server) -> AsyncIterator[None]:
    """Have the definitions served while this lasts."""
    made = []
    try:
        for definition in definitions().values():
            name = definition["metadata"]["name"]
            try:
                await server.api.get(DEFINITIONS, "", name)
            except NotFound:
                await server.api.request("POST", DEFINITIONS.path(), body=definition)
                made.append(name)
        for resource in (EDGE_CLUSTERS, MODEL_DEPLOYMENTS, ROLLOUTS):
            await _served(server, resource)
        yield
    finally:
        for name in made:
            await server.api.delete(DEFINITIONS, "", name)


async def _served(server: Server, resource: Resource) -> None:
    """Wait until lists of a new kind work; discovery tells of it a bit earlier."""
    async with asyncio.timeout(30):
        while True:
            try:
                await server.api.request("GET", resource.path(server.namespace))
            except NotFound:
                await asyncio.sleep(0.1)
            else:
                return
