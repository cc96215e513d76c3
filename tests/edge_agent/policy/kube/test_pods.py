from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.policy.kube.pods import PodUse, effective_requests, pod_use
from tests.edge_agent.policy.kube.scheduler_model import most_at_a_time

GPU = "nvidia.com/gpu"
OURS = {"app": "ours"}


def _asks(n: int, **more: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": "1", GPU: str(n)}}, **more}


def _pod(*, node: str = "n1", phase: str = "Running", n: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "ml", "name": "p", "labels": {"app": "ours"}},
        "spec": {"nodeName": node, "containers": [_asks(n)], **spec},
        "status": {"phase": phase},
    }


def test_a_bound_pod_holds_what_it_asked_for() -> None:
    assert pod_use(_pod(n=2), OURS) == PodUse(node="n1", requests=((GPU, 2),), ours=True)
    assert pod_use(_pod(n=2), {"app": "theirs"}) == PodUse(node="n1", requests=((GPU, 2),))


def test_a_pod_without_devices_is_of_no_concern() -> None:
    assert pod_use(_pod(n=0), OURS) is None
    assert pod_use({}, OURS) is None


def test_no_marks_mark_nothing_in_particular() -> None:
    found = pod_use(_pod(), {})
    assert found is not None
    assert found.ours


def test_names_of_claims_come_from_three_places() -> None:
    pod = _pod(
        n=0,
        resourceClaims=[
            {"name": "a", "resourceClaimName": "given"},
            {"name": "b", "resourceClaimTemplateName": "template"},
        ],
    )
    pod["status"] |= {
        "resourceClaimStatuses": [{"name": "b", "resourceClaimName": "made"}],
        "extendedResourceClaimStatus": {"resourceClaimName": "special", "requestMappings": []},
    }
    found = pod_use(pod, OURS)
    assert found is not None
    assert found.claims == ("given", "made", "special")


def test_what_a_claim_serves_is_not_taken_from_the_node() -> None:
    pod = _pod(n=2)
    pod["status"]["extendedResourceClaimStatus"] = {
        "resourceClaimName": "special",
        "requestMappings": [{"containerName": "c", "resourceName": GPU, "requestName": "r"}],
    }
    assert pod_use(pod, OURS) == PodUse(node="n1", claims=("special",), ours=True)


containers = st.builds(
    lambda n, always: _asks(n, restartPolicy="Always") if always else _asks(n),
    st.integers(0, 5),
    st.booleans(),
)


@given(st.lists(containers, max_size=5), st.lists(st.integers(0, 5), max_size=3))
def test_requests_are_the_most_that_ever_run_together(
    first: list[dict[str, Any]], then: list[int]
) -> None:
    spec = {"initContainers": first, "containers": [_asks(n) for n in then]}
    assert effective_requests(spec).get(GPU, 0) == most_at_a_time(spec, GPU)
