"""Files of a model version as Triton reads them: folders and config.pbtxt.

Input: a StagedVersion. Output: `<repository>/<model>--v<version>/`, whole or absent: written beside
and renamed in. The numeric folder inside is our version, so Triton's answers carry it.
"""

import shutil
import tempfile
from pathlib import Path

from edge_agent.backends.base import BackendError, StagedVersion, engine_name
from edge_agent.backends.bundle import served_package, write_bundle
from edge_agent.backends.pbtxt import quoted, without_fields
from edge_agent.serving.package import ServedPackage
from edge_agent.serving.v2_terms import Tensor
from federation.contract.types import ModelProtocol, Runtime

DIGEST_KEY = "fed-digest"
PROTOCOL_KEY = "fed-protocol"
REPLICAS_KEY = "fed-replicas"
LARGEST_BATCH = 64
LONGEST_QUEUE = 256  # per model; beyond it Triton refuses at once, and the router tries elsewhere
_TEMPORARY = ".fed-staging-"
_MODEL_FILE = '''\
"""Entry point for Triton's Python backend."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from edge_agent.serving.triton_model import TritonPythonModel  # noqa: E402, F401
'''
_TEXT_INPUTS = """\
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "max_tokens" data_type: TYPE_INT32 dims: [ 1 ] optional: true },
  { name: "temperature" data_type: TYPE_FP32 dims: [ 1 ] optional: true },
  { name: "seed" data_type: TYPE_INT64 dims: [ 1 ] optional: true },
  { name: "stop" data_type: TYPE_STRING dims: [ -1 ] optional: true }
]
output [
  { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "prompt_tokens" data_type: TYPE_INT32 dims: [ 1 ] }
]
model_transaction_policy { decoupled: true }
"""


def write_model(repository: Path, staged: StagedVersion) -> None:
    """Put a version into the repository, in place of what had its name; raises BackendError."""
    name = engine_name(staged.model, staged.version)
    try:
        with tempfile.TemporaryDirectory(dir=repository, prefix=_TEMPORARY) as folder:
            fresh = Path(folder) / name
            if staged.package.runtime is Runtime.TRITON:
                _adopt(fresh, staged)
            else:
                home = fresh / str(staged.version)
                home.mkdir(parents=True)
                write_bundle(home, staged, package_folder="package")
                (home / "model.py").write_text(_MODEL_FILE, encoding="utf-8")
                _write_config(fresh, make_config(staged))
            remove_model(repository, name)
            fresh.rename(repository / name)
    except OSError as error:
        raise BackendError(f"cannot write Triton's repository {repository}: {error}") from None


def remove_model(repository: Path, name: str) -> None:
    """Remove a model's folder, if it is there."""
    shutil.rmtree(repository / name, ignore_errors=True)


def sweep(repository: Path) -> None:
    """Remove what a crash in the middle of a write left behind."""
    for folder in repository.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(folder, ignore_errors=True)


def make_config(staged: StagedVersion) -> str:
    """Return config.pbtxt for a package that the serving app runs."""
    package = served_package(staged)
    lines = ['backend: "python"']
    if staged.package.protocol is ModelProtocol.TEXT:
        lines += ["max_batch_size: 0", _TEXT_INPUTS]
    else:
        lines += [_tensors(package)]
    kind = "KIND_GPU" if package.gpus else "KIND_CPU"
    lines += [f"instance_group [ {{ kind: {kind} count: {max(staged.replicas, 1)} }} ]"]
    return "\n".join([*lines, _ours(staged)])


def _tensors(package: ServedPackage) -> str:
    batched = package.batchable
    queue = f"default_queue_policy {{ max_queue_size: {LONGEST_QUEUE} }}"
    lines = [f"max_batch_size: {LARGEST_BATCH if batched else 0}"]
    for kind, tensors in (("input", package.inputs), ("output", package.outputs)):
        entries = ",\n".join(f"  {_tensor(tensor, batched=batched)}" for tensor in tensors)
        lines.append(f"{kind} [\n{entries}\n]")
    return "\n".join([*lines, f"dynamic_batching {{ {queue} }}"] if batched else lines)


def _tensor(tensor: Tensor, *, batched: bool) -> str:
    datatype = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    shape = tensor.shape[1:] if batched else tensor.shape
    head = f"name: {quoted(tensor.name)} data_type: TYPE_{datatype}"
    if not shape:  # a scalar: Triton wants at least one dimension
        return f"{{ {head} dims: [ 1 ] reshape {{ shape: [ ] }} }}"
    return f"{{ {head} dims: [ {', '.join(map(str, shape))} ] }}"


def _adopt(target: Path, staged: StagedVersion) -> None:
    """Take an existing Triton model folder as it is; its newest version becomes ours."""
    source = staged.directory
    numbers = [int(p.name) for p in source.iterdir() if p.is_dir() and p.name.isdigit()]
    if not numbers:
        raise BackendError("the package has no numeric version folder for Triton")
    newest = str(max(numbers))
    left_out = {"model.yaml", *(str(number) for number in numbers)} - {newest}

    def ignored(folder: str, names: list[str]) -> set[str]:
        return (left_out if Path(folder) == source else {"__pycache__"}) & set(names)

    shutil.copytree(source, target, ignore=ignored)
    (target / newest).rename(target / str(staged.version))
    config = target / "config.pbtxt"
    text = config.read_text(encoding="utf-8") if config.exists() else ""
    _write_config(target, f"{without_fields(text, ('name', 'version_policy'))}\n{_ours(staged)}")


def _ours(staged: StagedVersion) -> str:
    entries = {
        DIGEST_KEY: staged.digest,
        PROTOCOL_KEY: staged.package.protocol.value,
        REPLICAS_KEY: str(max(staged.replicas, 1)),
    }
    lines = [f"version_policy {{ specific {{ versions: [ {staged.version} ] }} }}"]
    lines += [
        f"parameters {{ key: {quoted(key)} value {{ string_value: {quoted(value)} }} }}"
        for key, value in entries.items()
    ]
    return "\n".join([*lines, ""])


def _write_config(model: Path, text: str) -> None:
    path = model / "config.pbtxt"
    path.write_text(f"name: {quoted(model.name)}\n{text}", encoding="utf-8")
