"""The e-value is fair on the whole null, by enumeration."""

import math

import pytest

from federation.policy.analysis.evalue import border, log_e, log_mean, log_sum

LINES = ((1.25, 0.0005), (1.0, 0.0), (1.0, 0.05), (0.0, 0.01), (2.0, 0.01), (0.8, 0.1))
GUESSES = ((0.5, 0.05), (0.3, 0.1), (0.01, 0.2), (0.001, 0.05))


def _chances(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("line", LINES)
def test_no_pair_of_shares_in_the_null_makes_it_grow(line: tuple[float, float]) -> None:
    slope, slack = line
    for nc, ns in ((1, 5), (3, 8)):
        for guess in GUESSES:
            above = guess[0] > slope * guess[1] + slack
            values = [
                [math.exp(log_e((nc, i, ns, j), guess, line)) for j in range(ns + 1)]
                for i in range(nc + 1)
            ]
            for ps in (0.0, 0.01, 0.05, 0.2, 0.5, 0.9):
                limit = min(1.0, slope * ps + slack)
                for part in (0.0, 0.3, 0.7, 1.0):
                    pc = limit * part if above else limit + (1 - limit) * part
                    if not above and slope * ps + slack > 1:
                        continue
                    canary, stable = _chances(nc, pc), _chances(ns, ps)
                    mean = sum(
                        a * b * values[i][j]
                        for i, a in enumerate(canary)
                        for j, b in enumerate(stable)
                    )
                    assert mean <= 1 + 1e-9, (nc, ns, guess, pc, ps)


def test_the_border_point_is_on_the_line_and_the_exponent_is_flat_there() -> None:
    for line in LINES[:3] + LINES[4:]:
        pc, ps = border(30, 170, (0.3, 0.05), line)
        assert pc == pytest.approx(line[0] * ps + line[1])
        flat = 30 * line[0] * (0.3 / pc - 1) + 170 * (0.05 / ps - 1)
        assert flat == pytest.approx(0, abs=1e-9)


def test_without_canary_or_without_anything_to_compare_with_nothing_is_learnt() -> None:
    assert log_e((0, 0, 100, 5), (0.5, 0.05), (1.25, 0.0005)) == 0
    assert log_e((100, 50, 0, 0), (0.5, 0.05), (1.25, 0.0005)) == 0
    assert log_e((100, 50, 0, 0), (0.5, 0.05), (0.0, 0.01)) > 0  # an absolute limit needs none


def test_sums_and_means_of_logarithms_do_not_overflow() -> None:
    assert log_sum([1000.0, 1000.0]) == pytest.approx(1000 + math.log(2))
    assert log_mean([0.0, math.log(3)]) == pytest.approx(math.log(2))
    assert log_sum([]) == -math.inf
