"""The evidence of one report: an e-value against a line in the plane of two shares.

Input: requests and bad requests of both versions in one interval, and a guess about the canary.
Output: the logarithm of a number whose expectation is at most 1 while the canary is on the
harmless side (or, for a guess on that side, while it is on the other), whatever the shares are and
however they move from report to report. So products of them may be looked at whenever one likes:
Ville's inequality bounds the chance that they ever exceed 1/alpha by alpha.

Why it is fair: an outcome in [0, 1] with mean q has E[r^X] <= 1 + q (r - 1) <= exp(q (r - 1)).
Hence E[e] <= exp(nc (qc - p0c) (rc - 1) + ns (qs - p0s) (rs - 1)), with the ratios r = p1 / p0. The
point p0 on the line is where that exponent does not change along the line, and it is 0 there;
inside the null it only falls. The idea is that of safe tests by projection (Turner, Gruenwald).
"""

import math


def border(
    nc: float, ns: float, guess: tuple[float, float], line: tuple[float, float]
) -> tuple[float, float]:
    """Return the point of the line that is hardest to tell from a guess.

    Points are (share of bad requests of the canary, of the stable); the line is (slope, slack):
    canary = slope * stable + slack.
    """
    p1c, p1s = guess
    slope, slack = line
    if slope == 0:
        return slack, p1s
    a = slope * (nc * slope + ns)
    b = nc * slope * (slack - p1c) + ns * (slack - slope * p1s)
    x = (math.sqrt(b * b + 4 * a * ns * p1s * slack) - b) / (2 * a)
    return slope * x + slack, x


def log_e(
    counts: tuple[float, float, float, float],
    guess: tuple[float, float],
    line: tuple[float, float],
) -> float:
    """Return the logarithm of the e-value of one report.

    `counts` are (canary requests, bad ones, stable requests, bad ones). Without canary requests, or
    with nothing to compare them with, a report says nothing: 0.
    """
    nc, kc, ns, ks = counts
    if not nc or (not ns and line[0] > 0):
        return 0.0
    p0c, p0s = border(nc, ns, guess, line)
    p1c, p1s = guess
    change = kc * math.log(p1c / p0c) if kc else 0.0
    if ks:
        change += ks * math.log(p1s / p0s)
    return change - nc * (p1c - p0c) - ns * (p1s - p0s)


def log_sum(logs: list[float]) -> float:
    """Return the logarithm of a sum of numbers given by their logarithms; -inf of none."""
    top = max(logs, default=-math.inf)
    if top == -math.inf:
        return top
    return top + math.log(sum(math.exp(x - top) for x in logs))


def log_mean(logs: list[float]) -> float:
    """Return the logarithm of a mean of numbers given by their logarithms."""
    return log_sum(logs) - math.log(len(logs))
