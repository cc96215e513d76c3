"""Which files may be in a package, and which of them are code.

Input: the paths of a package's files, and its model.yaml. Output: whether loading it may run code
of the owner, or Invalid with what may be in a package. Standard library only; nothing is opened: a
file is what its name says, and an engine that is given another content refuses it.

Pickles are code: to load one is to run what its author wrote (see Python's manual of `pickle`). So
are archives that hold pickles (PyTorch's .pt, .pth, .bin; joblib; NumPy's object arrays), and
graphs with operations that reach the file system (TensorFlow's SavedModel, Keras' Lambda layers).
"""

from collections.abc import Iterable
from enum import StrEnum

from federation.contract.errors import Invalid
from federation.contract.names import did_you_mean
from federation.contract.package import ModelPackage


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DATA_SUFFIXES = _words(
    # weights and graphs
    "onnx onnx_data data ort safetensors gguf ggml tflite plan engine trt msgpack "
    # tokenizers, configurations, words for people
    "json jsonl yaml yml toml ini cfg xml pbtxt prototxt proto txt md rst csv tsv html pdf "
    "license sha256 index model vocab merges bpe spm tiktoken tokenizer jinja template "
    "png jpg jpeg webp svg gif wav gitattributes gitignore"
)
CODE_SUFFIXES = _words(
    "py pyc pyx pyi ipynb so dll dylib sh bat js wasm lua jar exe c cc cpp h hpp cu cuh cubin ptx "
    "rs go o a whl zip tar gz tgz xz bz2 zst mar "
    # pickles, and what may hold them
    "pkl pickle pt pth pt2 bin ckpt joblib dill npy npz "
    # graphs that are programs
    "pb h5 hdf5 keras torchscript mlmodel"
)
PLAIN_NAMES = _words("license licence notice readme copying version vocab")


class Nature(StrEnum):
    """What a file is, by its name."""

    DATA = "data"  # to load it runs nothing
    CODE = "code"  # code, a pickle, or an archive that may hold either
    UNKNOWN = "unknown"


def format_of(path: str) -> str:
    """Return the format in lower case, without a dot: the last suffix, or the whole name."""
    name = path.rpartition("/")[2].lower()
    return name.rpartition(".")[2]


def nature_of(path: str) -> Nature:
    """Return what a file is, by its name."""
    suffix = format_of(path)
    has_suffix = "." in path.rpartition("/")[2]
    if suffix in CODE_SUFFIXES and has_suffix:
        return Nature.CODE
    if (suffix in DATA_SUFFIXES and has_suffix) or suffix.startswith("onnx_data"):
        return Nature.DATA
    return Nature.DATA if suffix in PLAIN_NAMES and not has_suffix else Nature.UNKNOWN


def carries_code(paths: Iterable[str], package: ModelPackage) -> bool:
    """Return whether loading the package may run code that its owner wrote.

    Code where the runtime needs none, and formats that we do not know, are allowed only if the
    owner declared them in `formats`, and then count as code. Raises Invalid for what was not.
    """
    found = package.carries_code
    declared = frozenset(package.formats)
    for path in paths:
        nature = nature_of(path)
        if nature is Nature.DATA or (nature is Nature.CODE and package.carries_code):
            continue
        if format_of(path) not in declared:
            raise _undeclared(path, nature)
        found = True
    return found


def _undeclared(path: str, nature: Nature) -> Invalid:
    suffix = format_of(path)
    if nature is Nature.CODE:
        return Invalid(
            f"{path!r} is code or a pickle, and the package declares none.",
            hint="Convert it to safetensors or ONNX, leave it out, or declare it in model.yaml: "
            f"`formats: [{suffix}]`; then only clusters that allow code load it.",
            reason="format",
        )
    near = did_you_mean(suffix, DATA_SUFFIXES)
    shown = near if near.startswith("Did") else f"Known ones: {', '.join(sorted(DATA_SUFFIXES))}."
    return Invalid(
        f"{path!r} is of a format that is not known to be data.",
        hint=f"{shown} Or declare it in model.yaml: `formats: [{suffix}]`; then only clusters that "
        "allow code load it.",
        reason="format",
    )
