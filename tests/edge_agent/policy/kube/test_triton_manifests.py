"""What a Triton of its own is made of."""

import kubernetes_validate

from edge_agent.policy.kube.triton_manifests import (
    EXIT_S,
    GRACE_S,
    deployment,
    disruption_budget,
    service,
    triton_manifests,
)
from edge_agent.policy.kube.workloads import Placing
from tests.edge_agent.policy.kube.engines import ON_H100, SHAPE, WORKLOAD, workload


def test_each_is_valid_to_the_letter() -> None:
    for placing in (ON_H100, Placing()):
        for manifest in triton_manifests(WORKLOAD, SHAPE, placing):
            kubernetes_validate.validate(manifest, "1.36", strict=True)


def test_all_have_one_name_and_the_deployment_comes_last() -> None:
    manifests = triton_manifests(WORKLOAD, SHAPE, ON_H100)
    assert [m["kind"] for m in manifests] == ["PodDisruptionBudget", "Service", "Deployment"]
    assert {(m["metadata"]["name"], m["metadata"]["namespace"]) for m in manifests} == {
        (WORKLOAD.name, "serving")
    }


def test_a_rollout_needs_no_gpu_beyond_those_it_has() -> None:
    spec = deployment(WORKLOAD, SHAPE, ON_H100)["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert spec["replicas"] == 2
    assert spec["progressDeadlineSeconds"] == 540


def test_selectors_match_the_pods() -> None:
    made = deployment(WORKLOAD, SHAPE, ON_H100)["spec"]
    labels = made["template"]["metadata"]["labels"].items()
    budget = disruption_budget(WORKLOAD, SHAPE)["spec"]
    for wanted in (
        made["selector"]["matchLabels"],
        service(WORKLOAD, SHAPE)["spec"]["selector"],
        budget["selector"]["matchLabels"],
    ):
        assert wanted.items() <= labels
    assert budget["maxUnavailable"] == 1


def test_triton_is_told_to_serve_its_folder_and_nothing_else() -> None:
    (container,) = deployment(WORKLOAD, SHAPE, ON_H100)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == SHAPE.image
    assert {
        "--model-repository=/models",
        "--model-control-mode=none",
        "--strict-readiness=true",
    } <= set(container["args"])
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_probes_ask_what_they_should() -> None:
    (container,) = deployment(WORKLOAD, SHAPE, ON_H100)["spec"]["template"]["spec"]["containers"]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "readiness", "liveness")
    }
    assert paths == {
        "startup": "/v2/health/ready",
        "readiness": "/v2/health/ready",
        "liveness": "/v2/health/live",
    }
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600  # large models load long


def test_what_is_in_flight_may_end() -> None:
    pod = deployment(WORKLOAD, SHAPE, ON_H100)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == GRACE_S > EXIT_S


def test_grpc_is_declared_as_http2() -> None:
    ports = {port["name"]: port for port in service(WORKLOAD, SHAPE)["spec"]["ports"]}
    assert ports["grpc"]["appProtocol"] == "kubernetes.io/h2c"
    assert ports["http"]["port"] == 8000


def test_the_number_of_replicas_is_no_new_revision() -> None:
    labels = [
        deployment(w, SHAPE, ON_H100)["spec"]["template"]["metadata"]["labels"]
        for w in (WORKLOAD, workload(replicas=5), workload(folder="other"))
    ]
    assert labels[0] == labels[1] != labels[2]
