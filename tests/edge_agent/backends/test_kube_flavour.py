"""Hosts become URLs; the agent waits longer than Kubernetes does."""

import pytest

from edge_agent.backends.kube_flavour import Pace, by_address
from edge_agent.policy.kube.triton_manifests import GRACE_S
from edge_agent.policy.kube.workloads import PROGRESS_S
from edge_agent.worker import Deadlines


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("m-x.serving.svc", "http://m-x.serving.svc:8000"),
        ("10.0.0.1", "http://10.0.0.1:8000"),
        ("fd00::1", "http://[fd00::1]:8000"),
    ],
)
def test_urls(host: str, url: str) -> None:
    assert by_address(host, 8000) == url


def test_kubernetes_gives_up_before_the_backend_and_that_before_the_worker() -> None:
    """So that the reason is the one of whoever knows best."""
    pace, worker = Pace(), Deadlines()
    assert PROGRESS_S < pace.load_s < worker.load_s
    assert GRACE_S < pace.unload_s < worker.unload_s
