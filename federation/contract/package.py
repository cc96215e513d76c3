"""The model package: a directory with `model.yaml`, read strictly.

Input: the text of a model.yaml. Output: a ModelPackage, or Invalid that names line, key and remedy.
The CLI and the control plane check packages with it before a push; the agent reads it to load.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any

from federation.contract.capacity import Resources
from federation.contract.errors import Invalid
from federation.contract.names import check_model_name, did_you_mean
from federation.contract.requirements import resource_problems
from federation.contract.types import ModelProtocol, Runtime

PACKAGE_FILE = "model.yaml"
_FORMAT = re.compile(r"[a-z0-9_-]{1,32}")
_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
# Open Inference Protocol V2, section "Tensor Data Types".
_WIDTHS = ("8", "16", "32", "64")
DATATYPES = (
    "BOOL",
    "BYTES",
    *(f"{kind}{width}" for kind in ("UINT", "INT") for width in _WIDTHS),
    *(f"FP{width}" for width in _WIDTHS[1:]),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output. `shape` includes the batch dimension; -1 = any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs with known answers, in a `file` of the package (see `contract.golden`): asked at each
    cluster before a version gets traffic. `tolerance` is relative, below 1 absolute."""

    file: str
    tolerance: float = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPackage:
    """What model.yaml says.

    `file` is the ONNX file or Python module inside the package; `import_path` the Ray Serve
    application ("module:attribute"). `warmup` maps each input to flat sample data (absent = zeros);
    for a text model it is {"prompt": "..."}. `parameters` are handed to Python models. `formats`
    are suffixes of files that `contract.formats` would refuse otherwise, without a dot.
    """

    name: str
    runtime: Runtime
    protocol: ModelProtocol = ModelProtocol.TENSOR
    description: str = ""
    file: str = ""
    import_path: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    resources: Resources = field(default_factory=Resources)
    warmup: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    golden: Golden | None = None

    @property
    def carries_code(self) -> bool:
        """Whether its runtime runs code that the owner wrote."""
        return self.runtime is not Runtime.ONNX


_DEFAULT_FILE = {Runtime.ONNX: "model.onnx", Runtime.PYTHON: "model.py"}


def parse_package(text: str, *, source: str = PACKAGE_FILE) -> ModelPackage:
    """Parse the text of a model.yaml; raises Invalid with the line of the first mistake."""
    from federation.contract.strict_yaml import load_document  # PyYAML is slow to import

    package: ModelPackage = load_document(text, source=source).convert(ModelPackage)
    return _checked(package, source)


def _checked(package: ModelPackage, source: str) -> ModelPackage:
    check_model_name(package.name)
    problem = next(iter(_problems(package)), None)
    if problem:
        raise Invalid(f"{source}: {problem}")
    default = _DEFAULT_FILE.get(package.runtime)
    if default and not package.file:
        values = {f.name: getattr(package, f.name) for f in fields(package)}
        return ModelPackage(**{**values, "file": default})
    return package


def _problems(package: ModelPackage) -> Iterator[str]:
    if package.runtime is Runtime.UNKNOWN:
        known = ", ".join(r.value for r in Runtime if r is not Runtime.UNKNOWN)
        yield f"runtime is missing or unknown. Use one of {known}."
    if package.protocol is ModelProtocol.UNKNOWN:
        yield "protocol must be 'tensor' or 'text'."
    if package.file and not is_safe_path(package.file):
        yield f"file {package.file!r} must be a relative path inside the package."
    if package.runtime is Runtime.RAY_SERVE and not _IMPORT_PATH.fullmatch(package.import_path):
        yield "runtime ray-serve needs import_path, like 'my_app:app'."
    for suffix in package.formats:
        if not _FORMAT.fullmatch(suffix):
            yield f"formats: {suffix!r} is no suffix. Write it in lower case and without the dot."
    yield from resource_problems(package.resources)
    if package.golden:
        yield from _golden_problems(package.golden)
    needs_tensors = (
        package.runtime in (Runtime.ONNX, Runtime.PYTHON)
        and package.protocol is ModelProtocol.TENSOR
    )
    if needs_tensors and not (package.inputs and package.outputs):
        yield "inputs and outputs are needed: each with name, datatype and shape."
    for tensor in (*package.inputs, *package.outputs):
        yield from _tensor_problems(tensor)


def _golden_problems(golden: Golden) -> Iterator[str]:
    if not is_safe_path(golden.file):
        yield f"golden: file {golden.file!r} must be a relative path inside the package."
    if not 0 <= golden.tolerance <= 1:
        yield f"golden: tolerance must be 0 to 1, not {golden.tolerance:g}."


def _tensor_problems(tensor: TensorSpec) -> Iterator[str]:
    if tensor.datatype not in DATATYPES:
        near = did_you_mean(tensor.datatype, DATATYPES)
        yield f"tensor {tensor.name!r} has datatype {tensor.datatype!r}. {near}"
    if any(size < -1 or size == 0 for size in tensor.shape):
        yield f"tensor {tensor.name!r} has shape {list(tensor.shape)}: sizes are -1 or positive."


def is_safe_path(path: str) -> bool:
    """Return whether `path` names a file inside a package: relative, normal, no '..'."""
    if not path or path.startswith("/") or "\\" in path or "\x00" in path or len(path) > 512:
        return False
    pure = PurePosixPath(path)
    return path != "." and ".." not in pure.parts and str(pure) == path
