"""How deep random tests go.

Input: FED_TEST_DEPTH, a factor (1 = as in every run). Output: numbers of examples.
"""

import os

_DEPTH = float(os.environ.get("FED_TEST_DEPTH", "1"))


def examples(usual: int) -> int:
    """Return how many examples to try where `usual` is enough for every run."""
    return max(1, round(usual * _DEPTH))
