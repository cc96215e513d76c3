"""Whether Resources make sense: one set of rules for packages and for deployments.

Input: Resources as somebody wrote them. Output: what is wrong with them, in words.
"""

import math
import re
from collections.abc import Iterator

from federation.contract.capacity import Resources

MAX_GPUS = 1_024  # of one replica, on one node
MAX_MEMORY_MIB = 1 << 24  # 16 TiB
_CAPABILITY = re.compile(r"(\d{1,4})(?:\.(\d{1,4}))?")


def capability(text: str) -> tuple[int, int] | None:
    """Return a compute capability ("9.0") as numbers, so that 10.0 is above 9.0; None if it is
    none."""
    match = _CAPABILITY.fullmatch(text.strip())
    return (int(match[1]), int(match[2] or 0)) if match else None


def resource_problems(resources: Resources) -> Iterator[str]:
    """Yield what is wrong, each as a sentence."""
    if resources.gpus < 0 or resources.memory_mib < 0:
        yield "resources must not be negative."
    if resources.gpus > MAX_GPUS:
        yield f"resources.gpus is what one replica needs on one node: {MAX_GPUS} at most."
    if resources.memory_mib > MAX_MEMORY_MIB:
        yield f"resources.memory_mib is in MiB of one GPU: {MAX_MEMORY_MIB} at most."
    if not math.isfinite(resources.fraction) or not 0 <= resources.fraction < 1:
        yield "resources.fraction must be 0 (whole GPUs) or between 0 and 1, like 0.25."
    elif resources.fraction and resources.gpus != 1:
        yield "resources.fraction is a share of one GPU: write gpus: 1 with it."
    elif resources.fraction and resources.exclusive:
        yield "resources.fraction shares a GPU and resources.exclusive refuses to: keep one."
    wanted = resources.min_compute_capability
    if wanted and capability(wanted) is None:
        yield f"resources.min_compute_capability {wanted!r} is no version: write it like '9.0'."
