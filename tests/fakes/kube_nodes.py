"""A kubelet, a Deployment controller and a KubeRay operator for the fake API server, all in one.

Where a Deployment or a RayService appears, it starts a FakeEngine on 127.0.0.1, makes pods and
writes the status as the real ones do. It looks into the volume that the pods mount: what is not
there does not run, and a package with "on purpose" in its code ends as a broken one would.
"""

import asyncio
import contextlib
import copy
import itertools
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge_agent.backends.base import LoadedVersion
from edge_agent.backends.fake import FakeEngine
from edge_agent.policy.kube.workloads import told_version
from federation.contract.types import ModelProtocol
from tests.fakes.kube_api import FakeKubeApi

Obj = dict[str, Any]
NOWHERE = "http://127.0.0.1:9"  # nobody listens on the port "discard"
BROKEN = "on purpose"
# The end of what Triton 2.51 wrote with the arguments of our manifest, where a model did not load.
TRITON_LOG = """\
E1123 05:52:52.779557 842 backend_model.cc:692] "ERROR: Failed to create instance: {words}\\n\\nAt:"
E1123 05:52:52.779661 842 model_lifecycle.cc:642] "failed to load '{model}' version 1: \
Internal: {words}\\n\\nAt:\\n  /models/{model}/1/package/model.py(1): <module>\\n"
Error: Failed to initialize NVML
W1123 05:52:52.780609 842 metrics.cc:798] "DCGM unable to start: DCGM initialization error"
error: creating server: Internal - failed to load all models
"""
KINDS = ("Deployment", "RayService")


class FakeNodes:
    """What happens to workloads. `volume` is the root of the only PersistentVolume.

    `troubles` maps a model to what its pods meet: "ImagePullBackOff", "Unschedulable", "quota",
    "deadline", "stuck", or a DEPLOY_FAILED message. `free` limits the replicas that find a node.
    """

    def __init__(self, api: FakeKubeApi, volume: Path, claim: str = "models") -> None:
        self.api = api
        self.volume = volume
        self.claim = claim
        self.troubles: dict[str, str] = {}
        self.engines: dict[str, FakeEngine] = {}  # by workload
        self._done: dict[str, Obj] = {}  # the spec that a workload was last seen with
        self._addresses: dict[str, str] = {}  # of pods, to the workload
        self._numbers = itertools.count(1)
        self.rollouts: list[str] = []

    def reach(self, host: str, port: int) -> str:
        """Where a host of the cluster's network really is."""
        name = self._addresses.get(host) or self._behind(host)
        engine = self.engines.get(name)
        return engine.url if engine is not None and engine.running and port == 8000 else NOWHERE

    def _behind(self, host: str) -> str:
        """The workload that a Service leads to: by its selector, as in a real cluster."""
        name, _, rest = host.partition(".")
        services = self.all("Service")
        found = [s for s in services if s["metadata"]["name"] == name]
        if not found or rest != f"{found[0]['metadata']['namespace']}.svc":
            return ""
        wanted = found[0]["spec"]["selector"].items()
        pods = [p for p in self.all("Pod") if wanted <= p["metadata"]["labels"].items()]
        return str(self._addresses[pods[0]["status"]["podIP"]]) if pods else ""

    def all(self, kind: str) -> list[Obj]:
        return self.api.objects.select(self.api.kind(kind), "", lambda _: True)

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        changed = asyncio.Event()
        self.api.objects.waiting.add(changed)
        try:
            while True:
                changed.clear()
                await self._settle()
                await changed.wait()
        finally:
            self.api.objects.waiting.discard(changed)

    async def _settle(self) -> None:
        found = {obj["metadata"]["name"]: obj for kind in KINDS for obj in self.all(kind)}
        for name in [name for name in self._done if name not in found]:
            await self._end(name)
        for name, obj in found.items():
            if self._done.get(name) != obj["spec"]:
                self._done[name] = copy.deepcopy(obj["spec"])
                await self._roll_out(name, copy.deepcopy(obj))

    async def _end(self, name: str) -> None:
        del self._done[name]
        if engine := self.engines.pop(name, None):
            await engine.stop()
        self._remove_pods(name)
        with contextlib.suppress(Exception):
            self.api.remove("Service", f"{name}-serve-svc", "serving")

    def _remove_pods(self, name: str) -> None:
        for pod in self.all("Pod"):
            if pod["metadata"]["labels"].get("federation.inference/workload") == name:
                self.api.remove("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])

    async def stop(self) -> None:
        """All engines at once, as if the power failed."""
        for engine in self.engines.values():
            await engine.stop()

    async def restart(self) -> None:
        """Kubernetes starts what it was asked for again."""
        for engine in list(self.engines.values()):
            await engine.start()
        for kind in KINDS:
            for obj in self.all(kind):
                await self._load(obj)

    # ------------------------------------------------------------ one workload

    async def _roll_out(self, name: str, obj: Obj) -> None:
        self.rollouts.append(name)
        self._remove_pods(name)
        told = told_version(obj)
        assert told is not None
        trouble = self.troubles.get(told[0], "")
        ray = obj["kind"] == "RayService"
        template = (
            obj["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]
            if ray
            else obj["spec"]["template"]
        )
        words = self._application_words(obj, template) if ray else self._model_words(obj, template)
        replicas = _workers(obj) if ray else obj["spec"]["replicas"]
        good = not words and not trouble
        if good:
            self.engines.setdefault(name, FakeEngine())
            if not self.engines[name].running:
                await self.engines[name].start()
            await self._load(obj)
        if trouble != "quota":
            for _ in range(replicas):
                self._make_pod(name, template, trouble or ("" if ray else words), good=good)
        status = (
            _ray_status(obj, trouble or words, replicas)
            if ray
            else _status(obj, replicas, trouble, good)
        )
        if ray and good:
            self._make_serve_service(name, obj)
        self.api.put({**obj, "status": status})

    async def _load(self, obj: Obj) -> None:
        told = told_version(obj)
        assert told is not None
        model, version, digest, protocol = told
        loaded = LoadedVersion(
            model=model, version=version, digest=digest, protocol=ModelProtocol(protocol)
        )
        await self.engines[obj["metadata"]["name"]].load(loaded)

    def _mounted(self, template: Obj, path: str) -> Path:
        spec = template["spec"]
        (container,) = spec["containers"]
        (mount,) = (m for m in container["volumeMounts"] if m["mountPath"] == path)
        (volume,) = (v for v in spec["volumes"] if v["name"] == mount["name"])
        assert volume["persistentVolumeClaim"]["claimName"] == self.claim
        return self.volume / str(mount["subPath"])

    def _model_words(self, obj: Obj, template: Obj) -> str:
        """The last words of a Triton that finds this in its repository; "" if it likes it."""
        args = template["spec"]["containers"][0]["args"]
        (repository,) = (a.partition("=")[2] for a in args if a.startswith("--model-repository="))
        folder = self._mounted(template, repository)
        models = (
            [p for p in folder.iterdir() if not p.name.startswith(".")] if folder.exists() else []
        )
        if len(models) != 1 or not (models[0] / "config.pbtxt").is_file():
            return f"error: no models in {folder}"
        if any(BROKEN in path.read_text() for path in models[0].rglob("model.py")):
            return TRITON_LOG.format(model=models[0].name, words=f"RuntimeError: {BROKEN}")
        return ""

    def _application_words(self, obj: Obj, template: Obj) -> str:
        (application,) = json.loads(obj["spec"]["serveConfigV2"])["applications"]
        uri = application["runtime_env"]["working_dir"].removeprefix("file://")
        path = self._mounted(template, str(Path(uri).parent)) / Path(uri).name
        if not path.exists():
            return f"FileNotFoundError: {uri}"
        with zipfile.ZipFile(path) as archive:
            code = [archive.read(n).decode() for n in archive.namelist() if n.endswith("model.py")]
        return f"RuntimeError: {BROKEN}" if any(BROKEN in text for text in code) else ""

    def _make_pod(self, name: str, template: Obj, trouble: str, *, good: bool) -> None:
        number = next(self._numbers)
        address = f"10.0.0.{number}"
        self._addresses[address] = name
        container = template["spec"]["containers"][0]["name"]
        state: Obj = {"name": container, "ready": good, "restartCount": 0, "state": {"running": {}}}
        scheduled: Obj = {"type": "PodScheduled", "status": "True"}
        match trouble:
            case "" | "deadline" | "stuck":
                pass
            case "ImagePullBackOff":
                text = 'Back-off pulling image "example.com/triton:1": not found'
                state["state"] = {"waiting": {"reason": trouble, "message": text}}
            case "Unschedulable":
                text = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
                scheduled |= {"status": "False", "reason": trouble, "message": text}
            case _:
                ended = {"exitCode": 1, "reason": "Error", "message": trouble}
                waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
                state |= {"restartCount": 2, "state": {"waiting": waiting}}
                state["lastState"] = {"terminated": ended}
        status: Obj = {
            "phase": "Running" if good else "Pending",
            "podIP": address,
            "conditions": [scheduled, {"type": "Ready", "status": str(good)}],
            "containerStatuses": [] if trouble == "Unschedulable" else [state],
        }
        meta = {"name": f"{name}-{number}", "namespace": "serving", **template["metadata"]}
        self.api.put(
            {
                "kind": "Pod",
                "metadata": meta,
                "spec": copy.deepcopy(template["spec"]),
                "status": status,
            }
        )

    def _make_serve_service(self, name: str, obj: Obj) -> None:
        meta = {"name": f"{name}-serve-svc", "namespace": obj["metadata"]["namespace"]}
        spec = {"selector": {"federation.inference/workload": name}, "ports": [{"port": 8000}]}
        self.api.put({"kind": "Service", "metadata": meta, "spec": spec})


def _status(obj: Obj, replicas: int, trouble: str, good: bool) -> Obj:
    conditions: list[Obj] = [
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}
    ]
    if trouble == "quota":
        text = 'pods "m" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1'
        conditions.append(
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": text}
        )
    if trouble == "deadline":
        conditions[0] |= {"status": "False", "reason": "ProgressDeadlineExceeded"}
        conditions[0]["message"] = 'ReplicaSet "m" has timed out progressing.'
    status: Obj = {"observedGeneration": obj["metadata"]["generation"], "conditions": conditions}
    if trouble != "quota":
        status |= {"replicas": replicas, "updatedReplicas": replicas}
    return status | ({"availableReplicas": replicas, "readyReplicas": replicas} if good else {})


def _workers(obj: Obj) -> int:
    """As many as Serve wants: Ray's autoscaler sees to it, and nobody else ever changes them."""
    assert obj["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] is True
    (application,) = json.loads(obj["spec"]["serveConfigV2"])["applications"]
    (deployment,) = application["deployments"]
    limits = deployment.get("autoscaling_config")
    return int(limits["min_replicas"] if limits else deployment["num_replicas"])


def _ray_status(obj: Obj, words: str, workers: int) -> Obj:
    (application,) = json.loads(obj["spec"]["serveConfigV2"])["applications"]
    going = words in ("Unschedulable", "stuck", "ImagePullBackOff")
    state = "DEPLOYING" if going else "DEPLOY_FAILED" if words else "RUNNING"
    statuses = {application["name"]: {"status": state, "message": "" if going else words}}
    which = "pending" if words else "active"
    ready = {"type": "Ready", "status": str(not words), "reason": "NonZeroServeEndpoints"}
    if words:
        ready["reason"] = "Initializing"
    return {
        "observedGeneration": obj["metadata"]["generation"],
        "conditions": [ready, {"type": "UpgradeInProgress", "status": "False"}],
        f"{which}ServiceStatus": {
            "applicationStatuses": statuses,
            "rayClusterStatus": {"availableWorkerReplicas": 0 if words else workers},
        },
    }


@asynccontextmanager
async def fake_nodes(api: FakeKubeApi, volume: Path) -> AsyncIterator[FakeNodes]:
    """Run it beside an API server that has the namespace "serving"."""
    api.put({"kind": "Namespace", "metadata": {"name": "serving"}, "status": {"phase": "Active"}})
    nodes = FakeNodes(api, volume)
    task = asyncio.get_running_loop().create_task(nodes.run())
    try:
        yield nodes
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        for engine in nodes.engines.values():
            await engine.stop()
