"""A model of bf16 weights, and its fine-tunes: packages for the tests of weight deltas."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.federation.cli.test_packages import MODEL_YAML

TENSORS = 3
Weights = npt.NDArray[np.float32]


def weights(numbers: int = 400_000, seed: int = 1) -> Weights:
    """Return the weights of a base model."""
    return np.random.default_rng(seed).standard_normal(numbers, dtype=np.float32) * np.float32(0.02)


def tuned(base: Weights, seed: int, noise: float = 1e-3) -> Weights:
    """Return the weights after a full fine-tune: all of them have moved a little."""
    moved = np.random.default_rng(seed).standard_normal(base.size, dtype=np.float32)
    return base + moved * np.float32(0.02 * noise)


def write(folder: Path, values: Weights) -> Path:
    """Write a package: three tensors of equal size in one file, and a small text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text(MODEL_YAML)
    (folder / "model.onnx").write_bytes(b"not looked at")
    data = (values.view("<u4") >> 16).astype("<u2").tobytes()
    step = len(data) // TENSORS // 2 * 2
    ends = [step * n for n in range(TENSORS)] + [len(data)]
    header = {
        f"t{n}": {
            "dtype": "BF16",
            "shape": [(ends[n + 1] - ends[n]) // 2],
            "data_offsets": [ends[n], ends[n + 1]],
        }
        for n in range(TENSORS)
    }
    head = json.dumps(header).encode()
    (folder / "weights.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
    return folder
