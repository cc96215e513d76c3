from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.contract.errors import Exhausted
from router.policy.admission import Admission


def test_places_are_given_back_also_after_an_error() -> None:
    admission = Admission(2)
    with admission.place():
        with pytest.raises(KeyError), admission.place():
            raise KeyError
        assert admission.in_flight == 1
        with admission.place(), pytest.raises(Exhausted, match="works on 2"), admission.place():
            pass
    assert repr(admission) == "Admission(0/2)"


def test_memory_for_bodies_is_shared_and_given_back_with_the_place() -> None:
    admission = Admission(3, memory_bytes=100)
    with admission.place() as first, pytest.raises(KeyError), admission.place() as second:
        assert first.keep(60)
        assert not second.keep(41)
        assert second.keep(40)
        assert not first.keep(1)
        assert admission.kept_bytes == 100
        raise KeyError
    assert admission.kept_bytes == 0


@given(
    st.lists(st.lists(st.integers(0, 50), max_size=5), max_size=8), st.integers(0, 200), st.data()
)
def test_memory_never_leaks_nor_exceeds_its_ceiling(
    wishes: list[list[int]], ceiling: int, data: st.DataObject
) -> None:
    admission = Admission(100, memory_bytes=ceiling)
    held: list[ExitStack] = []
    for sizes in wishes:
        stack = ExitStack()
        place = stack.enter_context(admission.place())
        granted = sum(size for size in sizes if place.keep(size))
        assert place.kept_bytes == granted
        assert admission.kept_bytes <= ceiling
        held.append(stack)
        if data.draw(st.booleans()):
            held.pop(data.draw(st.integers(0, len(held) - 1))).close()
    for stack in held:
        stack.close()
    assert (admission.in_flight, admission.kept_bytes) == (0, 0)
