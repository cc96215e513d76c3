"""What was usual lately."""

from federation.contract.rollout import VersionCounts
from federation.policy.analysis.reference import ENOUGH, HALF_S, References
from federation.policy.analysis.rules import Reference


def _counts(requests: int, *, model: str = "m", errors: int = 0) -> VersionCounts:
    each = (requests // 32,) * 32
    return VersionCounts(
        model=model,
        version=1,
        region="r",
        requests=each,
        errors=(errors, *[0] * 31),
        latency={100: requests},
    )


def test_counters_of_all_routers_add_up_and_restarts_count_once() -> None:
    found = References()
    found.take(("a", "1"), 1, [_counts(320)], 0.0)
    found.take(("b", "1"), 1, [_counts(320, errors=2)], 0.0)
    found.take(("a", "1"), 2, [_counts(640)], 5.0)
    found.take(("a", "1"), 2, [_counts(6400)], 5.0)  # doubled
    found.take(("a", "1"), 1, [_counts(6400)], 5.0)  # late
    found.take(("a", "2"), 1, [_counts(32)], 9.0)
    now = found.of("m", 1, "r")
    assert now == Reference(requests=992, errors=2, latency={100: 992})
    assert found.of("m", 2, "r") == Reference()


def test_counters_that_fell_are_left_out() -> None:
    found = References()
    found.take(("a", "1"), 1, [_counts(320)], 0.0)
    found.take(("a", "1"), 2, [_counts(32)], 5.0)
    found.take(("a", "1"), 3, [_counts(64)], 9.0)
    assert found.of("m", 1, "r").requests == 352


def test_what_is_long_ago_fades_if_there_is_enough() -> None:
    found = References()
    found.take(("a", "1"), 1, [_counts(64)], 0.0)
    found.take(("a", "1"), 2, [_counts(128)], 10 * HALF_S)
    assert found.of("m", 1, "r").requests == 128  # few: nothing is forgotten
    found.take(("a", "1"), 3, [_counts(128 + 8 * ENOUGH)], 11 * HALF_S)
    found.take(("a", "1"), 4, [_counts(128 + 8 * ENOUGH + 32)], 12 * HALF_S)
    faded = found.of("m", 1, "r")
    assert faded.requests == (128 + 8 * ENOUGH) // 2 + 32
    assert faded.latency[100] == faded.requests


def test_what_is_gone_is_forgotten() -> None:
    found = References()
    found.take(("a", "1"), 1, [_counts(320), _counts(320, model="n")], 0.0)
    found.forget("m")
    assert found.of("m", 1, "r") == Reference()
    assert found.of("n", 1, "r").requests == 320
    found.drop_router("a")
    assert found.routers == {}
