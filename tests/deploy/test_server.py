"""All manifests of `deploy/` through the dry run of an API server, with strict validation.

The fake knows few of the kinds; a real one (FEDERATION_TEST_KUBECONFIG, marker `cluster`) knows all
but those of the Prometheus operator, unless it has that too.
"""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from federation.kube.api import APPLY
from federation.kube.errors import Forbidden
from federation.kube.resources import NAMESPACES, PODS, Resource
from tests.contract.kube_definitions import DEFINITIONS
from tests.contract.kube_servers import SERVERS, Server, kube_server
from tests.deploy.files import CLUSTER_WIDE, NAMESPACE, Obj, manifests, pod_specs

DRY = {"dryRun": "All", "fieldValidation": "Strict"}
MERGE = "application/merge-patch+json"
KINDS = (
    *("Namespace", "ServiceAccount", "ConfigMap", "Service", "StatefulSet", "NetworkPolicy"),
    *("PodDisruptionBudget", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    *("PersistentVolumeClaim", "ServiceMonitor", "PrometheusRule"),
    *("Deployment", "CustomResourceDefinition"),
)


@pytest.fixture(params=[pytest.param(name, marks=SERVERS[name][1]) for name in SERVERS])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    async with kube_server(request.param, tmp_path) as found:
        yield found


def resource(obj: Obj) -> Resource:
    """Where objects of this kind are."""
    group, _, version = obj["apiVersion"].rpartition("/")
    kind = obj["kind"]
    lower = kind.lower()
    plural = f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}s"
    return Resource(group, version, plural, kind, namespaced=kind not in CLUSTER_WIDE)


def moved(obj: Obj, namespace: str) -> Obj:
    """The same object in a namespace of the test's own."""
    made = copy.deepcopy(obj)
    if made["metadata"].get("namespace") == NAMESPACE:
        made["metadata"]["namespace"] = namespace
    if made["kind"] == "Namespace":
        made["metadata"]["name"] = f"{namespace}-dry"
    return made


def pod(template: Obj, claims: list[Obj], namespace: str) -> Obj:
    """The pod that a workload makes, with volumes and an account that need nothing else."""
    made: Obj = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(template)}
    made["metadata"] |= {"name": "dry", "namespace": namespace}
    made["spec"]["serviceAccountName"] = "default"
    made["spec"]["volumes"] += [{"name": c["metadata"]["name"], "emptyDir": {}} for c in claims]
    return made


async def dry_run(server: Server, obj: Obj) -> bool:
    """Create it without effect; raises KubeError if it is refused. False: unknown kind."""
    where = resource(obj)
    if not await server.api.serves(where):
        return False
    if where == DEFINITIONS:  # they may be installed
        path = where.path("", obj["metadata"]["name"])
        query = {**DRY, "fieldManager": "test", "force": "true"}
        answer = await server.api.request("PATCH", path, query=query, body=obj, content_type=APPLY)
    else:
        path = where.path(server.namespace)
        answer = await server.api.request("POST", path, query=DRY, body=obj)
    assert answer["metadata"]["name"] == obj["metadata"]["name"]
    return True


async def dry_pod(server: Server, made: Obj) -> None:
    """The same for a pod; a new namespace of a real cluster has its account a bit later."""
    async with asyncio.timeout(20):
        while True:
            try:
                await server.api.request("POST", PODS.path(server.namespace), query=DRY, body=made)
            except Forbidden as error:
                if "serviceaccount" not in error.message:
                    raise
                await asyncio.sleep(0.1)
            else:
                return


@pytest.mark.timeout(120)
async def test_every_manifest_passes_the_dry_run(server: Server) -> None:
    tried = set()
    for manifest in manifests():
        if await dry_run(server, moved(manifest.obj, server.namespace)):
            tried.add(manifest.obj["kind"])
    assert {"Namespace", "Service", "PodDisruptionBudget"} <= tried


@pytest.mark.timeout(120)
async def test_every_pod_may_run_where_pods_are_restricted(server: Server) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    await server.api.request(
        "PATCH",
        NAMESPACES.path("", server.namespace),
        body={"metadata": {"labels": labels}},
        content_type=MERGE,
    )
    count = 0
    for manifest, template in pod_specs(manifests()):
        made = pod(template, manifest.obj["spec"].get("volumeClaimTemplates", []), server.namespace)
        await dry_pod(server, made)
        count += 1
    assert count >= 10


def test_every_kind_is_found_where_it_is() -> None:
    found = {m.obj["kind"]: resource(m.obj) for m in manifests()}
    assert set(found) == set(KINDS)
    assert found["NetworkPolicy"].path("n") == (
        "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies"
    )
    assert found["Namespace"].path("n") == "/api/v1/namespaces"
    assert found["ClusterRole"].path("n") == "/apis/rbac.authorization.k8s.io/v1/clusterroles"
