"""Where the API server is: files, contexts, pods; and that who needs none pays nothing."""

import datetime
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from federation.contract.errors import Invalid
from federation.kube.access import KubeAccess, KubeClient, connect, in_pod, pod_namespace
from tests.pki import make_authority

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def write_config(folder: Path, **user: str) -> Path:
    """A kubeconfig with the contexts `first` (current) and `second`."""
    clusters = [
        {"name": name, "cluster": {"server": f"http://{name}.example:6443"}}
        for name in ("first", "second")
    ]
    contexts = [
        {"name": name, "context": {"cluster": name, "user": "me"}} for name in ("first", "second")
    ]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "first",
        "clusters": clusters,
        "contexts": contexts,
        "users": [{"name": "me", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What Kubernetes mounts into pods."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    authority = make_authority(tmp_path)
    (folder / "ca.crt").write_text(authority.roots[authority.signing].pem)
    (folder / "token").write_text("token-of-the-pod-1")
    (folder / "namespace").write_text("inference\n")
    return folder


@asynccontextmanager
async def connected(
    access: KubeAccess, environ: Mapping[str, str], secrets: Path
) -> AsyncIterator[KubeClient]:
    client = await connect(access, environ=environ, secrets=secrets)
    try:
        yield client
    finally:
        await client.close()


async def authorization(client: KubeClient) -> str:
    headers: dict[str, str] = {}
    await client.authorize(headers)
    return headers.get("authorization", "")


async def test_the_current_context_of_a_file_and_another_one(tmp_path: Path) -> None:
    path = write_config(tmp_path, token="a-token")
    nowhere = tmp_path / "none"
    async with connected(KubeAccess(kubeconfig=str(path)), {}, nowhere) as client:
        assert client.host == "http://first.example:6443"
        assert await authorization(client) == "Bearer a-token"
    access = KubeAccess(kubeconfig=str(path), context="second")
    async with connected(access, {}, nowhere) as client:
        assert client.host == "http://second.example:6443"


async def test_without_settings_it_is_as_kubectl_does(tmp_path: Path) -> None:
    environ = {"KUBECONFIG": str(write_config(tmp_path))}
    async with connected(KubeAccess(), environ, tmp_path / "none") as client:
        assert client.host == "http://first.example:6443"
        assert await authorization(client) == ""


async def test_in_a_pod_the_service_account_counts_and_its_token_is_read_again(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_pod(POD, secrets=secrets)
    assert pod_namespace(secrets=secrets) == "inference"
    async with connected(KubeAccess(), POD, secrets) as client:
        assert client.host == "https://10.0.0.1:443"
        assert (await authorization(client)).lower() == "bearer token-of-the-pod-1"
        (secrets / "token").write_text("token-of-the-pod-2")
        from kubernetes.aio.config import incluster_config

        later = datetime.datetime.now() + datetime.timedelta(minutes=2)  # noqa: DTZ005  # as the client does
        clock = SimpleNamespace(datetime=SimpleNamespace(now=lambda: later))
        clock.timedelta = datetime.timedelta
        monkeypatch.setattr(incluster_config, "datetime", clock)
        assert (await authorization(client)).lower() == "bearer token-of-the-pod-2"
        later += datetime.timedelta(minutes=2)
        (secrets / "token").unlink()
        with pytest.raises(Invalid, match="credentials"):
            await authorization(client)


async def test_a_file_that_is_named_counts_in_a_pod_too(tmp_path: Path, secrets: Path) -> None:
    access = KubeAccess(kubeconfig=str(write_config(tmp_path)))
    async with connected(access, POD, secrets) as client:
        assert client.host == "http://first.example:6443"


def test_outside_of_pods(tmp_path: Path, secrets: Path) -> None:
    assert not in_pod({}, secrets=secrets)
    assert not in_pod(POD, secrets=tmp_path / "none")
    assert pod_namespace(secrets=tmp_path / "none") == "default"


@pytest.mark.parametrize(
    ("content", "context"),
    [
        (None, ""),
        ("", ""),
        ("{{{", ""),
        ("- a list", ""),
        ("kind: Config", ""),
        ("good", "no-such-context"),
    ],
)
async def test_files_that_cannot_be_used(tmp_path: Path, content: str | None, context: str) -> None:
    path = tmp_path / "none"
    if content == "good":
        path = write_config(tmp_path)
    elif content is not None:
        path.write_text(content)
    access = KubeAccess(kubeconfig=str(path), context=context)
    with pytest.raises(Invalid):
        await connect(access, environ={}, secrets=tmp_path)


async def test_a_pod_with_half_of_its_service_account(secrets: Path) -> None:
    (secrets / "ca.crt").unlink()
    with pytest.raises(Invalid, match="service account"):
        await connect(KubeAccess(), environ=POD, secrets=secrets)


def test_the_client_is_imported_only_to_connect() -> None:
    code = (
        "import sys, edge_agent.inventories;"
        "sys.exit(any(name.split('.')[0] == 'kubernetes' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
