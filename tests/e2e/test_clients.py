"""Clients that know nothing of the federation, against a running demo."""

import json
import os
import struct
import subprocess
import sys
import time
import urllib.request
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

from federation.demo.filetype import SPECS, filetype_features
from federation.demo.payloads import sample_files
from tests.e2e.conftest import RunningDemo

pytestmark = [pytest.mark.e2e, pytest.mark.triton, pytest.mark.ray, pytest.mark.timeout(420)]

_SCRIPTS = files("federation.demo") / "data" / "clients"
_FILES = 500
_BATCH = 25
_PACK = {"FP32": "f", "INT32": "i"}


@pytest.mark.parametrize("router", [0, 1])
def test_tritonclient_unchanged(running_demo: RunningDemo, router: int) -> None:
    target = running_demo.routers[router].removeprefix("http://")
    _run_script("use_tritonclient.py", target, running_demo.key)


@pytest.mark.parametrize("router", [0, 1])
def test_triton_grpc_unchanged(running_demo: RunningDemo, router: int) -> None:
    target = running_demo.routers[router].removeprefix("http://")
    _run_script("use_triton_grpc.py", target, running_demo.key)


@pytest.mark.parametrize("router", [0, 1])
def test_openai_unchanged(running_demo: RunningDemo, router: int) -> None:
    _run_script("use_openai.py", running_demo.routers[router] + "/v1", running_demo.key)


def _run_script(name: str, target: str, key: str) -> None:
    done = subprocess.run(
        [sys.executable, str(_SCRIPTS / name), target],
        env={**os.environ, "FED_KEY": key, "OPENAI_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", [1, 2])
def test_both_engines_and_the_router_give_the_same_labels(
    running_demo: RunningDemo, version: int
) -> None:
    """On 500 real files, the gateways asked directly, and a router in between."""
    spec = SPECS[version]
    rows = [filetype_features(path.read_bytes(), spec) for path in sample_files(_FILES)]
    assert len(rows) == _FILES
    bases = [running_demo.site(kind)["gateway"] for kind in ("triton", "ray-serve")]
    bases.append(running_demo.routers[0])
    labels: list[list[int]] = [[] for _ in bases]
    for start in range(0, _FILES, _BATCH):
        batch = rows[start : start + _BATCH]
        for found, base in zip(labels, bases, strict=True):
            found += _labels(running_demo, base, version, batch)
    assert len(set(labels[0])) > 3  # not one answer for everything
    assert labels[0] == labels[1] == labels[2]


def _labels(demo: RunningDemo, base: str, version: int, rows: list[list[int]]) -> list[int]:
    spec = SPECS[version]
    raw = b"".join(struct.pack(f"<{spec.length}{_PACK[spec.datatype]}", *row) for row in rows)
    tensor = {"name": "bytes", "datatype": spec.datatype, "shape": [len(rows), spec.length]}
    document = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}],
        "outputs": [{"name": "target_label", "parameters": {"binary_data": True}}],
    }
    head = json.dumps(document).encode()
    request = urllib.request.Request(
        f"{base}/v2/models/filetype/versions/{version}/infer",
        head + raw,
        {
            "Inference-Header-Content-Length": str(len(head)),
            "authorization": f"Bearer {demo.key}",
        },
    )
    tls = demo.router_tls() if base.startswith("https") else None
    with urllib.request.urlopen(request, timeout=30, context=tls) as answer:
        body = answer.read()
        length = int(answer.headers["Inference-Header-Content-Length"])
    scores = np.frombuffer(body[length:], "<f4").reshape(len(rows), -1)
    return [int(label) for label in scores.argmax(axis=1)]


_SCRIBE_YAML = """\
name: scribe
runtime: python
protocol: text
warmup: {{prompt: warm}}
parameters: {{log: {log}}}
"""
_SCRIBE_PY = """\
import time


class Model:
    def __init__(self, directory, parameters):
        self.log = parameters["log"]

    def generate(self, prompt, *, max_tokens, temperature, seed):
        for _ in range(max_tokens):
            time.sleep(0.1)
            if prompt != "warm":
                with open(f"{self.log}/{prompt}", "a") as file:
                    file.write("x")
            yield "x"
"""


@pytest.fixture(scope="module")
def scribe(running_demo: RunningDemo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model that writes down each token it makes; returns where."""
    package, log = tmp_path_factory.mktemp("scribe"), tmp_path_factory.mktemp("log")
    (package / "model.yaml").write_text(_SCRIBE_YAML.format(log=log))
    (package / "model.py").write_text(_SCRIBE_PY)
    _push_and_deploy(running_demo, package, "scribe")
    return log


@pytest.mark.parametrize("way", ["router", "triton", "ray-serve"])
def test_closing_a_stream_stops_the_generation_at_the_engine(
    running_demo: RunningDemo, scribe: Path, way: str
) -> None:
    base = running_demo.routers[0] if way == "router" else running_demo.site(way)["gateway"]
    body = {"model": "scribe", "prompt": way, "max_tokens": 600, "stream": True}
    headers = {
        "authorization": f"Bearer {running_demo.key}",
        "content-type": "application/json",
        "x-fed-model": "scribe",
        "x-fed-version": "1",
    }
    request = urllib.request.Request(f"{base}/v1/completions", json.dumps(body).encode(), headers)
    tls = running_demo.router_tls() if base.startswith("https") else None
    with urllib.request.urlopen(request, timeout=30, context=tls) as stream:
        pieces = 0
        while pieces < 5:
            pieces += stream.readline().startswith(b"data:")
        made = len((scribe / way).read_text())
        assert made < 10  # the first pieces came before the last were made
    time.sleep(1.5)  # fifteen tokens, were it to go on
    assert len((scribe / way).read_text()) <= made + 3


_ECHO_YAML = """\
name: echo
runtime: python
inputs:
  - {name: text, datatype: BYTES, shape: [-1]}
  - {name: number, datatype: FP32, shape: [-1]}
outputs:
  - {name: text, datatype: BYTES, shape: [-1]}
  - {name: number, datatype: FP32, shape: [-1]}
warmup:
  text: [warm]
  number: [1.5]
"""
_ECHO_PY = """\
class Model:
    def __init__(self, directory, parameters):
        pass

    def infer(self, inputs):
        return {"text": inputs["text"], "number": inputs["number"] * 2}
"""


def _push_and_deploy(running_demo: RunningDemo, package: Path, model: str) -> None:
    pushed = running_demo.fed("model", "push", str(package))
    assert pushed.returncode == 0, pushed.stderr
    deployed = running_demo.fed("deploy", model, "--wait", "--timeout", "90s")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr


def test_a_model_owner_pushes_and_deploys_and_bytes_come_back(
    running_demo: RunningDemo, tmp_path: Path
) -> None:
    (tmp_path / "model.yaml").write_text(_ECHO_YAML)
    (tmp_path / "model.py").write_text(_ECHO_PY)
    _push_and_deploy(running_demo, tmp_path, "echo")
    words = np.array([b"\x00\xff plain", "Zürich".encode()], dtype=object)
    numbers = np.array([0.1, -1e38], np.float32)
    for router in running_demo.routers:
        client = triton.InferenceServerClient(router.removeprefix("http://"))
        for binary in (True, False):
            text = triton.InferInput("text", [2], "BYTES")
            # JSON has no way to write bytes that are not UTF-8.
            given = words if binary else np.array([b"plain", words[1]], dtype=object)
            text.set_data_from_numpy(given, binary_data=binary)
            number = triton.InferInput("number", [2], "FP32")
            number.set_data_from_numpy(numbers, binary_data=binary)
            answer = client.infer(
                "echo",
                [text, number],
                outputs=[
                    triton.InferRequestedOutput(name, binary_data=binary)
                    for name in ("text", "number")
                ],
                headers={"authorization": f"Bearer {running_demo.key}"},
            )
            echoed = [w if isinstance(w, bytes) else w.encode() for w in answer.as_numpy("text")]
            assert echoed == list(given)
            assert np.array_equal(answer.as_numpy("number"), numbers * 2)
        client.close()


def test_fed_shows_and_explains_the_demo(running_demo: RunningDemo) -> None:
    shown = running_demo.fed("get", "clusters", "-o", "json")
    assert shown.returncode == 0, shown.stderr
    items = json.loads(shown.stdout)["items"]
    assert {item["metadata"]["name"]: item["status"]["ready"] for item in items} == {
        site["name"]: True for site in running_demo.state["sites"]
    }
    explained = running_demo.fed("route", "explain", "--model", "shakespeare", "--from", "1.0.0.1")
    assert explained.returncode == 0, explained.stderr
    assert "router-eu" in explained.stdout
    assert running_demo.fed("demo", "status").returncode == 0


def test_a_second_demo_is_refused_with_the_remedy(running_demo: RunningDemo) -> None:
    second = running_demo.fed("demo")
    assert second.returncode == 5
    assert "a demo is running already" in second.stderr
    assert "fed demo down" in second.stderr
