"""The character model with a fault, for rollouts that must not succeed.

Input: the parameters of the sound model, and `fault`: what is wrong with this one. Output: the same
as of the sound model, except for the fault.
"""

import importlib.util
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SHARE = 0.05  # of the requests that fail with the fault "errors"


def _beside(name: str) -> Any:
    """Import a file that lies beside this one; engines have modules of their own of that name."""
    spec = importlib.util.spec_from_file_location(
        f"sound_{name}", Path(__file__).parent / f"{name}.py"
    )
    assert spec is not None  # noqa: S101  # it is a Python file
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Model(_beside("model").Model):  # type: ignore[misc]  # known when it runs
    """A character model that is slow to be found out."""

    def __init__(self, directory: str, parameters: dict[str, object]) -> None:
        self._fault = str(parameters["fault"])
        if self._fault == "load":
            raise RuntimeError("the weights are of another architecture")
        super().__init__(directory, parameters)
        self._dice = random.Random(Path(directory).name)  # noqa: S311  # which requests fail

    def generate(
        self, prompt: str, *, max_tokens: int, temperature: float, seed: int | None
    ) -> Iterator[str]:
        """Yield characters, or what the fault makes of them."""
        if self._fault == "crash":
            os.kill(os.getppid(), signal.SIGKILL)  # the engine: a bug in native code does the same
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "errors" and self._dice.random() < _SHARE:
            raise RuntimeError("out of memory")
        pieces: Iterator[str] = super().generate(
            prompt, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        if self._fault == "wrong":
            return (piece.swapcase() for piece in pieces)
        return pieces
