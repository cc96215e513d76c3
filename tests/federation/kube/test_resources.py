"""Where objects are, and which kind a manifest is of."""

import pytest

from federation.contract.errors import Invalid
from federation.kube.resources import (
    DEPLOYMENTS,
    NODES,
    PODS,
    RESOURCE_SLICES,
    RESOURCES,
    Resource,
    resource_of,
)


def test_paths() -> None:
    assert NODES.path() == "/api/v1/nodes"
    assert NODES.path("ignored", "n1") == "/api/v1/nodes/n1"
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("team", "p") == "/api/v1/namespaces/team/pods/p"
    assert DEPLOYMENTS.path("team") == "/apis/apps/v1/namespaces/team/deployments"
    assert RESOURCE_SLICES.path() == "/apis/resource.k8s.io/v1/resourceslices"


def test_names_for_people() -> None:
    assert (str(PODS), str(DEPLOYMENTS)) == ("pods", "deployments.apps")


@pytest.mark.parametrize("resource", RESOURCES, ids=str)
def test_manifests_find_their_resource(resource: Resource) -> None:
    manifest = {"apiVersion": resource.api_version, "kind": resource.kind}
    assert resource_of(manifest) is resource


def test_foreign_manifests_are_refused() -> None:
    with pytest.raises(Invalid, match=r"Secret \(v1\)"):
        resource_of({"apiVersion": "v1", "kind": "Secret"})
    with pytest.raises(Invalid):
        resource_of({})
