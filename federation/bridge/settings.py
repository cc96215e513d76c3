"""Settings of the bridge.

Input: a YAML file, FED_* variables and flags. Output: Settings, checked.
"""

import math
from dataclasses import dataclass

from federation.cli.settings import DEFAULT_ENDPOINT, check_endpoint
from federation.contract.errors import Invalid
from federation.runtime.config import setting

MIN_POLL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Brings EdgeCluster and ModelDeployment objects of Kubernetes to the control plane."""

    endpoint: str = setting(DEFAULT_ENDPOINT, help="URL of the control plane's HTTP API")
    token_file: str = setting("", help="file of a key for it: what the bridge may do, it says")
    ca_file: str = setting("", help="file of its roots; without one, those of the machine count")
    namespace: str = setting("", help="whose objects to follow; default: the pod's own namespace")
    kubeconfig: str = setting("", help="kubeconfig file; default: the pod's service account")
    kube_context: str = setting("", help="context of the kubeconfig")
    poll_s: float = setting(10.0, help="seconds between two looks at what the control plane has")
    admin_listen: str = setting("127.0.0.1:7601", help="HOST:PORT of /metrics, /healthz, /readyz")
    log_level: str = setting("info", help="debug, info, warning or error")


def check(settings: Settings) -> None:
    """Raise Invalid if the settings make no sense."""
    check_endpoint(settings.endpoint)
    if not math.isfinite(settings.poll_s) or settings.poll_s < MIN_POLL_S:
        raise Invalid(f"--poll-s must be at least {MIN_POLL_S:g} seconds.")
