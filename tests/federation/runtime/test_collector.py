import gc
from collections.abc import Iterator

import pytest

from federation.runtime.collector import collect_rarely


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_old_objects_are_visited_rarely_and_young_cycles_still_go() -> None:
    before = gc.get_threshold()
    collect_rarely()
    assert gc.get_freeze_count() > 0
    assert all(new > old for new, old in zip(gc.get_threshold(), before, strict=True))
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect(0) >= 1
