"""What `deploy/` holds, as objects: all manifests, rendered as their users render them.

`manifests()` is for whoever has an API server to try them on: each object with where it came from.
Kustomize is kubectl's; the chart is rendered by Helm's own library, in a process of its own.
"""

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "inference-federation"
ROLES = ("control-plane", "router", "edge-agent")
IMAGES = (*ROLES, "bridge")
NAMESPACE = "inference-federation"
Obj = dict[str, Any]

# What people may give to the chart: the fewest values, all that is optional, and other ways.
VALUES: dict[str, Mapping[str, Any]] = {
    "default": {},
    "everything": {
        "router": {"replicas": 3, "workers": 2},
        "edgeAgent": {
            "enabled": True,
            "cluster": "eu-west",
            "connectivity": "dial",
            "advertiseUrl": "https://gpu.example.com:7500",
            "rbac": {"engines": True},
            "modelsClaim": "models",
            "settings": {
                "FED_ENGINE": "triton-kubernetes",
                "FED_KUBE_ENGINE_IMAGE": "nvcr.io/nvidia/tritonserver:25.09-py3",
                "FED_KUBE_MODELS_CLAIM": "models",
            },
            "nodeSelector": {"disk": "fast"},
        },
        "bridge": {"enabled": True},
        "monitoring": {"serviceMonitors": True},
        "image": {"registry": "registry.example.com", "pullSecrets": ["registry"]},
        "controlPlane": {"hosts": ["fed.example.com"], "settings": {"FED_LEASE_SECONDS": 20}},
    },
    "agent alone": {
        "controlPlane": {"enabled": False},
        "router": {"enabled": False},
        "edgeAgent": {"enabled": True, "cluster": "a", "rbac": {"pods": False}},
        "controlPlaneHost": "fed.example.com",
    },
    "bridge alone": {
        "controlPlane": {"enabled": False},
        "router": {"enabled": False},
        "bridge": {"enabled": True, "crds": False, "accessSecret": "team-a"},
        "controlPlaneHost": "fed.example.com",
    },
    "behind a load balancer": {"router": {"insecureListen": True}, "networkPolicies": False},
}
_RENDER = """
import json, sys
import helm_python as helm
given, answers = json.load(sys.stdin), []
with helm.Chart.load(given["chart"]) as chart:
    for values in given["values"]:
        try:
            chart.validate_schema(values)
            files = chart.render(values, name="demo", namespace="inference-federation")
        except helm.HelmError as error:
            answers.append({"error": str(error)})
        else:
            answers.append({"files": files})
print(json.dumps({"answers": answers, "lint": helm.lint(given["chart"])["errors"]}))
"""


@dataclass(frozen=True)
class Manifest:
    """One object, and where it came from."""

    source: str
    obj: Obj

    def __str__(self) -> str:
        return f"{self.source}: {self.obj['kind']}/{self.obj['metadata']['name']}"


def without(what: str) -> NoReturn:
    """Skip the test that needs it: `make setup` cannot install it everywhere."""
    pytest.skip(f"needs {what}")


def kustomizations() -> list[str]:
    """Return the folders that can be applied (components are not: they belong to others)."""
    return [
        path.parent.relative_to(DEPLOY).as_posix()
        for path in sorted(DEPLOY.rglob("kustomization.yaml"))
        if yaml.safe_load(path.read_text(encoding="utf-8"))["kind"] == "Kustomization"
    ]


@functools.cache
def kustomized(folder: str) -> tuple[Manifest, ...]:
    """Return what `kubectl apply -k` would send."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        without("kubectl, for its Kustomize")
    done = subprocess.run(
        [kubectl, "kustomize", str(DEPLOY / folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(_objects(folder, done.stdout))


def helm(*values: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"answers": one for each values, "lint": errors of the chart}.

    An answer is {"files": {path: text}} or {"error": sentence}.
    """
    if importlib.util.find_spec("helm_python") is None:
        without("helm-python-sdk, which has wheels for Linux on x86-64 alone")
    done = subprocess.run(
        [sys.executable, "-c", _RENDER],
        input=json.dumps({"chart": str(CHART), "values": values}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def template(answer: Mapping[str, Any], name: str) -> str:
    """Return the text of one template of an answer."""
    return str(answer["files"][f"{CHART.name}/templates/{name}"])


@functools.cache
def _charts() -> dict[str, dict[str, Any]]:
    return dict(zip(VALUES, helm(*VALUES.values())["answers"], strict=True))


def notes(name: str) -> str:
    """Return what Helm prints after an installation with VALUES[name]."""
    return template(_charts()[name], "NOTES.txt")


@functools.cache
def charted(name: str) -> tuple[Manifest, ...]:
    """Return what `helm install` would send, with VALUES[name]."""
    answer = _charts()[name]
    assert "error" not in answer, answer
    texts = {path: text for path, text in answer["files"].items() if path.endswith(".yaml")}
    found = [m for _, text in sorted(texts.items()) for m in _objects(f"helm ({name})", text)]
    for manifest in found:
        if manifest.obj["kind"] not in CLUSTER_WIDE:  # as `helm install -n` does
            manifest.obj["metadata"].setdefault("namespace", NAMESPACE)
    return tuple(found)


CLUSTER_WIDE = ("Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")


def sets() -> dict[str, tuple[Manifest, ...]]:
    """Return all that may be applied together, by name."""
    found = {folder: kustomized(folder) for folder in kustomizations()}
    return found | {f"helm ({name})": charted(name) for name in VALUES}


def manifests() -> list[Manifest]:
    """Return every manifest of `deploy/`; an object may come from several sources."""
    return [manifest for each in sets().values() for manifest in each]


def pod_specs(which: tuple[Manifest, ...] | list[Manifest]) -> Iterator[tuple[Manifest, Obj]]:
    """Yield the workloads with the pods that they make."""
    for manifest in which:
        template = (manifest.obj.get("spec") or {}).get("template")
        if template:
            yield manifest, template


def _objects(source: str, text: str) -> Iterator[Manifest]:
    for document in yaml.safe_load_all(text):
        if document:
            yield Manifest(source, document)
