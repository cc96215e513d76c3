"""A character-level language model: a one-layer GRU over 65 characters, in plain numpy.

Input: a prompt. Output: one character at a time, in the manner of Shakespeare. The weights lie
beside this file: `weights.npz` (Wx, Wh, b, Wo, bo; gates in the order r, z, n) and `vocab.json`.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


class Model:
    """Loaded once per replica; `generate` may run in several threads at once."""

    def __init__(self, directory: str, parameters: dict[str, object]) -> None:
        with np.load(Path(directory) / "weights.npz") as arrays:
            weights = {name: arrays[name].astype(np.float32) for name in arrays.files}
        self._of_input, self._of_state = weights["Wx"], weights["Wh"]
        self._bias = weights["b"]
        self._out, self._out_bias = weights["Wo"], weights["bo"]
        text = (Path(directory) / "vocab.json").read_text(encoding="utf-8")
        self._characters: list[str] = list(json.loads(text)["vocab"])
        self._index = {character: i for i, character in enumerate(self._characters)}
        # The model is far faster than anyone reads: it is slowed down, so that streams can be seen.
        rate = float(str(parameters.get("characters_per_second", 0)))
        self._pause_s = 1 / rate if rate > 0 else 0.0

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text: here, its characters."""
        return len(text)

    def generate(
        self, prompt: str, *, max_tokens: int, temperature: float, seed: int | None
    ) -> Iterator[str]:
        """Yield characters that continue the prompt; the same seed gives the same text."""
        dice = np.random.default_rng(seed)
        state = np.zeros(self._of_state.shape[0], np.float32)
        blank = self._index[" "]
        for character in prompt or "\n":
            state = self._step(state, self._index.get(character, blank))
        for _ in range(max_tokens):
            if self._pause_s:
                time.sleep(self._pause_s)
            chosen = _draw(state @ self._out + self._out_bias, temperature, float(dice.random()))
            yield self._characters[chosen]
            state = self._step(state, chosen)

    def _step(self, state: Vector, character: int) -> Vector:
        units = len(state)
        given = self._of_input[character] + self._bias
        kept = state @ self._of_state
        gates = 1 / (1 + np.exp(-(given[: 2 * units] + kept[: 2 * units])))
        reset, update = gates[:units], gates[units:]
        fresh = np.tanh(given[2 * units :] + reset * kept[2 * units :])
        mixed: Vector = (1 - update) * fresh + update * state
        return mixed


def _draw(scores: Vector, temperature: float, chance: float) -> int:
    if temperature <= 0:
        return int(scores.argmax())
    scaled = scores.astype(np.float64) / temperature
    odds = np.exp(scaled - scaled.max()).cumsum()
    return min(int(np.searchsorted(odds, chance * odds[-1])), len(odds) - 1)
