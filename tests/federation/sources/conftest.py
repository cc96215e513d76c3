"""Servers that sources fetch from, and an environment that knows none of the user's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hubs import FakeModelHub, FakeRegistry, FakeS3

_PREFIXES = ("AWS_", "HF_", "MLFLOW_", "GOOGLE_", "AZURE_", "DOCKER_")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith(_PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    server = FakeS3("models")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with server:
        yield server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeModelHub]:
    server = FakeModelHub("org/model")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with server:
        yield server


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry("org/filetype") as server:
        assert isinstance(server, FakeRegistry)
        yield server
