"""Does the canary get the share of requests that was ordered?

Input: the canary's requests and all requests, by user bucket, since the weight was set. Output: the
share it got, if that is surely not the weight. Clients stay with their version and some are busy,
so shares vary by bucket much more than by chance of single requests: the spread between buckets
tells how sure the mean is (Student's interval, 99.9 %).
"""

import math
from collections.abc import Sequence

MIN_BUCKETS = 8
MIN_EXPECTED = 200  # canary requests there should be
MATTERS = 0.3  # of the smaller of both weights; less is not worth a pause
_Z = 3.2905  # 99.9 %, two-sided, of the normal distribution


def student(degrees: int) -> float:
    """Return the 99.95 % point of Student's t for at least 7 degrees of freedom, to 1 %.

    Source: Abramowitz, Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z, v = _Z, degrees
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def mismatch(canary: Sequence[int], both: Sequence[int], weight: float) -> float | None:
    """Return the share that the canary got, if it is surely another than `weight`, a share."""
    if not 0 < weight < 1 or sum(both) * weight < MIN_EXPECTED:
        return None
    shares = [c / n for c, n in zip(canary, both, strict=True) if n]
    if len(shares) < MIN_BUCKETS:
        return None
    mean = sum(shares) / len(shares)
    square = sum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    error = student(len(shares) - 1) * math.sqrt(square / len(shares))
    off = abs(mean - weight)
    if off <= error or off <= MATTERS * min(weight, 1 - weight):
        return None
    return sum(canary) / sum(both)
