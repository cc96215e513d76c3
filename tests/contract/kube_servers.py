"""The API servers over which tests/contract/test_kube_api.py runs.

The fake always; a real one where FEDERATION_TEST_KUBECONFIG names a kubeconfig file whose user may
do everything (`kind get kubeconfig > FILE`). On it the tests make a namespace of their own for each
test and remove it, and ask by discovery which kinds there are.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from federation.kube.access import KubeAccess
from federation.kube.api import KubeApi
from federation.kube.errors import Forbidden
from federation.kube.resources import NAMESPACES, Resource
from tests.fakes.kube_api import fake_kube_api

REAL = os.environ.get("FEDERATION_TEST_KUBECONFIG", "")
Obj = dict[str, Any]


@dataclass
class Server:
    """One API server under test, with a namespace of this test's own."""

    api: KubeApi
    namespace: str = field(default_factory=lambda: f"federation-test-{uuid.uuid4().hex[:10]}")

    async def needs(self, *resources: Resource) -> None:
        """Skip the test where the server lacks a kind of objects."""
        for resource in resources:
            if not await self.api.serves(resource):
                pytest.skip(f"this API server has no {resource}")

    async def create_pod(self, manifest: Obj) -> Obj:
        """Create a pod; a new namespace of a real cluster has its service account a bit later."""
        async with asyncio.timeout(20):
            while True:
                try:
                    return await self.api.create(manifest)
                except Forbidden as error:
                    if "serviceaccount" not in error.message:
                        raise
                    await asyncio.sleep(0.1)


@asynccontextmanager
async def _fake(folder: Path) -> AsyncIterator[KubeAccess]:
    async with fake_kube_api() as fake:
        yield KubeAccess(kubeconfig=str(fake.kubeconfig(folder)))


@asynccontextmanager
async def _real(folder: Path) -> AsyncIterator[KubeAccess]:
    yield KubeAccess(kubeconfig=REAL)


Opens = Callable[[Path], Any]
SERVERS: dict[str, tuple[Opens, tuple[pytest.MarkDecorator, ...]]] = {"fake": (_fake, ())}
if REAL:
    SERVERS["cluster"] = (_real, (pytest.mark.cluster,))


@asynccontextmanager
async def kube_server(name: str, folder: Path) -> AsyncIterator[Server]:
    """Open one of SERVERS, with a namespace that is removed afterwards."""
    async with SERVERS[name][0](folder) as access:
        server = Server(KubeApi(access))
        metadata = {"name": server.namespace, "labels": {"federation.inference/test": "true"}}
        try:
            await server.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
            yield server
        finally:
            await server.api.delete(NAMESPACES, "", server.namespace)
            await server.api.close()
