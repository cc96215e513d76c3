"""Each engine that settings can name has its backend."""

from pathlib import Path
from typing import Any

import pytest

from edge_agent.backends.base import Verb
from edge_agent.backends.static import StaticBackend
from edge_agent.engines import make_backend
from edge_agent.settings import Settings, check
from federation.contract.errors import Invalid
from federation.contract.types import EngineKind, ModelProtocol


def settings_for(folder: Path, **more: Any) -> Settings:
    return Settings(cluster="eu", state_dir=str(folder / "agent"), **more)


def test_each_engine_has_its_backend(tmp_path: Path) -> None:
    backend = make_backend(settings_for(tmp_path, engine="static"), tmp_path)
    assert isinstance(backend, StaticBackend)
    for kind in ("triton", "ray-serve"):
        settings = settings_for(tmp_path, engine=kind, triton_repository=str(tmp_path))
        assert make_backend(settings, tmp_path).kind.value == kind


@pytest.mark.parametrize(
    ("engine", "kind"),
    [("triton-kubernetes", EngineKind.TRITON), ("kuberay", EngineKind.RAY_SERVE)],
)
async def test_engines_on_kubernetes(tmp_path: Path, engine: str, kind: EngineKind) -> None:
    settings = settings_for(
        tmp_path,
        engine=engine,
        kube_namespace="serving",
        kube_engine_image="example.com/engine:1.2",
        kube_models_claim="models",
        kube_models_dir=str(tmp_path),
    )
    check(settings)
    backend = make_backend(settings, tmp_path)
    assert backend.kind is kind
    route = backend.route("m", 1, Verb.READY, ModelProtocol.TENSOR)
    assert route is not None
    assert ".serving.svc:8000/" in route.url
    await backend.close()


def test_a_token_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="ray-token-file"):
        make_backend(settings_for(tmp_path, engine="ray-serve", ray_token_file="/no"), tmp_path)


def test_tritons_default_repository_is_made_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    make_backend(settings_for(tmp_path, engine="triton"), tmp_path)
    assert "--model-repository=" in caplog.text
