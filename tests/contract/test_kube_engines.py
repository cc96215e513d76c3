"""What the agent applies for its engines, as API servers take it: the fake and real ones.

A real one takes part where FEDERATION_TEST_KUBECONFIG names it: see tests/contract/kube_servers.py.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.backends.kube_objects import KubeObjects
from edge_agent.policy.kube.ray_manifests import needs_second_cluster, ray_service
from edge_agent.policy.kube.triton_manifests import triton_manifests
from edge_agent.policy.kube.workloads import told_placing, told_version
from federation.kube.resources import DEPLOYMENTS, RAY_SERVICES
from tests.contract.kube_servers import SERVERS, Server, kube_server
from tests.edge_agent.policy.kube.engines import ON_H100, SHAPE, WORKLOAD, workload

APPLICATION = {"name": "app", "import_path": "a:b", "route_prefix": "/app"}


@pytest.fixture(params=[pytest.param(name, marks=SERVERS[name][1]) for name in SERVERS])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Server]:
    async with kube_server(request.param, tmp_path) as found:
        yield found


def objects_of(server: Server) -> KubeObjects:
    return KubeObjects(server.api, namespace=server.namespace, cluster=SHAPE.cluster)


async def test_triton_is_taken_and_taking_it_again_changes_nothing(server: Server) -> None:
    shape, objects = replace(SHAPE, namespace=server.namespace), objects_of(server)
    for manifest in triton_manifests(WORKLOAD, shape, ON_H100):
        if manifest["kind"] == "Deployment":  # no pods: nodes of a real cluster are not ours
            manifest["spec"]["replicas"] = 0
        for _ in range(2):
            await objects.put(manifest)
    (deployment,) = await objects.ours(DEPLOYMENTS)
    assert deployment["metadata"]["generation"] == 1
    assert told_version(deployment) == ("Llama_3.1", 7, "ab" * 32, "text")
    assert told_placing(deployment, WORKLOAD) == ON_H100


async def test_a_ray_service_is_taken_and_replicas_are_no_new_cluster(server: Server) -> None:
    await server.needs(RAY_SERVICES)
    shape, objects = replace(SHAPE, namespace=server.namespace), objects_of(server)
    for replicas in (1, 1, 2):
        wanted = ray_service(workload(replicas=replicas), shape, ON_H100, APPLICATION)
        await objects.put(wanted)
        (there,) = await objects.ours(RAY_SERVICES)
        assert there["metadata"]["generation"] == replicas
        assert not needs_second_cluster(there, wanted)


async def test_pods_are_let_into_a_restricted_namespace(server: Server) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    about = {"name": server.namespace, "labels": label}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": about}
    await server.api.apply(namespace, manager="test")
    shape = replace(SHAPE, namespace=server.namespace)
    triton = triton_manifests(WORKLOAD, shape, ON_H100)[-1]["spec"]["template"]
    cluster = ray_service(WORKLOAD, shape, ON_H100, APPLICATION)["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]
    worker = cluster["workerGroupSpecs"][0]["template"]
    for number, template in enumerate((triton, head, worker)):
        named = {"name": f"p{number}", "namespace": server.namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": template["spec"]}
        await server.create_pod(pod)
