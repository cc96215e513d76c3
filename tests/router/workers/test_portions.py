import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.workers.portions import EVEN, Portions


def test_the_part_follows_the_requests() -> None:
    portions = Portions(2)
    assert portions.of(0) == {}
    portions.note({0: {"acme": 0.0}, 1: {"acme": 0.0}})
    assert portions.of(0) == portions.of(1) == {"acme": 0.5}
    portions.note({0: {"acme": 100.0}, 1: {"acme": 0.0}})
    assert portions.of(0)["acme"] == pytest.approx(1 - EVEN / 2)
    assert portions.of(1)["acme"] == pytest.approx(EVEN / 2)
    for count in range(1, 12):  # it moves to the other one
        portions.note({0: {"acme": 100.0}, 1: {"acme": 100.0 * count}})
    assert portions.of(1)["acme"] > 0.9
    for _ in range(20):  # and is gone
        portions.note({0: {"acme": 100.0}, 1: {"acme": 1100.0}})
    assert portions.of(0) == {"acme": 0.5}
    portions.note({0: {}, 1: {}})
    assert portions.of(0) == {}


@given(
    st.lists(
        st.dictionaries(st.integers(0, 3), st.dictionaries(st.sampled_from("ab"), st.integers(0))),
        max_size=8,
    )
)
def test_the_parts_add_up_to_one_whatever_is_told(told: list[dict[int, dict[str, int]]]) -> None:
    portions = Portions(4)
    for asked in told:
        portions.note({w: {t: float(n) for t, n in those.items()} for w, those in asked.items()})
        parts = [portions.of(worker) for worker in range(4)]
        for tenant in parts[0]:
            assert sum(part[tenant] for part in parts) == pytest.approx(1.0, abs=1e-3)
            assert all(part[tenant] > 0.0 for part in parts)
