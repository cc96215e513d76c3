"""Where the API server is and who we are to it: the one place that imports the Kubernetes client.

Input: a kubeconfig file and a context, or what Kubernetes gives to every pod. Output: a client
whose credentials renew themselves. Only the part of the client below its models is used: importing
that costs 30 MB instead of 80, and answers stay plain JSON.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import ClientResponse, ClientTimeout

from federation.contract.errors import Invalid

if TYPE_CHECKING:
    from kubernetes.aio.client.api_client import ApiClient
    from kubernetes.aio.client.configuration import Configuration

POD_SECRETS = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeAccess:
    """How to reach an API server; all empty = as this pod's service account, else as kubectl."""

    kubeconfig: str = ""
    context: str = ""


def in_pod(environ: Mapping[str, str], *, secrets: Path = POD_SECRETS) -> bool:
    """Whether this process runs in a pod that has a service account."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) and (secrets / "token").is_file()


def pod_namespace(*, secrets: Path = POD_SECRETS) -> str:
    """Return the namespace of this pod, "default" outside of pods."""
    try:
        return (secrets / "namespace").read_text(encoding="utf-8").strip() or "default"
    except OSError:
        return "default"


class KubeClient:
    """The Kubernetes client's connections and credentials; requests and answers are raw."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @property
    def host(self) -> str:
        """Return the URL of the API server."""
        return str(self._client.configuration.host)

    async def authorize(self, headers: dict[str, str]) -> None:
        """Add our credentials of now to a request's headers; raises Invalid if there are none."""
        from kubernetes.aio.config.config_exception import ConfigException

        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], "", "", None)
        except (OSError, ValueError, ConfigException) as error:
            raise Invalid(f"the credentials for Kubernetes cannot be read: {error}.") from None

    async def send(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: object,
        limits: ClientTimeout,
    ) -> ClientResponse:
        """Make a request and return its answer, whose body is still to be read."""
        answer = await self._client.call_api(
            method, self.host + target, headers, body, _request_timeout=limits
        )
        response: ClientResponse = answer.response
        return response

    async def close(self) -> None:
        """End all connections."""
        await self._client.rest_client.close()


async def connect(
    access: KubeAccess,
    *,
    environ: Mapping[str, str] | None = None,
    secrets: Path = POD_SECRETS,
) -> KubeClient:
    """Return a client; raises Invalid if the configuration is unusable. Makes no request, but may
    run the kubeconfig's credential plugin."""
    try:
        from kubernetes.aio.client.api_client import ApiClient
        from kubernetes.aio.client.configuration import Configuration
    except ImportError:
        hint = "Install it: pip install 'inference-federation[edge-agent]'."
        raise Invalid("the package kubernetes is not installed.", hint=hint) from None
    environ = os.environ if environ is None else environ
    configuration = Configuration()
    try:
        if not (access.kubeconfig or access.context) and in_pod(environ, secrets=secrets):
            _load_pod(configuration, environ, secrets)
        else:
            await _load_file(configuration, access, environ)
        configuration.retries = None  # when to try again is decided elsewhere
        return KubeClient(ApiClient(configuration))
    except (OSError, ssl.SSLError, yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise Invalid(f"cannot use the access to Kubernetes: {error}.") from None


def _load_pod(configuration: Configuration, environ: Mapping[str, str], secrets: Path) -> None:
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.incluster_config import InClusterConfigLoader

    loader: Any = InClusterConfigLoader(  # type: ignore[no-untyped-call]
        token_filename=str(secrets / "token"),
        cert_filename=str(secrets / "ca.crt"),
        environ=environ,
    )
    try:
        loader.load_and_set(configuration)
    except ConfigException as error:
        raise Invalid(f"this pod's service account cannot be used: {error}.") from None


async def _load_file(
    configuration: Configuration, access: KubeAccess, environ: Mapping[str, str]
) -> None:
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.kube_config import load_kube_config

    path = access.kubeconfig or environ.get("KUBECONFIG") or "~/.kube/config"
    load: Any = load_kube_config
    try:
        await load(
            config_file=path,
            context=access.context or None,
            client_configuration=configuration,
            persist_config=False,
        )
    except ConfigException as error:
        hint = "Give --kubeconfig and --kube-context."
        raise Invalid(f"cannot use the kubeconfig {path}: {error}.", hint=hint) from None
