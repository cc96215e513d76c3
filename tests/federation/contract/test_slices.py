from collections.abc import Generator

import pytest

from federation.contract.slices import finish


def work(count: int) -> Generator[None, None, int]:
    for _ in range(count):
        yield
    if count > 5:
        raise ValueError("too much")
    return count


def test_all_of_it_is_done_at_once() -> None:
    assert (finish(work(0)), finish(work(3))) == (0, 3)
    with pytest.raises(ValueError, match="too much"):
        finish(work(6))
