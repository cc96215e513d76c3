"""Which backend drives the engine that the settings name.

Input: settings. Output: a Backend. Each backend's client is imported only where it is used.
"""

import logging
from pathlib import Path

from edge_agent.backends.base import Backend
from edge_agent.settings import Settings, read_secret, triton_repository

log = logging.getLogger(__name__)


def make_backend(settings: Settings, state_dir: Path) -> Backend:
    """Return the backend of the engine that the settings name; raises Invalid."""
    match settings.engine:
        case "triton":
            from edge_agent.backends.triton import TritonBackend

            return TritonBackend(settings.engine_url, _repository(settings, state_dir))
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
