"""Which backend drives the engine that the settings name.

Input: settings. Output: a Backend. Each backend's client is imported only where it is used.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.backends.base import Backend
from edge_agent.backends.engine_queues import QueueSource, RayQueues, TritonQueues
from edge_agent.settings import Settings, engine_grpc, read_secret, tolerations, triton_repository

if TYPE_CHECKING:
    from edge_agent.backends.kube_flavour import Flavour

log = logging.getLogger(__name__)


def make_backend(settings: Settings, state_dir: Path) -> Backend:
    """Return the backend of the engine that the settings name; raises Invalid."""
    match settings.engine:
        case "triton":
            from edge_agent.backends.triton import TritonBackend

            return TritonBackend(
                settings.engine_url,
                _repository(settings, state_dir),
                grpc_address=engine_grpc(settings),
            )
        case "ray-serve":
            from edge_agent.backends.ray_serve import RayServeBackend

            return RayServeBackend(
                settings.ray_dashboard_url,
                settings.engine_url,
                state_dir / "ray-archives",
                token=read_secret(settings.ray_token_file, "ray-token-file"),
            )
        case "static":
            from edge_agent.backends.static import StaticBackend

            token = read_secret(settings.engine_token_file, "engine-token-file")
            return StaticBackend(settings.engine_url, token=token)
        case "triton-kubernetes":
            from edge_agent.backends.triton_kubernetes import TritonFlavour

            return _on_kubernetes(settings, TritonFlavour())
        case "kuberay":
            from edge_agent.backends.kuberay import RayFlavour

            return _on_kubernetes(settings, RayFlavour())


def queue_source(settings: Settings) -> QueueSource | None:
    """Return where the engine tells how many requests wait inside it; None if nowhere."""
    if settings.engine == "triton" and settings.triton_metrics_url:
        return TritonQueues(settings.triton_metrics_url)
    if settings.engine == "ray-serve":
        token = read_secret(settings.ray_token_file, "ray-token-file")
        return RayQueues(settings.ray_dashboard_url, token=token)
    return None


def _on_kubernetes(settings: Settings, flavour: "Flavour") -> Backend:
    from edge_agent.backends.kube_backend import KubeBackend
    from edge_agent.backends.kube_objects import KubeObjects
    from edge_agent.policy.kube.workloads import EngineShape
    from federation.kube.access import KubeAccess, pod_namespace
    from federation.kube.api import KubeApi

    namespace = settings.kube_namespace or pod_namespace()
    shape = EngineShape(
        namespace=namespace,
        cluster=settings.cluster,
        image=settings.kube_engine_image,
        claim=settings.kube_models_claim,
        path=settings.kube_models_path.strip("/"),
        cpu=settings.kube_engine_cpu,
        memory=settings.kube_engine_memory,
        tolerations=tolerations(settings),
    )
    objects = KubeObjects(
        KubeApi(KubeAccess(kubeconfig=settings.kubeconfig, context=settings.kube_context)),
        namespace=namespace,
        cluster=settings.cluster,
        tolerations=shape.tolerations,
    )
    return KubeBackend(objects, flavour, shape, Path(settings.kube_models_dir))


def _repository(settings: Settings, state_dir: Path) -> Path:
    path = triton_repository(settings, state_dir)
    if not settings.triton_repository:
        path.mkdir(parents=True, exist_ok=True)
        log.info(
            "Triton must read %s: start it with --model-repository=%s "
            "--model-control-mode=explicit --strict-readiness=false, or give --triton-repository",
            path,
            path,
        )
    return path
